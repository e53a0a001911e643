"""Scans that go on where they were, and traces that are recomputed from kept sketches alone."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import series

import spectral_edge as se
from spectral_edge.errors import Outcome

ENGINES = {
    "exact": {"engine": "exact"},
    "sketch": {"engine": "sketch", "cells": 40},
    "kept": {"engine": "sketch", "cells": 40, "keep_sketches": True},
}


class Stop(BaseException):
    """As Ctrl-C, from the middle of a scan."""


def eventful(count=36):
    """Pairs of step and state: a hole, broken values, a changed shape and back, an equal pair."""
    states = series.states(count)
    found = []
    for index, state in enumerate(states):
        if index in (7, 8):
            continue
        if index == 15:
            state = {name: value * float("nan") if name == "layers.0.bias" else value for name, value in state.items()}
        if 20 <= index < 24:
            state = {**state, "embed.weight": state["embed.weight"][:9]}
        if index == 30:
            state = states[29]
        found.append((10 * index, state))
    return found


def interrupted(source, out, at, **options):
    """A scan that is stopped after its first `at` snapshots."""

    def stop(progress):
        if progress.done == at:
            raise Stop

    with pytest.raises(Stop):
        se.scan(source, out=out, on_progress=stop, **options)


def same(found, truth):
    assert found.steps.tolist() == truth.steps.tolist()
    np.testing.assert_array_equal(found.lag_rows(), truth.lag_rows())
    for name in ("layers.0", "embed"):
        np.testing.assert_array_equal(found.lag_rows(name), truth.lag_rows(name))
    for name in ("moved_fraction", "parameter_norm", "sketch_error", "coverage"):
        np.testing.assert_array_equal(found.row_metadata(name), truth.row_metadata(name))
    for field in ("ladder", "sketches"):
        mine, theirs = (
            [record for segment in trace.segments for record in getattr(segment, field)] for trace in (found, truth)
        )
        assert len(mine) == len(theirs)
        for one, two in zip(mine, theirs, strict=True):
            for name in set(one.dtype.names or ()) - {"crc"}:
                np.testing.assert_array_equal(one[name], two[name])
    kinds = [[(n.step, n.outcome) for n in t.notes if n.outcome is not Outcome.RESUMED] for t in (found, truth)]
    assert kinds[0] == kinds[1]


@pytest.mark.filterwarnings("ignore::spectral_edge.SpectralEdgeWarning")
@pytest.mark.parametrize("ladder", [0, 2])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_scan_that_was_stopped_goes_on_with_the_same_rows(tmp_path, engine, ladder):
    source = eventful()
    options = {**ENGINES[engine], "horizon": 4, "ladder": ladder}
    truth = se.scan(source, **options)
    for at in range(1 + ladder, len(source), 3):
        out = tmp_path / str(at)
        interrupted(source, out, at, **options)
        if at > 3:
            assert len(se.open_trace(out).steps) > 0
        same(se.scan(source, out=out, **options), truth)
        assert (out / "scan.json").exists()


@pytest.mark.filterwarnings("ignore::spectral_edge.SpectralEdgeWarning")
@settings(max_examples=40)
@given(st.data())
def test_a_scan_killed_at_any_byte_goes_on_with_the_same_rows(tmp_path_factory, data):
    """A process may be killed between any two bytes that it writes: of the last step anything may be missing."""
    options = {**ENGINES[data.draw(st.sampled_from(sorted(ENGINES)))], "horizon": 4, "ladder": 1}
    source = eventful(28)
    folder = tmp_path_factory.mktemp("scan")
    at = data.draw(st.integers(2, len(source) - 1))
    interrupted(source, folder, at, **options)
    newest = sorted(folder.glob("segment-*"))[-1]
    # Of a step files are appended in this order, so that what is cut off is the end of one and all of those after it.
    order = [newest / name for name in ("log.jsonl", "sketches.npy", "rows.npy", "ladder.npy")]
    first = data.draw(st.integers(0, 3))
    step = source[at - 1][0]
    segment = se.open_trace(folder).segments[-1]
    for place, name in list(zip(order, ("", "sketches", "rows", "ladder"), strict=True))[max(first, 1) :]:
        records = getattr(segment, name)
        if place.exists() and len(records) and records["step"][-1] == step:
            size = records.dtype.itemsize
            lost = int((records["step"] == step).sum()) * size
            lost = data.draw(st.integers(1, lost)) if place == order[max(first, 1)] else lost
            with place.open("r+b") as file:
                file.truncate(place.stat().st_size - lost)
    same(se.scan(source, out=folder, **options), se.scan(source, **options))


@pytest.mark.filterwarnings("ignore::spectral_edge.SpectralEdgeWarning")
@pytest.mark.parametrize("engine", ENGINES)
def test_new_checkpoints_are_appended_and_a_complete_scan_is_returned(tmp_path, engine):
    options = {**ENGINES[engine], "horizon": 4}
    folder = tmp_path / "run"
    states = eventful()
    series.write(folder, series.safetensors, [s for _, s in states[:25]], [t for t, _ in states[:25]])
    out = tmp_path / "trace"
    se.scan(folder, out=out, **options)
    before = sorted(path.stat().st_mtime_ns for path in out.rglob("*"))
    read = []
    again = se.scan(folder, out=out, on_progress=lambda progress: read.append(progress.done), **options)
    assert read == []
    assert sorted(path.stat().st_mtime_ns for path in out.rglob("*")) == before
    assert len(again.steps) > 0
    series.write(folder, series.safetensors, [s for _, s in states[25:]], [t for t, _ in states[25:]])
    same(se.scan(folder, out=out, **options), se.scan(folder, **options))
    same(se.scan(folder, out=out, **options), se.open_trace(out))


def test_kept_sketches_spare_reading_what_was_read(tmp_path):
    states = series.states(40)
    steps = list(range(0, 400, 10))
    folder = series.write(tmp_path / "run", series.safetensors, states, steps)
    for engine, most in (("sketch", 26), ("kept", 19)):
        options = {**ENGINES[engine], "horizon": 4}
        interrupted(folder, tmp_path / engine, 25, **options)
        read = []
        se.scan(folder, out=tmp_path / engine, on_progress=lambda p, read=read: read.append(p.bytes), **options)
        one = sum(value.nbytes for value in states[0].values())
        assert read[-1] / one <= most


def test_a_generator_goes_on_too(tmp_path):
    source = [(step, state) for step, state in enumerate(series.states(30))]
    interrupted(iter(source), tmp_path / "t", 17, horizon=4)
    same(se.scan(iter(source), out=tmp_path / "t", horizon=4), se.scan(source, horizon=4))
    same(se.scan(iter(source), out=tmp_path / "t", horizon=4), se.scan(source, horizon=4))


def test_another_scan_or_series_in_the_folder_is_refused(tmp_path):
    folder = series.write(tmp_path / "run", series.safetensors, series.states())
    out = tmp_path / "trace"
    se.scan(folder, out=out, horizon=6)
    for options, message in (
        ({"horizon": 8}, "expected horizon=6 as in the scan there, got 8"),
        ({"horizon": 6, "engine": "sketch"}, "expected engine='auto' as in the scan there, got 'sketch'"),
        ({"horizon": 6, "select": "embed*"}, "expected select=None"),
        ({"horizon": 6, "groups": {"all": "*"}}, "expected groups=None"),
        ({"horizon": 6, "momentum": 0.9}, "expected momentum=None"),
    ):
        with pytest.raises(se.InputError, match=message):
            se.scan(folder, out=out, **options)
    (folder / "step-300.safetensors").unlink()
    with pytest.raises(se.InputError, match=r"step-300\.safetensors at step 300 among them, got step-400"):
        se.scan(folder, out=out, horizon=6)
    for place in list(folder.iterdir())[:-3]:
        place.unlink()
    with pytest.raises(se.InputError, match="of the scan there"):
        se.scan(folder, out=out, horizon=6)
    with se.Monitor({"w": torch.zeros(4)}, window=2, every=1, out=tmp_path / "live") as monitor:
        monitor.step()
    with pytest.raises(se.InputError, match="got a trace of something else"):
        se.scan(folder, out=tmp_path / "live", horizon=6)


@pytest.mark.filterwarnings("ignore::spectral_edge.SpectralEdgeWarning")
@pytest.mark.parametrize(("horizon", "ladder"), [(4, 2), (7, 0), (3, 1)])
def test_sketches_alone_give_every_row_again(tmp_path, horizon, ladder):
    source, options = eventful(), {**ENGINES["kept"], "horizon": 4, "ladder": 2}
    interrupted(source, tmp_path / "published", 22, **options)  # so that the trace has several segments
    se.scan(source, out=tmp_path / "published", **options)
    truth = se.scan(source, **{**options, "horizon": horizon, "ladder": ladder, "keep_sketches": False})
    found = se.scan(tmp_path / "published", horizon=horizon, ladder=ladder, out=tmp_path / "new")
    same(found, truth)
    same(se.open_trace(tmp_path / "new"), truth)
    again = se.scan(tmp_path / "published", horizon=4, ladder=2, keep_sketches=True)
    same(se.scan(tmp_path / "published", horizon=horizon, ladder=ladder), truth)
    assert len(again.segments[0].sketches) > 0
    np.testing.assert_array_equal(found.edge(window=3)["sigma"], truth.edge(window=3)["sigma"])


def test_sketches_can_be_read_without_this_library(tmp_path):
    states = series.states(12)
    out = tmp_path / "t"
    trace = se.scan(list(enumerate(states)), out=out, horizon=4, **ENGINES["kept"])
    records = np.load(out / "segment-000" / "sketches.npy")
    header = json.loads((out / "segment-000" / "segment.json").read_text())
    assert header["cells"] == sum(header["metadata"]["engine"]["cells"]) == records["cells"].shape[1]
    updates = np.diff(records["cells"], axis=0)
    np.testing.assert_allclose((updates[2:] * updates[:-2]).sum(axis=1), trace.lag_rows()[2:, 2], rtol=1e-9, atol=1e-12)
    assert records["restart"].tolist() == [1] + [0] * 11
    assert records["step"].tolist() == list(range(12))


def test_what_cannot_be_recomputed_is_refused(tmp_path):
    source = series.states(8)
    se.scan(source, out=tmp_path / "rows", horizon=4)
    with pytest.raises(
        se.InputError, match="expected a trace that keeps sketches of the parameters, got lag rows only"
    ):
        se.scan(tmp_path / "rows")
    se.scan(source, out=tmp_path / "kept", horizon=4, **ENGINES["kept"])
    with pytest.raises(se.InputError, match="groups were fixed when it was made"):
        se.scan(tmp_path / "kept", select="embed*")
    with pytest.raises(se.InputError, match="expected a folder without a trace"):
        se.scan(tmp_path / "kept", out=tmp_path / "kept")


def test_a_trace_beside_the_checkpoints_is_not_taken_for_the_source(tmp_path):
    folder = series.write(tmp_path / "run", series.safetensors, series.states())
    first = se.scan(folder, out=folder / "trace")
    same(se.scan(folder, out=folder / "trace"), first)
