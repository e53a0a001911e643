"""The monitor in a training loop: it changes nothing, never raises, and says what happened."""

import copy
import itertools
import os
import shutil
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import spectral_edge as se
from spectral_edge.errors import Outcome


def network(seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(12, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 4)).to(dtype)


def train(model, optimizer, steps, *, monitor=None, seed=1, probes=False, compiled=None):
    torch.manual_seed(seed)
    forward = compiled or model
    losses, readings = [], []
    for _ in range(steps):
        x = torch.randn(32, 12, dtype=next(model.parameters()).dtype)
        optimizer.zero_grad()
        loss = functional.cross_entropy(forward(x).float(), x.argmax(1) % 4)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if monitor is not None:
            reading = monitor.step(loss=loss)
            readings.append(reading)
            if reading is not None and probes:
                monitor.probe(theta="parameters", gradient={n: p.grad for n, p in model.named_parameters()})
                monitor.log(loss=loss.item())
    return losses, readings


def test_watching_changes_nothing():
    """Weights, optimizer state, losses and random state are bit-identical over more than three windows, probes on."""
    outcomes = []
    for watched in (False, True):
        model = network()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        before = torch.is_grad_enabled()
        monitor = se.Monitor(model, optimizer, window=10, every=1) if watched else None
        losses, readings = train(model, optimizer, 45, monitor=monitor, probes=watched)
        if watched:
            assert sum(r is not None for r in readings) == 36
        assert torch.is_grad_enabled() is before
        state = [*model.state_dict().values(), *(s for v in optimizer.state.values() for s in v.values())]
        outcomes.append((losses, [t.clone() for t in state], torch.get_rng_state(), np.random.get_state()[1].copy()))  # noqa: NPY002
    (first, second) = outcomes
    assert first[0] == second[0]
    assert all(torch.equal(a, b) for a, b in zip(first[1], second[1], strict=True))
    assert torch.equal(first[2], second[2])
    assert np.array_equal(first[3], second[3])


def test_nothing_is_attached_to_the_model():
    model = network()
    before = copy.deepcopy({k: v for k, v in model.__dict__.items() if k.endswith("hooks")})
    se.Monitor(model, window=3, every=1)
    assert {k: v for k, v in model.__dict__.items() if k.endswith("hooks")} == before
    assert all(p.grad is None and not p._backward_hooks for p in model.parameters())


def test_a_compiled_model_is_not_recompiled():
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(model, backend=backend)
    monitor = se.Monitor(compiled, optimizer, window=5, every=1)
    train(model, optimizer, 12, monitor=monitor, compiled=compiled)
    assert len(graphs) == 1
    assert all("_orig_mod" not in name for name in (t.name for t in monitor.trace.segments[0].inventory.tensors))


def test_streaming_and_offline_agree_bit_for_bit(tmp_path):
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with se.Monitor(model, optimizer, window=6, every=2, out=tmp_path / "t") as monitor:
        _, readings = train(model, optimizer, 60, monitor=monitor)
    trace = se.open_trace(tmp_path / "t")
    live = [r for r in readings if r is not None]
    for group in (None, *trace.groups):
        series = trace.edge(window=6, group=group)
        assert series.step.tolist() == [r.step for r in live]
        for index, reading in enumerate(live):
            mine = reading if group is None else reading.groups[group]
            for name in se.QUANTITIES:
                value = mine.columns[name].values[mine.index]
                np.testing.assert_array_equal(
                    np.broadcast_to(value, series[name][index].shape), series[name][index], name
                )
                assert mine.reason(name) == series.reason(name)[index]


def test_scan_of_the_same_snapshots_gives_the_same_numbers():
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    monitor = se.Monitor(model, optimizer, window=5, every=1)
    snapshots = [(0, copy.deepcopy(model.state_dict()))]
    for step in range(1, 20):
        train(model, optimizer, 1, monitor=monitor, seed=step)
        snapshots.append((step, copy.deepcopy(model.state_dict())))
    scanned = se.scan(snapshots, horizon=10)
    np.testing.assert_array_equal(scanned.lag_rows(), monitor.trace.lag_rows())
    np.testing.assert_array_equal(scanned.edge(window=5)["sigma"], monitor.trace.edge(window=5)["sigma"])


