"""Checkpoint series: sources, steps, holes, and every kind of bad input."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import spectral_edge as se
from spectral_edge.errors import Outcome
from spectral_edge.observe.snapshots import snapshots


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


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([], "at least two snapshots, got none"),
        (series(1), "at least two snapshots, got 1"),
        ("missing/*.safetensors", r"missing/\*.safetensors: expected at least two snapshots, got none"),
        ("missing.safetensors", "expected a checkpoint file, got nothing there"),
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


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_a_first_file_that_is_broken_is_refused_in_one_line(tmp_path, kind):
    folder = write(tmp_path / kind, series(4), kind=kind)
    victim = folder / f"checkpoint-0.{kind}"
    victim.write_bytes(victim.read_bytes()[:-40])
    with pytest.raises(se.InputError, match=r"checkpoint-0.*expected a complete checkpoint") as caught:
        se.scan(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_a_broken_file_in_the_middle_is_named_and_becomes_a_hole(tmp_path, kind):
    folder = write(tmp_path / kind, series(12), kind=kind)
    victim = folder / f"checkpoint-500.{kind}"
    victim.write_bytes(victim.read_bytes()[:-40])
    with pytest.warns(se.SpectralEdgeWarning) as caught:
        trace = se.scan(folder)
    said = [str(warning.message) for warning in caught]
    assert f"checkpoint-500.{kind} cannot be read" in said[0]
    assert "no snapshot that can be read between steps 400 and 600" in said[1]
    assert [note.outcome for note in trace.notes] == [Outcome.FAILED, Outcome.HOLE]
    assert trace.steps.tolist() == [100, 200, 300, 400, 700, 800, 900, 1000, 1100]
    np.testing.assert_array_equal(trace.lag_rows()[4:], se.scan(series(12)[6:]).lag_rows())


def test_values_that_are_not_finite_are_named_and_restart_the_window():
    for at, named in ((0, 0), (5, 5), (11, 11)):
        rows = series(12)
        rows[at] = rows[at].copy()
        rows[at][3] = np.nan
        with pytest.warns(se.SpectralEdgeWarning, match=f"step {named}: v is not finite"):
            trace = se.scan([{"w": row[10:], "v": row[:10]} for row in rows])
        assert [(note.step, note.outcome) for note in trace.notes] == [(named, Outcome.NON_FINITE)]
        assert trace.steps.tolist() == [i for i in range(1, 12) if i not in (at, at + 1)]


def test_changed_shapes_and_tensors_are_named_and_never_differenced_across():
    rows = series(12)
    changed = [{"w": row[:40].reshape(8, 5), "v": row[40:]} for row in rows[:4]]
    changed += [{"w": row[:30].reshape(6, 5), "v": row[40:]} for row in rows[4:8]]
    changed += [{"w": torch.from_numpy(row[:30].reshape(6, 5)).float(), "u": row[50:]} for row in rows[8:]]
    with pytest.warns(se.SpectralEdgeWarning) as caught:
        trace = se.scan(changed)
    said = [str(warning.message) for warning in caught]
    assert "w of shape (8, 5) is now of (6, 5)" in said[0]
    assert "w of dtype float64 is now of float32; appeared: u; vanished: v" in said[1]
    assert [note.message for note in trace.notes] == [text.split(": ", 1)[1] for text in said]
    assert trace.steps.tolist() == [1, 2, 3, 5, 6, 7, 9, 10, 11]
    assert len(trace.segments) == 3
    truth = se.scan(changed[4:8]).lag_rows()
    np.testing.assert_array_equal(trace.lag_rows()[3:6], truth)


def test_another_order_of_the_same_tensors_is_no_change():
    rows = series(12)
    told = [{"w": row[:40], "v": row[40:]} for row in rows]
    turned = [dict(reversed(state.items())) if i % 3 else state for i, state in enumerate(told)]
    np.testing.assert_array_equal(se.scan(turned).lag_rows(), se.scan(told).lag_rows())


class Payload:
    """Something that only unpickling could restore."""


def test_files_that_need_unpickling_are_refused_unless_told(tmp_path):
    for index in range(3):
        torch.save({"model": {"w": torch.ones(4) * index**2}, "extra": Payload()}, tmp_path / f"c{index}.pt")
    with pytest.raises(se.InputError, match="allow_pickle=True"):
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


def named(folder, *names):
    """Empty-handed files: what matters is how they are called."""
    for index, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"w": torch.full((3,), float(index**2))}, path)
    return folder


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (["a-10.safetensors", "a-9.safetensors", "a-200.safetensors"], [9, 10, 200]),
        (["step-10-loss-0.53.safetensors", "step-20-loss-0.50.safetensors"], [10, 20]),
        (["epoch=3-step=1200.safetensors", "epoch=4-step=1600.safetensors"], [1200, 1600]),
        (["Global_Step100_v2.safetensors", "Global_Step50_v2.safetensors"], [50, 100]),
        (["ckpt-3-step-1200.safetensors", "step-900-ckpt-9.safetensors"], [900, 1200]),
        (["iter_100_of_500.safetensors", "ITERATION-200_of_500.safetensors"], [100, 200]),
        (["m-5-0.25.safetensors", "m-7-0.125.safetensors"], [5, 7]),
        (["step_10_lr1e-3.safetensors", "step_11_lr1e-3.safetensors"], [10, 11]),
        (["first.safetensors", "second.safetensors"], [0, 1]),
        (["checkpoint-100/model.safetensors", "checkpoint-20/model.safetensors"], [20, 100]),
        (["a/model.safetensors", "b/model.safetensors"], [0, 1]),
    ],
)
def test_steps_are_read_from_names(tmp_path, names, steps):
    found, known = snapshots(named(tmp_path / "run-7", *names))
    assert [snapshot.step for snapshot in known] == steps
    assert [snapshot.step for snapshot in found] == steps


def test_a_folder_of_training_checkpoints(tmp_path):
    folder = named(tmp_path / "run", *(f"checkpoint-{step}/model.safetensors" for step in (5, 10, 15)))
    for inner in list(folder.iterdir()):
        torch.save({}, inner / "optimizer.pt")
        torch.save({}, inner / "rng_state_0.pth")
    named(folder, "model.safetensors")  # what training ended with
    assert se.scan(folder).steps.tolist() == [10, 15]
    assert se.scan([folder / "checkpoint-5", str(folder / "checkpoint-1*" / "*.safetensors")]).steps.tolist() == [
        10,
        15,
    ]
    named(folder, "checkpoint-10/other.safetensors")
    with pytest.raises(se.InputError, match=r"checkpoint-10: expected one checkpoint in each sub-folder, got 2"):
        se.scan(folder)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["step-1.safetensors", "step-2.safetensors", "final.safetensors"], r"final\.safetensors: .*leaves it out"),
        (["best/m.safetensors", "step-1/m.safetensors"], r"best/m\.safetensors: .*leaves it out"),
        (["m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"], "at least two snapshots, got 1"),
        (["a-2.safetensors", "b-2.safetensors"], "one snapshot a step, got step 2 from both"),
        (["only.safetensors"], r"run-7: expected at least two snapshots, got 1"),
    ],
)
def test_names_that_do_not_tell_the_steps_are_refused(tmp_path, names, message):
    with pytest.raises(se.InputError, match=message):
        se.scan(named(tmp_path / "run-7", *names))


def test_a_pickled_module_is_said_to_be_one_in_a_short_line(tmp_path):
    for index in range(3):
        torch.manual_seed(index)
        torch.save(nn.Linear(3, 2), tmp_path / f"c{index}.pt")
    with pytest.raises(se.InputError, match=r"got a pickled torch\.nn\.modules\.linear\.Linear; save model") as caught:
        se.scan(tmp_path)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 250 + len(str(tmp_path))
    assert len(se.scan(tmp_path, allow_pickle=True).steps) == 2


@pytest.mark.parametrize("momentum", [-0.1, 1.0, 1.5, float("nan")])
def test_momentum_out_of_range_is_refused_at_once(momentum):
    with pytest.raises(se.InputError, match="momentum: expected a number of at least 0 and below 1"):
        se.scan(series(), momentum=momentum)
