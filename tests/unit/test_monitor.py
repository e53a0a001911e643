"""The monitor in a training loop: it changes nothing, never raises, and says what happened."""

import copy
import itertools
import os
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
                if name == "regime":
                    continue
                value = np.asarray(np.nan if mine[name] is None else mine[name], dtype=float)
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
    from spectral_edge.live import _INTERVALS
    from spectral_edge.measure.nulls import Memory
    from spectral_edge.measure.nulls.table import _shipped, key

    assert all(_shipped(key(10, Memory(0.9, interval))) is not None for interval in _INTERVALS)