def test_selection_ties_and_frozen_parameters():
    model = nn.Module()
    model.embed = nn.Embedding(7, 5)
    model.head = nn.Linear(5, 7, bias=False)
    model.head.weight = model.embed.weight
    model.frozen = nn.Linear(3, 3).requires_grad_(False)
    model.self_attn = nn.MultiheadAttention(4, 2)
    whole = se.Monitor(model, window=3).trace.segments[0].inventory
    assert whole.watched == 35 + sum(p.numel() for p in model.self_attn.parameters())
    assert not any("frozen" in t.name or "head" in t.name for t in whole.tensors)
    paper = se.Monitor(model, window=3, select="attention").trace.segments[0].inventory
    assert [t.name for t in paper.tensors] == ["self_attn.in_proj_weight", "self_attn.out_proj.weight"]
    assert 0 < paper.coverage < 1
    globbed = se.Monitor(model, window=3, select=["embed*"], groups={"words": "embed.*"}).trace.segments[0].inventory
    assert globbed.groups == {"words": (0,)}
    chosen = se.Monitor(model, window=3, select=lambda name, tensor: tensor.ndim == 1).trace.segments[0].inventory
    assert all(len(t.shape) == 1 for t in chosen.tensors)
    for wrong in ({"select": "nothing*"}, {"groups": {"none": "nothing*"}}):
        with pytest.raises(se.InputError, match="expected"):
            se.Monitor(model, **wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"window": 1},
        {"window": 10, "horizon": 5},
        {"every": 0},
        {"every": 1.5},
        {"k_star": "best"},
        {"null": "none"},
        {"engine": "magic"},
        {"store": "layers"},
    ],
)
def test_wrong_arguments_are_refused_with_a_remedy(wrong):
    with pytest.raises(se.InputError, match=r"expected .*, got .*; "):
        se.Monitor(network(), **wrong)


def test_observes_on_schedule_and_only_full_windows():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = se.Monitor(model, optimizer, window=3, every=lambda step: step in (2, 3, 5, 9, 10))
    _, readings = train(model, optimizer, 12, monitor=monitor)
    assert [r.step for r in readings if r is not None] == [5, 9, 10]
    assert monitor.trace.steps.tolist() == [2, 3, 5, 9, 10]


def test_skipped_optimizer_steps_stay_out_of_the_window():
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    monitor = se.Monitor(model, optimizer, window=3, every=1)
    train(model, optimizer, 4, monitor=monitor)
    for _ in range(2):  # an AMP overflow: the scaler does not call the optimizer
        assert monitor.step() is None
    _, readings = train(model, optimizer, 1, monitor=monitor)
    assert readings[0] is not None
    assert monitor.trace.steps.tolist() == [1, 2, 3, 4, 7]
    assert [n.outcome for n in monitor.trace.notes] == [Outcome.SKIPPED, Outcome.SKIPPED]


def test_updates_that_round_away_are_noticed():
    weight = nn.Parameter(torch.ones(1000, dtype=torch.bfloat16))
    optimizer = torch.optim.AdamW([weight], lr=1e-4, weight_decay=0)
    monitor = se.Monitor({"w": weight}, optimizer, window=3, every=1)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    with pytest.warns(se.SpectralEdgeWarning, match="round away"):
        monitor.step()
    with torch.no_grad():
        weight[:100] += 0.5
    optimizer.step()
    with pytest.warns(se.SpectralEdgeWarning, match=r"only 10\.0%"):
        monitor.step()
    assert monitor.trace.row_metadata("moved_fraction")[-1] == pytest.approx(0.1)
    assert {n.outcome for n in monitor.trace.notes} == {Outcome.ROUNDED_AWAY}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_parameters_restart_the_window(bad):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = se.Monitor(model, optimizer, window=3, every=1)
    train(model, optimizer, 5, monitor=monitor)
    kept = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        model[0].weight[0, 0] = bad
    with pytest.warns(se.SpectralEdgeWarning, match=r"0\.weight is not finite"):
        assert monitor.step() is None
    assert monitor.step() is None  # still broken: said once
    model.load_state_dict(kept)
    _, readings = train(model, optimizer, 5, monitor=monitor)
    # One snapshot becomes the new baseline, two updates fill part of the window, then readings resume.
    assert [r is not None for r in readings] == [False, False, False, True, True]
    assert monitor.trace.steps.tolist() == [1, 2, 3, 4, 5, 9, 10, 11, 12]
    assert len(monitor.trace.edge(window=3).step) == 3 + 2


