"""Compact traces: the same readings up to one rounding, at less than half the size, whatever happens on the way."""

import json
import os
import shutil

import numpy as np
import pytest
import torch

import spectral_edge as se
from spectral_edge.errors import SpectralEdgeWarning, TraceError
from spectral_edge.trace import compact, read_folder
from spectral_edge.trace import log as trace_log
from spectral_edge.trace.schema import VERSION, intact, seal, single_dtype


def record(folder, *, scale=lambda step: 1.0, steps=range(1, 31), weights=None, drift=0.1):
    weights = weights or {"first": torch.zeros(8, 5), "second": torch.zeros(30)}
    monitor = se.Monitor(weights, window=4, every=1, horizon=10, ladder=1, out=folder)
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for tensor in weights.values():
            tensor += scale(step) * (torch.randn(tensor.shape, generator=generator) + drift)
        monitor.step(loss=1 / step)
        monitor.log(accuracy=step / 30)
    return monitor


def rows(folder):
    return records(folder, "rows")


def records(folder, name):
    place = folder / "segment-000"
    packed = place / f"{name}.npz"
    return np.load(packed)["records"] if packed.exists() else np.load(place / f"{name}.npy")


def size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def trace(tmp_path):
    record(tmp_path / "trace").close()
    return tmp_path / "trace"


def test_readings_are_the_same_up_to_one_rounding(trace):
    before, bytes_before = se.open_trace(trace), size(trace)
    kept, plain, coarse = np.array(before.segments[0].rows), before.edge(), before.edge(window=4, stride=2)
    compact(trace)
    after = se.open_trace(trace)
    stored, read = rows(trace), after.segments[0].rows
    assert stored["lags"].dtype == np.float32
    assert read.dtype == kept.dtype
    np.testing.assert_array_equal(read["lags"], kept["lags"].astype(np.float32))
    for name in ("step", "time", "loss", "parameter_norm"):
        np.testing.assert_array_equal(read[name], kept[name])
    for mine, theirs in ((after.edge(), plain), (after.edge(window=4, stride=2), coarse)):
        np.testing.assert_allclose(mine["sigma"], theirs["sigma"], rtol=1e-5)
        np.testing.assert_array_equal(mine["k_star_raw"], theirs["k_star_raw"])
    assert {path.name for path in (trace / "segment-000").glob("*.np?")} == {"rows.npz", "ladder.npz"}
    assert size(trace) < 0.6 * bytes_before


def test_checksums_hold(trace):
    compact(trace)
    assert all(intact(record.tobytes()) for record in rows(trace))


@pytest.mark.parametrize("damage", ["cut", "changed", "another trace's"])
def test_a_damaged_file_is_refused(trace, tmp_path, damage):
    compact(trace)
    path = trace / "segment-000" / "rows.npz"
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[:-50])
    elif damage == "changed":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        record(tmp_path / "other", weights={"one": torch.zeros(9)}).close()
        compact(tmp_path / "other")
        shutil.copy(tmp_path / "other" / "segment-000" / "rows.npz", path)
    with pytest.raises(TraceError, match="restore it from a copy"):
        read_folder(trace)


def test_a_torn_tail_is_dropped_and_its_file_stays(trace):
    path = trace / "segment-000" / "rows.npy"
    os.truncate(path, path.stat().st_size - 5)
    compact(trace)
    assert path.exists()
    with pytest.warns(SpectralEdgeWarning, match="torn"):
        assert len(read_folder(trace)[0].rows) == 29


def test_doing_it_twice_changes_nothing(trace):
    compact(trace)
    before = {path: path.read_bytes() for path in trace.rglob("*") if path.is_file()}
    compact(trace)
    assert before == {path: path.read_bytes() for path in trace.rglob("*") if path.is_file()}
    assert json.loads((trace / "segment-000" / "segment.json").read_text())["version"] == VERSION


