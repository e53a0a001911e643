"""The sketch engine: one plan for every backend and sharding, unbiased, as accurate as it says."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import spectral_edge as se
from spectral_edge.errors import Outcome
from spectral_edge.measure import grams, sketch_error, spectrum
from spectral_edge.observe import ExactRing, Shard, SketchPlan, SketchRing
from spectral_edge.observe.fold import NumbaFold, TorchFold, numba_available

CPU = torch.device("cpu")
compiled = pytest.mark.skipif(not numba_available(), reason="needs the extra fast")


def folds(plan):
    return [TorchFold(plan, CPU), *([NumbaFold(plan)] if numba_available() else [])]


def dense(plan, tensors):
    """The definition, one value at a time."""
    cells = np.zeros(plan.cells)
    for group in plan.groups:
        whole = np.concatenate([tensors[member].numpy().ravel() for member in group.members]).astype(np.float64)
        for position, value in enumerate(whole):
            chunk, at = divmod(position, group.cells)
            block, inside = divmod(position, group.block)
            sign = int(plan.table[group.offset[block] + inside]) * int(group.sign[chunk])
            cells[group.first + (at + group.rotation[chunk]) % group.cells] += sign * value
    return cells


@given(st.integers(0, 2**31), st.sampled_from([64, 300, 1000]), st.sampled_from([torch.float32, torch.float64]))
def test_backends_follow_the_definition(seed, cells, dtype):
    rng = np.random.default_rng(seed)
    sizes = [int(size) for size in rng.integers(1, 900, size=5)]
    plan = SketchPlan.make(sizes, {"a": (0, 2), "b": (1,), "c": (4, 3)}, cells=cells, seed=seed % 1000)
    tensors = [torch.from_numpy(rng.standard_normal(size)).to(dtype) for size in sizes]
    truth = dense(plan, tensors)
    for fold in folds(plan):
        np.testing.assert_allclose(fold.fold([Shard(t) for t in tensors]).numpy(), truth, rtol=1e-12, atol=1e-11)


@given(st.integers(0, 2**31), st.integers(1, 6))
def test_shards_add_up_to_the_whole(seed, ranks):
    """Rows of a tensor split among ranks give the same cells after one sum."""
    rng = np.random.default_rng(seed)
    sizes = [700, 40, 1300]
    plan = SketchPlan.make(sizes, {"a": (0, 1), "b": (2,)}, cells=200)
    tensors = [torch.from_numpy(rng.standard_normal(size)) for size in sizes]
    for fold in folds(plan):
        whole = fold.fold([Shard(t) for t in tensors])
        parts = torch.zeros_like(whole)
        for rank in range(ranks):
            shards = []
            for tensor in tensors:
                start, stop = (len(tensor) * at // ranks for at in (rank, rank + 1))
                shards.append(Shard(tensor[start:stop], tuple(tensor.shape), start) if stop > start else None)
            parts += fold.fold(shards)
        np.testing.assert_allclose(parts.numpy(), whole.numpy(), rtol=1e-12, atol=1e-11)


def test_half_precision_is_folded_as_it_is():
    values = torch.randn(5000, generator=torch.Generator().manual_seed(0)).bfloat16()
    plan = SketchPlan.make([5000], {"a": (0,)}, cells=512)
    cells = [fold.fold([Shard(values)]) for fold in folds(plan)]
    for other in cells:
        np.testing.assert_allclose(other.numpy(), dense(plan, [values.float()]), rtol=1e-12, atol=1e-11)


def test_cells_are_divided_and_small_groups_are_exact():
    plan = SketchPlan.make([10, 5000, 8000, 30], {"a": (0, 3), "b": (1,), "c": (2,)}, cells=1000)
    assert [group.cells for group in plan.groups] == [40, 480, 480]
    assert plan.groups[0].exact
    assert plan.groups[0].error == 0
    assert plan.groups[1].error == pytest.approx(1 / np.sqrt(960))
    errors = np.array([group.error for group in plan.groups])
    assert sketch_error(np.array([1.0, 0.0, 0.0]), errors) == 0
    assert sketch_error(np.array([0.0, 2.0, 0.0]), errors) == pytest.approx(errors[1])
    assert sketch_error(np.array([0.0, 1.0, 1.0]), errors) == pytest.approx(errors[1] / np.sqrt(2))


def test_inner_products_are_unbiased_with_the_stated_variance():
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((2, 6000))
    y = 0.6 * x + 0.8 * y
    found = []
    for seed in range(400):
        plan = SketchPlan.make([6000], {"a": (0,)}, cells=300, seed=seed)
        fold = folds(plan)[-1]
        first, second = (fold.fold([Shard(torch.from_numpy(v))]) for v in (x, y))
        found.append(float(first @ second))
    truth = x @ y
    spread = np.sqrt((x @ x * (y @ y) + truth**2) / 300)
    assert np.mean(found) == pytest.approx(truth, abs=4 * spread / np.sqrt(400))
    assert np.std(found) == pytest.approx(spread, rel=4 / np.sqrt(2 * 400) + 0.05)


def test_acceptance_11_error_of_an_isolated_value():
    """d = 1000: mean |error| of an isolated sigma_1 is 1.8 +- .3 %."""
    rng = np.random.default_rng(11)
    direction = rng.standard_normal(20_000)
    updates = rng.standard_normal((10, 20_000)) + 3 * direction
    truth = np.linalg.svd(updates, compute_uv=False)[0]
    errors = []
    for seed in range(60):
        plan = SketchPlan.make([20_000], {"a": (0,)}, cells=1000, seed=seed)
        fold = folds(plan)[-1]
        rows = torch.stack([fold.fold([Shard(torch.from_numpy(update))]) for update in updates]).numpy()
        errors.append(abs(np.linalg.svd(rows, compute_uv=False)[0] / truth - 1))
    assert np.mean(errors) == pytest.approx(0.018, abs=0.003 + 4 * np.std(errors) / np.sqrt(60))
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(plan.groups[0].error, rel=4 / np.sqrt(120))


def test_periodic_and_constant_updates_are_not_folded_onto_themselves():
    """Worst cases of folds without rotation or without a sign for each value."""
    size, cells = 1 << 18, 4096
    period = np.tile(np.random.default_rng(3).standard_normal(cells), size // cells)
    block = np.zeros(size)
    block[:: size // 64] = 1.0
    for values in (period, np.ones(size), block):
        found = []
        for seed in range(20):
            plan = SketchPlan.make([size], {"a": (0,)}, cells=cells, seed=seed)
            cells_ = folds(plan)[-1].fold([Shard(torch.from_numpy(values))])
            found.append(float(cells_ @ cells_) / float(values @ values))
        assert np.sqrt(np.mean((np.array(found) - 1) ** 2)) < 4 * np.sqrt(2 / cells)


@pytest.mark.parametrize("scale", [1e-4, 1e-6])
def test_small_updates_of_large_parameters_do_not_cancel(scale):
    """Cells are float64, so the difference of two sketches keeps an update of a millionth of the parameters."""
    rng = np.random.default_rng(5)
    start = rng.standard_normal(50_000)
    updates = scale * rng.standard_normal((8, 50_000))
    path = np.vstack([start, start + np.cumsum(updates, axis=0)])
    plan = SketchPlan.make([50_000], {"a": (0,)}, cells=4096)
    for backend in ("torch", *(["numba"] if numba_available() else [])):
        ring = SketchRing([Shard(torch.from_numpy(path[0]))], 8, plan=plan, backend=backend)
        rows = [ring.push([Shard(torch.from_numpy(row))]).lags[0] for row in path[1:]]
        fold = folds(plan)[0]
        direct = torch.stack([fold.fold([Shard(torch.from_numpy(update))]) for update in updates]).numpy()
        found = spectrum(grams(np.array(rows), np.array([7]), size=8)).sigma[0]
        np.testing.assert_allclose(found, np.linalg.svd(direct, compute_uv=False), rtol=1e-7)


def run(engine, *, steps=40, cells=4096, **options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 200), nn.Tanh(), nn.Linear(200, 60), nn.Tanh(), nn.Linear(60, 5))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    monitor = se.Monitor(model, optimizer, window=6, every=1, engine=engine, cells=cells, **options)
    readings = []
    for _ in range(steps):
        x = torch.randn(64, 40)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), x[:, :5].argmax(1))
        loss.backward()
        optimizer.step()
        readings.append(monitor.step(loss=loss))
        if monitor.observed:
            monitor.probe(theta="parameters", gradient={n: p.grad for n, p in model.named_parameters()})
    return model, optimizer, monitor, readings


def test_sketched_readings_agree_with_exact_ones_within_their_error():
    exact_model, _, exact, truth = run("exact")
    model, _, monitor, readings = run("sketch")
    for a, b in zip(exact_model.parameters(), model.parameters(), strict=True):
        assert torch.equal(a, b)
    errors = []
    for mine, theirs in zip(readings, truth, strict=True):
        if mine is None:
            continue
        assert 0 < mine.sketch_error < 0.03
        errors.append((mine.sigma[0] / theirs.sigma[0] - 1) / mine.sketch_error)
        np.testing.assert_allclose(mine.sigma, theirs.sigma, rtol=0.12)
    assert np.sqrt(np.mean(np.square(errors))) < 2.5  # windows overlap, so these are far from independent
    assert monitor.trace.segments[0].entries == ("0", "2", "4")
    series, group = monitor.trace.edge(6), monitor.trace.edge(6, group="4")
    assert series["sketch_error"][-1] == readings[-1].sketch_error
    assert group["sketch_error"][-1] == 0  # 305 parameters are kept exactly
    np.testing.assert_allclose(group["sigma"], exact.trace.edge(6, group="4")["sigma"], rtol=1e-6)
    for name in ("sigma", "k_star_raw", "band_max"):
        np.testing.assert_array_equal(series[name][-1], readings[-1].columns[name].values[0])
    mine, theirs = monitor.trace.probes("theta")[5], exact.trace.probes("theta")[5]
    assert mine.square.sum() == pytest.approx(theirs.square.sum(), rel=0.1)
    assert mine.products["gradient"].shape == (3,)
    assert np.isfinite(mine.following).all()


def test_k_star_inside_the_sketch_error_is_refused():
    torch.manual_seed(0)
    parameter = torch.zeros(400_000)
    monitor = se.Monitor({"w": parameter}, window=6, every=1, engine="sketch", cells=1024)
    for _ in range(8):
        parameter += torch.randn(400_000)  # a flat spectrum
        reading = monitor.step()
    assert reading.k_star_raw is None
    assert reading.reason("k_star_raw") is Outcome.TIED
    assert reading.gap_ratio is None


def test_resume_of_a_sketch_is_bit_identical(tmp_path):
    import copy

    *_, truth = run("sketch", steps=30)
    model, optimizer, monitor, _ = run("sketch", steps=20, out=tmp_path / "t")
    random = torch.get_rng_state()
    torch.save(monitor.state_dict(), tmp_path / "state.pt")
    monitor.close()
    twin = copy.deepcopy(model)
    resumed = se.Monitor(model, optimizer, window=6, every=1, engine="sketch", cells=4096, out=tmp_path / "t")
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    torch.set_rng_state(random)
    for step in range(20, 30):
        x = torch.randn(64, 40)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), x[:, :5].argmax(1)).backward()
        optimizer.step()
        np.testing.assert_array_equal(resumed.step().sigma, truth[step].sigma)
    with pytest.raises(se.InputError, match="sketch engine's"):
        se.Monitor(twin, window=6, engine="sketch", cells=512).load_state_dict(monitor.state_dict())
    with pytest.raises(se.InputError):
        se.Monitor(twin, window=6, engine="exact").load_state_dict(monitor.state_dict())


def test_the_engine_is_chosen_by_size():
    small, large = nn.Linear(100, 100), nn.Linear(300, 300)
    assert se.Monitor(small, window=2, cells=1000).trace.metadata["engine"]["name"] == "exact"
    chosen = se.Monitor(large, window=2, cells=1000).trace.metadata["engine"]
    assert chosen["name"] == "sketch"
    assert sum(chosen["cells"]) == 1000
    with pytest.raises(se.InputError, match="groups that share no tensor"):
        se.Monitor(large, window=2, engine="sketch", groups={"a": "*", "b": "weight"})
    for wrong in ({"cells": 0}, {"backend": "magic"}):
        with pytest.raises(se.InputError):
            se.Monitor(large, window=2, **wrong)


def test_broken_and_unmoving_parameters_are_seen():
    parameter = torch.zeros(5000)
    monitor = se.Monitor({"w": parameter}, window=2, every=1, engine="sketch", cells=100)
    assert monitor.step() is None
    for _ in range(3):
        parameter += torch.randn(5000)
        monitor.step()
    parameter[3] = float("nan")
    with pytest.warns(se.SpectralEdgeWarning, match="w is not finite"):
        monitor.step()
    parameter[3] = 0.0
    for _ in range(4):
        parameter += torch.randn(5000)
        reading = monitor.step()
    assert reading is not None
    assert [note.outcome for note in monitor.trace.notes] == [Outcome.SKIPPED, Outcome.NON_FINITE]


def test_the_exact_ring_and_an_exact_sketch_agree():
    rng = np.random.default_rng(7)
    path = np.cumsum(rng.standard_normal((8, 900)), axis=0)
    plan = SketchPlan.make([900], {"a": (0,)}, cells=2000)
    exact, sketch = (
        ExactRing([Shard(torch.from_numpy(path[0]))], 5),
        SketchRing([Shard(torch.from_numpy(path[0]))], 5, plan=plan),
    )
    for row in path[1:]:
        one, other = exact.push([Shard(torch.from_numpy(row))]), sketch.push([Shard(torch.from_numpy(row))])
        np.testing.assert_allclose(other.lags, one.lags, rtol=1e-10)


def test_parameters_that_a_sketch_cannot_reach_are_refused():
    there, elsewhere = torch.zeros(50), torch.zeros(50, device="meta")
    plan = SketchPlan.make([50, 50], {"a": (0, 1)}, cells=10)
    with pytest.raises(se.InputError, match="parameters on one device, got cpu, meta"):
        SketchRing([Shard(there), Shard(elsewhere)], 3, plan=plan)
    with pytest.raises(se.InputError, match="numba on meta"):
        SketchRing([Shard(elsewhere), Shard(elsewhere)], 3, plan=plan, backend="numba")


@pytest.mark.parametrize("seed", [601, 802, *range(40)])
def test_no_two_chunks_meet_with_equal_signs(seed):
    """What repeats from chunk to chunk would add up: with seeds 601 and 802 it once did, by 2 to 3 %."""
    plan = SketchPlan.make([2_100_000], {"all": [0]}, seed=seed)
    group = plan.groups[0]
    places = np.repeat(group.offset, group.block // group.cells)[: len(group.rotation)] - group.rotation
    assert len(np.unique(places % group.cells)) == len(group.rotation)


def test_rotations_are_uniform():
    """Every cell is hit by a value as often as by chance: chi square within four standard errors."""
    width, seeds = 64, 600
    counts = np.zeros(width)
    for seed in range(seeds):
        rotation = SketchPlan.make([1000], {"all": [0]}, cells=width, seed=seed).groups[0].rotation
        counts += np.bincount(rotation, minlength=width)
    expected = counts.sum() / width
    chi = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi - (width - 1)) < 4 * np.sqrt(2 * (width - 1))