def test_parameters_that_appear_and_vanish():
    model = network()
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = se.Monitor(model, optimizer, window=3, every=1)
    train(model, optimizer, 4, monitor=monitor)
    model[0].requires_grad_(True)
    torch.manual_seed(0)
    with pytest.warns(se.SpectralEdgeWarning, match="appeared: 0"):
        train(model, optimizer, 1, monitor=monitor)
    _, readings = train(model, optimizer, 3, monitor=monitor)
    assert readings[-1] is not None
    model[3].requires_grad_(False)
    with pytest.warns(se.SpectralEdgeWarning, match="vanished: 3"):
        train(model, optimizer, 1, monitor=monitor)
    trace = monitor.trace
    assert [len(s.inventory.tensors) for s in trace.segments] == [4, 6, 4]
    assert len(trace.edge(window=3).step) == 2 + 1


def test_one_odd_value_never_reaches_the_loop():
    model = network()
    monitor = se.Monitor(model, window=3, every=1)
    with pytest.warns(se.SpectralEdgeWarning, match="left out"):
        assert monitor.step(loss="not a number") is None
    with pytest.warns(se.SpectralEdgeWarning, match="left out"):
        monitor.log(words="hello")
    with pytest.warns(se.SpectralEdgeWarning, match="not observed"):
        monitor.probe(theta="parameters")
    monitor.log(best=float("nan"), worst=float("inf"))
    assert np.isnan(monitor.trace.metrics("best")[1]).all()


def test_clip_factor_given_and_measured():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = se.Monitor(model, optimizer, window=2, every=2)
    for step in range(4):
        loss = (model(torch.ones(1, 12)) ** 2).sum() * 100
        optimizer.zero_grad()
        loss.backward()
        norm = monitor.clip_grad_norm_(1.0) if step < 2 else nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        monitor.step(**({} if step < 2 else {"grad_norm": norm, "max_grad_norm": 1.0}))
    factors = monitor.trace.row_metadata("clip_factor")
    assert (factors < 0.5).all()
    assert (factors > 0).all()