@pytest.mark.parametrize("version", [1, 2])
def test_a_trace_of_an_older_version_is_read_and_becomes_one_of_this(trace, version):
    header = trace / "segment-000" / "segment.json"
    for path in (header, trace / "trace.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "version": version}))
    single = np.array(se.open_trace(trace).segments[0].rows["lags"]).astype(np.float32)
    if version == 2:
        store_single(trace / "segment-000" / "rows.npy")
        np.testing.assert_array_equal(se.open_trace(trace).segments[0].rows["lags"], single)
    assert len(se.open_trace(trace).steps) == 30
    compact(trace)
    assert json.loads(header.read_text())["version"] == VERSION
    np.testing.assert_array_equal(rows(trace)["lags"], single)
    assert len(se.open_trace(trace).steps) == 30


def store_single(path):
    """What version 2 made of a file of records."""
    records = np.load(path)
    single = records.astype(single_dtype(records.dtype))
    with path.open("wb") as file:
        file.write(trace_log._header(single.dtype, len(single)))
        file.writelines(map(seal, single))


@pytest.mark.parametrize(
    ("scale", "drift"),
    [(lambda step: 1.0, 3e3), (lambda step: 1e-20, 0.1), (lambda step: 1e-25 if step < 10 else 1.0, 0.1)],
    ids=["nearly parallel updates", "updates too short", "some too short"],
)
def test_what_rounding_would_spoil_stays_as_it_is(tmp_path, scale, drift):
    weights = {"first": torch.zeros(8, 5, dtype=torch.float64)}
    record(tmp_path, scale=scale, drift=drift, weights=weights).close()
    before = rows(tmp_path)
    compact(tmp_path)
    assert rows(tmp_path).dtype == before.dtype
    np.testing.assert_array_equal(rows(tmp_path)["lags"], before["lags"])


def test_one_update_much_longer_than_its_neighbours_does_no_harm(tmp_path):
    record(tmp_path, scale=lambda step: 300.0 if step == 20 else 1.0).close()
    before = se.open_trace(tmp_path).edge(window=4)["sigma"]
    compact(tmp_path)
    assert rows(tmp_path)["lags"].dtype == np.float32
    np.testing.assert_allclose(se.open_trace(tmp_path).edge(window=4)["sigma"], before, rtol=2e-4)


def test_a_kill_between_two_files_leaves_a_trace_that_is_read(trace, monkeypatch):
    written = trace_log.write_packed

    def killed(path, records):
        if path.name == "ladder.npz":
            raise KeyboardInterrupt
        written(path, records)

    monkeypatch.setattr("spectral_edge.trace.compaction.write_packed", killed)
    with pytest.raises(KeyboardInterrupt):
        compact(trace)
    chain = read_folder(trace)
    assert (len(chain[0].rows), len(chain[0].ladder)) == (30, 15)
    monkeypatch.undo()
    compact(trace)
    assert records(trace, "ladder")["lags"].dtype == np.float32
    assert (len(read_folder(trace)[0].rows), len(read_folder(trace)[0].ladder)) == (30, 15)


def test_a_kill_before_the_old_file_is_gone_leaves_a_trace_that_is_read(trace):
    old = trace / "segment-000" / "rows.npy"
    content = old.read_bytes()
    compact(trace)
    old.write_bytes(content)
    assert len(read_folder(trace)[0].rows) == 30
    compact(trace)
    assert not old.exists()


def test_a_full_disk_leaves_the_trace_and_a_warning(trace, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(trace_log.os, "fsync", full)
    before = rows(trace)
    with pytest.warns(SpectralEdgeWarning, match="as large as it is"):
        compact(trace)
    monkeypatch.undo()
    assert rows(trace).tobytes() == before.tobytes()
    assert not list(trace.rglob("*.tmp"))


def test_a_run_goes_on_behind_a_compact_trace(tmp_path):
    weights = {"first": torch.zeros(8, 5), "second": torch.zeros(30)}
    monitor = record(tmp_path, weights=weights)
    state = monitor.state_dict()
    monitor.close()
    compact(tmp_path)
    again = se.Monitor(weights, window=4, every=1, horizon=10, ladder=1, out=tmp_path)
    again.load_state_dict(state)
    for step in range(31, 41):
        for tensor in weights.values():
            tensor += torch.randn(tensor.shape, generator=torch.Generator().manual_seed(step)) + 0.1
        again.step(loss=1 / step)
    again.close()
    found = se.open_trace(tmp_path)
    np.testing.assert_array_equal(found.steps, np.arange(1, 41))
    assert np.isfinite(found.edge(window=4)["sigma"][-1]).all()
