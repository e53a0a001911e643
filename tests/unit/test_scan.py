"""Checkpoint series: sources, steps, holes, and every kind of bad input."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import spectral_edge as se
from spectral_edge.errors import Outcome


def series(count=14, size=60, seed=0):
    rng = np.random.default_rng(seed)
    return list(np.cumsum(rng.standard_normal((count, size)), axis=0))


def write(folder, rows, *, kind="safetensors", step=100):
    folder.mkdir(exist_ok=True)
    for index, row in enumerate(rows):
        tensors = {"model.weight": torch.from_numpy(row.reshape(6, -1).copy())}
        path = folder / f"checkpoint-{index * step}.{kind}"
        if kind == "safetensors":
            save_file(tensors, path)
        else:
            torch.save({"model": tensors, "epoch": index}, path)
    return folder


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_files_folders_and_globs_agree_with_arrays(tmp_path, kind):
    rows = series()
    folder = write(tmp_path / "run", rows, kind=kind)
    truth = se.scan(rows).edge(window=5)["sigma"]
    for source in (folder, str(folder / f"*.{kind}"), sorted(folder.iterdir())):
        trace = se.scan(source)
        np.testing.assert_array_equal(trace.edge(window=5)["sigma"], truth)
        assert trace.steps.tolist() == [100 * (i + 1) for i in range(len(rows) - 1)]


def test_an_iterator_is_consumed_one_snapshot_at_a_time():
    alive = []

    def snapshots():
        for step, row in enumerate(series()):
            alive.append(step)
            yield 10 * step, {"w": torch.from_numpy(row)}

    trace = se.scan(snapshots())
    assert trace.steps.tolist() == [10 * step for step in range(1, 14)]


def test_parameters_not_buffers_and_wrapped_names():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    state = {f"module._orig_mod.{k}": v.clone() for k, v in model.state_dict().items()}
    moved = {k: v + 1 if v.is_floating_point() else v for k, v in state.items()}
    trace = se.scan([state, moved, {k: v + 1 if v.is_floating_point() else v for k, v in moved.items()}])
    assert [t.name for t in trace.segments[0].inventory.tensors] == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_a_hole_is_never_differenced_across():
    rows = series(20)
    kept = [(10 * i, row) for i, row in enumerate(rows) if i not in (8, 9, 10)]
    with pytest.warns(se.SpectralEdgeWarning, match="no snapshot between steps 70 and 110"):
        trace = se.scan(kept)
    assert 110 not in trace.steps
    assert [note.outcome for note in trace.notes] == [Outcome.HOLE]
    steps = trace.edge(window=4).step.tolist()
    assert steps == [40, 50, 60, 70, 150, 160, 170, 180, 190]
    truth = np.linalg.svd(np.diff(rows[11:16], axis=0), compute_uv=False)
    np.testing.assert_allclose(trace.edge(window=4)["sigma"][4], truth, rtol=1e-12)


def test_growing_windows_are_the_published_ones():
    rows = series(12)
    found = se.scan(rows).edge(window=5, partial=True)
    assert found.step.tolist() == list(range(2, 12))
    first = 0
    sigma = np.linalg.svd(np.diff(rows[:3], axis=0), compute_uv=False)
    np.testing.assert_allclose(found["sigma"][first][:2], sigma, rtol=1e-12)
    assert np.isnan(found["sigma"][first][2:]).all()
    assert found["g23"][first] == pytest.approx(sigma[1] ** 2)
    assert len(se.scan(rows).edge(window=5).step) == 7


def test_trace_kept_in_a_folder_and_in_memory_agree(tmp_path):
    rows = series(30)
    kept = se.scan(rows, out=tmp_path / "t")
    np.testing.assert_array_equal(kept.lag_rows(), se.scan(rows).lag_rows())
    np.testing.assert_array_equal(se.open_trace(tmp_path / "t").lag_rows(), kept.lag_rows())


def test_series_as_a_table():
    table = se.scan(series()).edge(window=4).to_pandas()
    series_ = se.scan(series()).edge(window=4)
    assert series_.reason("loss") == [Outcome.NOT_RECORDED] * 10
    assert str(series_.reason("alpha_overlap")[0]) == "HISTORY_TOO_SHORT"
    assert {"step", "sigma_1", "sigma_4", "gap_ratio", "k_star_raw", "loss"} <= set(table.columns)
    assert len(table) == 10


def nan_row(rows):
    rows[5] = rows[5].copy()
    rows[5][3] = np.nan
    return rows


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([], "at least two snapshots, got none"),
        (series(1), "at least two snapshots, got 1"),
        ("missing/*.safetensors", "at least two snapshots, got none"),
        ("missing.safetensors", "expected a checkpoint file, got nothing there"),
        ([*series(4), np.zeros(7)], r"snapshot 4 .*expected parameters of shape \(60,\)"),
        (nan_row(series()), r"snapshot 5 .*expected finite parameters"),
        ([(3, np.zeros(2)), (2, np.ones(2))], "expected increasing steps, got 2 after 3"),
        ([(3, np.zeros(2)), (3, np.ones(2))], "expected increasing steps, got 3 after 3"),
        ([{"note": "text"}, {}], "expected an array, a state dict"),
        (np.float64(3.0), "expected several snapshots"),
        ({"w": torch.ones(3)}, "expected several snapshots"),
        (iter([]), "at least two snapshots, got none"),
    ],
)
def test_bad_sources_are_refused_in_one_line(source, message):
    with pytest.raises(se.InputError, match=message) as caught:
        se.scan(source)
    assert "\n" not in str(caught.value)


def test_broken_files_are_refused_in_one_line(tmp_path):
    for kind in ("safetensors", "pt"):
        folder = write(tmp_path / kind, series(4), kind=kind)
        victim = folder / f"checkpoint-200.{kind}"
        victim.write_bytes(victim.read_bytes()[:-40])
        with pytest.raises(se.InputError, match=r"checkpoint-200.*expected a complete checkpoint") as caught:
            se.scan(folder)
        assert "\n" not in str(caught.value)


class Payload:
    """Something that only unpickling could restore."""


def test_files_that_need_unpickling_are_refused_unless_told(tmp_path):
    for index in range(3):
        torch.save({"model": {"w": torch.ones(4) * index**2}, "extra": Payload()}, tmp_path / f"c{index}.pt")
    with pytest.raises(se.InputError, match="allow_pickle=True runs the code inside"):
        se.scan(tmp_path)
    assert len(se.scan(tmp_path, allow_pickle=True).steps) == 2


def test_windows_that_do_not_fit_the_horizon():
    trace = se.scan(series(), horizon=6)
    with pytest.raises(se.InputError, match="at most 6 recorded lags, got 7 needed"):
        trace.edge(window=7)
    with pytest.raises(se.InputError, match="at least 2 updates, got 1"):
        trace.edge(window=1)
    with pytest.raises(se.TraceError, match="group 'nope'"):
        trace.edge(window=3, group="nope")
    with pytest.raises(se.InputError, match="quantity"):
        trace.edge(window=3)["nope"]