def test_probe_rows_against_brute_force():
    model = network(dtype=torch.float64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    monitor = se.Monitor(model, optimizer, window=4, every=1)
    flat = [nn.utils.parameters_to_vector(model.parameters()).detach().clone()]
    gradients = []
    for seed in range(9):
        train(model, optimizer, 1, monitor=monitor, seed=seed)
        flat.append(nn.utils.parameters_to_vector(model.parameters()).detach().clone())
        gradient = [torch.randn_like(p) for p in model.parameters()]
        gradients.append(torch.cat([g.reshape(-1) for g in gradient]))
        monitor.probe(theta="parameters", random=gradient)
    updates = [b - a for a, b in itertools.pairwise(flat)]
    rows = monitor.trace.probes("random")
    assert [r.step for r in rows] == list(range(1, 10))
    for t, row in enumerate(rows):
        assert row.square.sum() == pytest.approx(float(gradients[t] @ gradients[t]), rel=1e-12)
        for lag in range(min(t + 1, 8)):
            assert row.lags[:, lag].sum() == pytest.approx(float(gradients[t] @ updates[t - lag]), rel=1e-9)
        assert row.products["theta"].sum() == pytest.approx(float(gradients[t] @ flat[t + 1]), rel=1e-9)
        if t + 1 < len(updates):
            assert row.following.sum() == pytest.approx(float(gradients[t] @ updates[t + 1]), rel=1e-9)
    assert np.isnan(rows[-1].following).all()


def test_probes_under_names_of_nothing_are_refused():
    """A misspelt name would read as zero; an unwatched or a frozen parameter's is passed over."""
    model = network()
    model[1].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = se.Monitor(model, optimizer, window=2, every=1, select="0.*")
    train(model, optimizer, 1, monitor=monitor)
    gradients = {name: p.grad for name, p in model.named_parameters()}
    monitor.probe(all=gradients, wrapped={"module.0.weight": gradients["0.weight"]})
    with pytest.warns(se.SpectralEdgeWarning, match=r"got 0\.wieght"):
        monitor.probe(typo={"0.wieght": gradients["0.weight"]})
    assert monitor.trace.probe_names == ("all", "wrapped")
    assert all(monitor.trace.probes(name)[0].square[0] > 0 for name in ("all", "wrapped"))


def test_sparse_gradients_can_be_probed():
    model = nn.Embedding(6, 3, sparse=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = se.Monitor(model, optimizer, window=2, every=1)
    model(torch.tensor([1, 1, 4])).square().sum().backward()
    optimizer.step()
    monitor.step()
    monitor.probe(given={"weight": model.weight.grad}, own="gradient")
    expected = float(model.weight.grad.to_dense().square().sum())
    for name in ("given", "own"):
        assert monitor.trace.probes(name)[0].square.sum() == pytest.approx(expected)


def test_rewind_branches_the_trace_and_says_so(tmp_path):
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    monitor = se.Monitor(model, optimizer, window=3, every=1, out=tmp_path / "t")
    train(model, optimizer, 6, monitor=monitor)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict(), monitor.state_dict()))
    train(model, optimizer, 5, monitor=monitor, seed=2)
    monitor.log(first=1.0)
    model.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    with pytest.warns(se.SpectralEdgeWarning, match="earlier checkpoint"):
        assert monitor.load_state_dict(saved[2]) is Outcome.REWOUND
    train(model, optimizer, 3, monitor=monitor, seed=3)
    newest, oldest = se.open_trace(tmp_path / "t"), se.open_trace(tmp_path / "t", generation=0)
    assert newest.steps.tolist() == list(range(1, 10))
    assert oldest.steps.tolist() == list(range(1, 12))
    assert "first" in oldest.metric_names
    assert "first" not in newest.metric_names
    np.testing.assert_array_equal(newest.lag_rows()[:6], oldest.lag_rows()[:6])
    assert len(newest.edge(window=3).step) == 7  # the window goes on across the branch


def test_a_step_that_goes_back_without_a_word_starts_a_new_branch():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = se.Monitor(model, optimizer, window=3, every=1)
    for step in (1, 2, 3, 4):
        train(model, optimizer, 1)
        monitor.step(step=step)
    with pytest.warns(se.SpectralEdgeWarning, match="earlier checkpoint"):
        monitor.step(step=2)
    assert monitor.trace.segments[-1].generation == 1


def test_state_of_another_model_is_refused():
    monitor = se.Monitor(network(), window=3, every=1)
    other = se.Monitor(nn.Linear(3, 3), window=3, every=1)
    with pytest.raises(se.InputError, match="tensors as watched now"):
        other.load_state_dict(monitor.state_dict())
    longer = se.Monitor(network(), window=3, every=1, horizon=9)
    with pytest.raises(se.InputError, match="horizon"):
        longer.load_state_dict(monitor.state_dict())


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = se.Monitor(model, optimizer, window=3, every=1, out=tmp_path / "t")
    train(model, optimizer, 3, monitor=monitor)
    real, full = os.pwrite, [True]

    def pwrite(descriptor, data, position):
        if full[0]:
            real(descriptor, bytes(data)[:7], position)  # a short write, then no space
            raise OSError(28, "No space left on device")
        return real(descriptor, data, position)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.warns(se.SpectralEdgeWarning, match="could not be written"):
        train(model, optimizer, 1, monitor=monitor, seed=2)
    _, readings = train(model, optimizer, 3, monitor=monitor, seed=3)
    assert all(r is not None for r in readings)
    full[0] = False
    train(model, optimizer, 1, monitor=monitor, seed=4)
    monitor.close()
    assert se.open_trace(tmp_path / "t").steps.tolist() == list(range(1, 9))


def test_existing_trace_is_kept_as_an_older_generation(tmp_path):
    for _ in range(2):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with se.Monitor(model, optimizer, window=3, every=1, out=tmp_path / "t") as monitor:
            train(model, optimizer, 5, monitor=monitor)
    assert se.open_trace(tmp_path / "t").segments[-1].generation == 1
    assert se.open_trace(tmp_path / "t", generation=0).steps.tolist() == [1, 2, 3, 4, 5]


def test_narrow_ring_and_stored_groups():
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    exact = se.Monitor(model, optimizer, window=4, every=1)
    narrow = se.Monitor(model, optimizer, window=4, every=1, ring_dtype=torch.bfloat16)
    grouped = se.Monitor(model, optimizer, window=4, every=1, store="groups", groups={"first": "0.*"})
    torch.manual_seed(0)
    for seed in range(6):
        train(model, optimizer, 1, seed=seed)
        readings = [m.step() for m in (exact, narrow, grouped)]
    np.testing.assert_allclose(readings[1].sigma[:2], readings[0].sigma[:2], rtol=1e-2)
    np.testing.assert_allclose(readings[2].sigma, readings[0].sigma, rtol=1e-10)
    trace = grouped.trace
    assert trace.segments[0].entries == ("first", "(rest)")
    np.testing.assert_allclose(trace.lag_rows("first"), exact.trace.lag_rows("0.*"), rtol=1e-12)
    with pytest.raises(se.TraceError, match="stored groups"):
        trace.lag_rows("0.weight")


def test_reading_is_frozen_and_explains_itself():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = se.Monitor(model, optimizer, window=3, every=1)
    _, readings = train(model, optimizer, 4, monitor=monitor)
    reading = readings[2]
    with pytest.raises(AttributeError):
        reading.step = 5
    assert reading.alpha_overlap is None
    assert reading.reason("alpha_overlap") is Outcome.HISTORY_TOO_SHORT
    assert reading.reason("k_star_raw") is Outcome.UNINFORMATIVE
    assert reading.events == ()
    assert set(reading.to_dict()) >= {"step", "sigma", "learning_rate", "k_star_clear"}
    assert all(key.startswith("spectral/") for key, _ in reading.scalars())
    for name in (*se.QUANTITIES,):
        assert getattr(reading, name) is reading[name] or np.array_equal(getattr(reading, name), reading[name])


def test_no_warning_in_an_ordinary_run():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = network()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        train(model, optimizer, 30, monitor=se.Monitor(model, optimizer, every=1))


def test_steps_may_be_numbered_from_zero_by_the_user():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = se.Monitor(model, optimizer, window=2, every=1)
    for step in range(4):
        train(model, optimizer, 1, seed=step)
        monitor.step(step=step)
        assert monitor.observed
    assert monitor.trace.steps.tolist() == [0, 1, 2, 3]
    assert monitor.trace.notes == []


def test_a_gradient_that_is_not_finite_does_not_spoil_the_clip_factor():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = se.Monitor(model, optimizer, window=2, every=3)
    for norm in (2.0, float("nan"), float("inf"), float("nan"), float("nan"), float("inf")):
        train(model, optimizer, 1)
        monitor.step(grad_norm=norm, max_grad_norm=1.0)
    factors = monitor.trace.row_metadata("clip_factor")
    assert factors[0] == pytest.approx(0.5)
    assert np.isnan(factors[1])


def test_warnings_point_at_the_users_line():
    monitor = se.Monitor(network(), window=3, every=1)
    with pytest.warns(se.SpectralEdgeWarning) as caught:
        monitor.step(loss="not a number")
    with pytest.warns(se.SpectralEdgeWarning) as again:
        monitor.probe(theta="parameters")
    assert [record.filename for record in (*caught, *again)] == [__file__, __file__]


def test_log_keys_follow_the_chosen_convention():
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    monitor = se.Monitor(model, optimizer, window=6, every=1, k_star="weighted")
    _, readings = train(model, optimizer, 12, monitor=monitor)
    for reading in readings[6:]:
        logged = dict(reading.scalars())
        assert logged["spectral/k_star"] == reading.k_star_weighted
        assert logged["spectral/gap_ratio"] == reading.ratios[reading.k_star_weighted - 1]
        assert all(group.k_star == "weighted" for group in reading.groups.values())


def test_an_irregular_schedule_never_draws_a_table_in_the_loop():
    from spectral_edge.measure.nulls.memory import SHIPPED_INTERVALS, Memory, known_memory
    from spectral_edge.measure.nulls.table import _shipped, key

    assert all(_shipped(key(10, Memory(0.9, interval))) is not None for interval in SHIPPED_INTERVALS)
    assert known_memory(0.9, np.array([0, 7, 14, 20]), every=None) == Memory(0.9, 5.0)
    assert known_memory(0.9, np.array([0, 7, 14]), every=7, stride=2) == Memory(0.9, 14)
    assert known_memory(None, np.array([0, 7]), every=7) is None


@pytest.mark.parametrize("window", [10, pytest.param(17, marks=pytest.mark.slow)])
def test_long_windows_of_many_groups_agree_bit_for_bit_with_the_trace(window):
    """Sums over more than eight entries depend on the order in memory, which must be one for live and recorded rows."""
    model = nn.Sequential(*(nn.Linear(6, 6) for _ in range(7)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    monitor = se.Monitor(model, optimizer, window=window, every=lambda step: step % 5 != 3)
    for seed in range(3 * window):
        torch.manual_seed(seed)
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
        reading = monitor.step()
    trace = monitor.trace
    for group in (None, *trace.groups):
        series, mine = trace.edge(window, group=group), reading if group is None else reading.groups[group]
        for name in se.QUANTITIES:
            value = mine.columns[name].values[mine.index]
            np.testing.assert_array_equal(value, series[name][-1], err_msg=f"{name} of {group}")


def test_the_same_step_number_again_is_the_same_step():
    """Gradient accumulation: step() is called for every micro-batch with the optimizer's step number."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = se.Monitor(model, optimizer, window=2, every=1)
    for call in range(12):
        if call % 3 == 0:
            train(model, optimizer, 1, seed=call)
        monitor.step(step=call // 3 + 1)
        assert monitor.observed == (call % 3 == 0)
    assert monitor.trace.steps.tolist() == [1, 2, 3, 4]
    assert monitor.trace.notes == []


def test_baselines_tell_snapshots_apart():
    """What follows the monitor knows from them whether it has seen all of an update."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = se.Monitor(model, optimizer, window=2, every=2)
    seen = [(monitor.baseline, monitor.elapsed)]
    for _ in range(4):
        train(model, optimizer, 1)
        monitor.step()
        seen.append((monitor.baseline, monitor.elapsed))
    assert seen == [((0, 0), 0), ((0, 0), 1), ((0, 1), 0), ((0, 1), 1), ((0, 2), 0)]
    monitor.step()
    monitor.step()  # nothing moved: the snapshot is still the one that the next update starts from
    assert (monitor.baseline, monitor.elapsed) == ((0, 2), 2)
    state = copy.deepcopy(monitor.state_dict())
    with torch.no_grad():
        model[0].weight[0, 0] = float("nan")
    monitor.step()
    with pytest.warns(se.SpectralEdgeWarning, match="not finite"):
        monitor.step()
    assert (monitor.baseline, monitor.elapsed) == ((0, 3), 0)
    other = se.Monitor(network(), optimizer, window=2, every=2)
    other.load_state_dict(state)
    assert (other.baseline, other.elapsed) == ((1, 2), 2)


def test_what_a_monitor_watches_and_keeps():
    model = network()
    exact = se.Monitor(model, select="3.*")
    assert exact.watched == ("3.weight", "3.bias")
    assert exact.keeps_updates
    assert not se.Monitor(model, engine="sketch", cells=4096, groups={"all": "*"}).keeps_updates
    with pytest.warns(se.SpectralEdgeWarning, match="step 0: the loss is odd"):
        exact.note(Outcome.FAILED, "the loss is odd")
    assert [(note.step, note.outcome) for note in exact.trace.notes] == [(0, Outcome.FAILED)]


def test_parameters_broken_from_the_start_are_said_once():
    model = network()
    with torch.no_grad():
        model[0].bias[0] = float("nan")
    monitor = se.Monitor(model, window=2, every=1)
    with pytest.warns(se.SpectralEdgeWarning, match=r"0\.bias is not finite"):
        monitor.step()
    assert monitor.step() is None
    assert [note.outcome for note in monitor.trace.notes] == [Outcome.NON_FINITE]


def test_rounding_away_is_said_without_a_step_count_too():
    weight = nn.Parameter(torch.ones(100, dtype=torch.bfloat16))
    optimizer = torch.optim.SGD([weight], lr=1e-6)
    monitor = se.Monitor({"w": weight}, optimizer, window=2, every=1)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    with pytest.warns(se.SpectralEdgeWarning, match="either it did not step, or its updates round away"):
        monitor.step()
    assert monitor.step() is None


def test_a_failed_observation_restarts_the_window(monkeypatch):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = se.Monitor(model, optimizer, window=2, every=1)
    train(model, optimizer, 3, monitor=monitor)

    def fail(*args, **kwargs):
        raise RuntimeError("device lost")

    with monkeypatch.context() as patch:
        patch.setattr(monitor._recorder.ring, "push", fail)
        with pytest.warns(se.SpectralEdgeWarning, match="device lost"):
            train(model, optimizer, 1, monitor=monitor)
    with pytest.warns(se.SpectralEdgeWarning, match="window restarts"):
        train(model, optimizer, 1, monitor=monitor)
    _, readings = train(model, optimizer, 3, monitor=monitor)
    assert [r is not None for r in readings] == [False, True, True]
    assert monitor.trace.steps.tolist() == [1, 2, 3, 6, 7, 8]
    norms = np.sqrt(monitor.trace.lag_rows()[:, 0])
    assert norms.max() < 3 * norms.min()  # no row is the sum of two updates
    assert np.isnan(monitor.trace.lag_rows()[3, 1])


def test_misspelt_arguments_are_said_at_once():
    monitor = se.Monitor(network(), window=2, every=1)
    with pytest.raises(TypeError, match="losses"):
        monitor.step(losses=1.0)
    with pytest.warns(se.SpectralEdgeWarning, match="loss is not a number"):
        monitor.step(loss="high")


def test_groups_in_another_order_than_the_tensors_keep_their_rows():
    layer = nn.Linear(20, 20)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    groups = {"b": "bias", "w": "weight"}
    stored = {
        store: se.Monitor(layer, optimizer, window=2, every=1, groups=groups, store=store)
        for store in ("groups", "tensors")
    }
    for _ in range(3):
        layer(torch.randn(8, 20)).square().sum().backward()
        optimizer.step()
        readings = {store: monitor.step() for store, monitor in stored.items()}
    for group in groups:
        values = [readings[store].groups[group].update_norm for store in stored]
        values += [monitor.trace.edge(2, group=group)["update_norm"][-1] for monitor in stored.values()]
        assert values == pytest.approx([values[0]] * 4)


def test_a_segment_that_cannot_be_opened_is_kept_in_memory(tmp_path):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = se.Monitor(model, optimizer, window=2, every=1, out=tmp_path / "t")
    train(model, optimizer, 3, monitor=monitor)
    monitor.trace  # noqa: B018 - the segment is open
    shutil.rmtree(tmp_path / "t")
    model[0].requires_grad_(False)
    with pytest.warns(se.SpectralEdgeWarning):
        train(model, optimizer, 1, monitor=monitor)
    train(model, optimizer, 3, monitor=monitor)
    assert monitor.trace.steps.tolist() == [5, 6, 7]


@pytest.mark.parametrize("case", ["missing rows", "another run", "no folder"])
def test_a_resume_is_never_chained_to_rows_that_do_not_precede_it(tmp_path, case):
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    monitor = se.Monitor(model, optimizer, window=3, every=1, out=tmp_path / "a")
    train(model, optimizer, 8, monitor=monitor)
    state = copy.deepcopy(monitor.state_dict())
    monitor.close()
    folder = tmp_path / ("a" if case == "missing rows" else "b")
    if case == "missing rows":
        rows = folder / "segment-000" / "rows.npy"
        rows.write_bytes(rows.read_bytes()[: -2 * 8 * 6 * 6 - 500])
    if case == "another run":
        other = network(seed=5)
        with se.Monitor(other, window=3, every=1, out=folder) as stranger:
            train(other, torch.optim.SGD(other.parameters(), lr=0.1), 9, monitor=stranger)
    resumed = se.Monitor(model, optimizer, window=3, every=1, out=folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", se.SpectralEdgeWarning)
        resumed.load_state_dict(state)
        _, readings = train(model, optimizer, 5, monitor=resumed, seed=2)
        series = resumed.trace.edge(3)
    assert all(reading is not None for reading in readings)
    assert series.step.tolist() == [11, 12, 13]
    for index, reading in enumerate(readings[2:]):
        np.testing.assert_array_equal(series["sigma"][index], reading.sigma)


def test_resuming_with_other_groups_starts_them_anew():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = se.Monitor(model, optimizer, window=2, every=1, groups={"x": "0.*", "y": "3.*"})
    train(model, optimizer, 4, monitor=monitor)
    other = se.Monitor(model, optimizer, window=2, every=1, groups={"x": "3.*", "y": "0.*"})
    other.load_state_dict(monitor.state_dict())
    _, (first,) = train(model, optimizer, 1, monitor=other)
    assert first.sigma is not None
    assert first.groups["x"].sigma is None
    _, (second,) = train(model, optimizer, 1, monitor=other)
    np.testing.assert_allclose(second.groups["x"].sigma, other.trace.edge(2, group="3.*")["sigma"][-1])


def test_two_monitors_on_one_folder_read_their_own(tmp_path):
    models = [network(), nn.Linear(3, 4)]
    monitors = []
    for model in models:
        monitor = se.Monitor(model, window=2, every=1, out=tmp_path / "t")
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1.0)
        monitor.step()
        monitors.append(monitor)
    for model, monitor in zip(models, monitors, strict=True):
        assert monitor.trace.parameter_count == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    "wrong",
    [{"groups": ["weight"]}, {"ring_dtype": "float"}, {"ring_device": "xpu9"}, {"window": 10.0}, {"horizon": 10**7}],
)
def test_odd_arguments_are_refused_in_our_words(wrong):
    with pytest.raises(se.InputError, match=r"expected .*, got .*; "):
        se.Monitor(nn.Linear(200, 200), **wrong)


def test_swapped_and_foreign_arguments_are_refused():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(se.InputError, match="Monitor\\(model, optimizer\\)"):
        se.Monitor(optimizer, model)
    for state in ({}, None, model.state_dict()):
        with pytest.raises(se.InputError, match=r"Monitor\.state_dict"):
            se.Monitor(model).load_state_dict(state)


def test_damaged_traces_are_named(tmp_path):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with se.Monitor(model, optimizer, window=2, every=1, out=tmp_path / "t") as monitor:
        train(model, optimizer, 3, monitor=monitor)
        monitor.log(a=1.0)
        monitor.log(b=1.0)
    segment = tmp_path / "t" / "segment-000"
    (tmp_path / "t" / "segment-000 copy").mkdir()
    log, header = (segment / "log.jsonl").read_text(), (segment / "segment.json").read_text()
    (segment / "log.jsonl").write_text("{broken" + log)
    with pytest.raises(se.TraceError, match=r"log\.jsonl.*remove that line"):
        se.open_trace(tmp_path / "t")
    (segment / "log.jsonl").write_text(log)
    (segment / "segment.json").write_text(header.replace('"entries"', '"entrys"'))
    with pytest.raises(se.TraceError, match="expected the entry entries"):
        se.open_trace(tmp_path / "t")
