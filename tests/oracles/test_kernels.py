"""Compiled kernels against brute force: every fold gives the same cells, the fused ring the same products."""

import os
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spectral_edge.errors import InputError
from spectral_edge.observe import Shard, SketchPlan
from spectral_edge.observe.fold import NumbaFold, TorchFold, make_fold, numba_available
from spectral_edge.observe.shards import RUN, sample_places

CPU = torch.device("cpu")
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
interpreted = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1" or find_spec("triton") is None,
    reason="without a GPU triton runs only with TRITON_INTERPRET=1",
)
compiled = pytest.mark.skipif(not numba_available(), reason="needs the extra fast")


def random(size, rng, dtype=torch.float32):
    return torch.from_numpy(rng.standard_normal(size)).to(dtype)


def transposed(rows, columns, rng):
    return random(rows * columns, rng).reshape(columns, rows).T


def folds(plan):
    return [TorchFold(plan, CPU), *([NumbaFold(plan)] if numba_available() else [])]


def definition(plan, shards):
    """Cells by the definition, and the norm that rounding is measured against."""
    cells, square = np.zeros(plan.cells), 0.0
    for group in plan.groups:
        for member, start in zip(group.members, group.starts, strict=True):
            if shards[member] is None:
                continue
            values = shards[member].values.double().numpy()
            position = start + shards[member].start + np.arange(len(values))
            chunk, at = np.divmod(position, group.cells)
            block, inside = np.divmod(position, group.block)
            sign = plan.table[group.offset[block] + inside].astype(float) * group.sign[chunk]
            np.add.at(cells, group.first + (at + group.rotation[chunk]) % group.cells, sign * values)
            with np.errstate(over="ignore"):
                square += values @ values
    return cells, np.sqrt(square)


def check(plan, shards):
    truth, norm = definition(plan, shards)
    for fold in folds(plan):
        found = fold.fold(shards)
        assert found.dtype == torch.float64
        assert np.linalg.norm(found.numpy() - truth) <= 1e-12 * norm, fold.name


@pytest.mark.parametrize("dtype", DTYPES)
@given(seed=st.integers(0, 2**31), cells=st.sampled_from([7, 64, 601, 3000]))
def test_folds_follow_the_definition_in_every_dtype(dtype, seed, cells):
    """Odd sizes, tensors shorter than a chunk and of many chunks, one empty."""
    rng = np.random.default_rng(seed)
    sizes = [int(size) for size in rng.choice([0, 1, 3, 37, 500, 4099, 9001], size=9)]
    sizes[0] = max(sizes[0], 1)
    plan = SketchPlan.make(sizes, {"a": (0, 2, 5, 6), "b": (7, 3), "c": (1, 4, 8)}, cells=cells, seed=seed % 97)
    check(plan, [Shard(random(size, rng, dtype)) for size in sizes])


@given(seed=st.integers(0, 2**31))
def test_folds_of_mixed_dtypes_shards_and_gaps(seed):
    rng = np.random.default_rng(seed)
    sizes = [int(size) for size in rng.integers(20, 6000, size=8)]
    plan = SketchPlan.make(sizes, {"a": range(5), "b": range(5, 8)}, cells=500, seed=seed % 97)
    shards = []
    for size in sizes:
        start, stop = np.sort(rng.integers(0, size + 1, size=2))
        held = Shard(random(int(stop - start), rng, DTYPES[rng.integers(4)]), (size,), int(start))
        shards.append(None if rng.random() < 0.2 else held)
    check(plan, shards)


@pytest.mark.parametrize("dtype", DTYPES)
def test_subnormal_and_extreme_values_are_folded(dtype):
    limits = torch.finfo(dtype)
    values = [limits.max / 2, -limits.max / 2, limits.tiny, -limits.tiny, limits.smallest_normal / 4, -0.0, 1.0]
    plan = SketchPlan.make([len(values)], {"a": (0,)}, cells=100)
    for value in values:  # one at a time, since the largest hide the others
        shards = [Shard(torch.tensor([value] * len(values), dtype=torch.float64).to(dtype))]
        truth, _ = definition(plan, shards)
        for fold in folds(plan):
            np.testing.assert_array_equal(fold.fold(shards).numpy(), truth)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_broken_values_reach_their_cell_alone(dtype, value):
    rng = np.random.default_rng(0)
    plan = SketchPlan.make([5000, 700], {"a": (0,), "b": (1,)}, cells=400)
    tensors = [random(5000, rng, dtype), random(700, rng, dtype)]
    tensors[0][1234] = value
    for fold in folds(plan):
        broken = ~torch.isfinite(fold.fold([Shard(t) for t in tensors]))
        assert int(broken.sum()) == 1, fold.name
        assert int(broken.nonzero()) < plan.groups[0].cells


def test_folds_follow_tensors_that_move_shrink_or_have_gaps():
    """Tables made for one set of addresses must not serve another."""
    rng = np.random.default_rng(1)
    plan = SketchPlan.make([3000, 3000], {"a": (0, 1)}, cells=256)
    base = random(12_000, rng)
    for numba_or_torch in folds(plan):
        for first, second in [
            (Shard(base[:3000]), Shard(base[3000:6000])),
            (Shard(base[:3000]), Shard(base[5000:8000])),
            (Shard(base[:2000]), Shard(base[5000:8000])),
            (Shard(base[:2000], (3000,), 500), Shard(base[5000:8000])),
            (Shard(base[: 2 * 3000 : 2]), None),
            (Shard(base[:3000].bfloat16()), Shard(base[3000:6000])),
        ]:
            truth, norm = definition(plan, [first, second])
            found = numba_or_torch.fold([first, second]).numpy()
            assert np.linalg.norm(found - truth) <= 1e-12 * norm


def test_folds_read_values_that_are_copied_whenever_asked_for():
    rng = np.random.default_rng(8)
    plan = SketchPlan.make([4200, 37, 4200, 4200], {"a": range(4)}, cells=500)
    shards = [Shard(transposed(70, 60, rng)), Shard(random(37, rng)), *(Shard(transposed(60, 70, rng)) for _ in "ab")]
    assert not shards[0].resident
    for _ in range(3):
        check(plan, shards)


def test_folds_repeat_to_the_bit():
    rng = np.random.default_rng(2)
    plan = SketchPlan.make([90_000, 11], {"a": (0, 1)}, cells=1000)
    shards = [Shard(random(90_000, rng)), Shard(random(11, rng))]
    for fold in folds(plan):
        assert torch.equal(fold.fold(shards), fold.fold(shards))


def as_array(tensor):
    return tensor.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


class Ring:
    """What the exact engine does with the kernel, one bank of it."""

    def __init__(self, tensors, horizon, dtype):
        self.tensors, self.slot = tensors, -1
        self.stops = np.cumsum([t.numel() for t in tensors])
        self.starts = np.append(0, self.stops[:-1])
        self.offsets = np.array([100 * index for index in range(len(tensors))])
        self.previous = torch.cat(tensors)
        self.rows = torch.zeros((horizon, len(self.previous)), dtype=dtype)

    def advance(self, kept, every=7):
        from spectral_edge.observe import kernels

        self.slot = (self.slot + 1) % len(self.rows)
        addresses = np.array([t.data_ptr() for t in self.tensors])
        sums = np.full((len(self.tensors), kept), np.nan)
        places = addresses, self.starts, self.stops, self.offsets
        found = kernels.advance(
            *places, as_array(self.previous), as_array(self.rows), self.slot, kept, every, RUN, sums
        )
        return sums, *found

    def brute(self, vector, kept):
        wide = self.rows[:kept].double().numpy().astype(np.longdouble)
        return np.add.reduceat((wide * vector).T, self.starts, axis=0)


@compiled
@pytest.mark.parametrize(
    ("dtype", "kept_dtype"),
    [
        (torch.float32, torch.float32),
        (torch.float32, torch.bfloat16),
        (torch.float32, torch.float64),
        (torch.float64, torch.float64),
        (torch.float64, torch.float32),
        (torch.float64, torch.bfloat16),
        (torch.bfloat16, torch.bfloat16),
        (torch.bfloat16, torch.float32),
    ],
)
def test_the_fused_ring_is_torch_and_extended_precision(dtype, kept_dtype):
    from spectral_edge.observe import kernels

    rng = np.random.default_rng(3)
    tensors = [random(size, rng, dtype) for size in (1, 5000, 130, 20_001, 2048)]
    ring = Ring(tensors, 4, kept_dtype)
    for step in range(9):
        before = ring.previous.clone()
        for tensor in tensors:
            tensor += (0.01 * random(len(tensor), rng, torch.float64) * 10.0 ** rng.integers(-3, 3)).to(dtype)
        tensors[2].copy_(before[5001:5131])  # one tensor that does not move
        kept = min(step + 1, 4)
        sums, norm, moved, changed = ring.advance(kept)
        now = torch.cat(tensors)
        assert torch.equal(ring.previous, now)
        assert torch.equal(ring.rows[ring.slot], (now - before).to(kept_dtype))
        newest = ring.rows[ring.slot].double().numpy().astype(np.longdouble)
        truth = ring.brute(newest, kept)
        scale = np.sqrt(
            truth[:, [ring.slot]] * np.stack([ring.brute(row, kept)[:, i] for i, row in rows_of(ring, kept)]).T
        )
        assert np.all(np.abs(sums - truth) <= 2.3e-16 * scale)
        np.testing.assert_allclose(norm, float((now.double() ** 2).sum()), rtol=1e-14)
        spans = zip(ring.starts, ring.stops, ring.offsets, strict=True)
        looked = torch.cat([a + sample_places(int(f), int(b - a), 7) for a, b, f in spans])
        assert moved == int(torch.count_nonzero(ring.rows[ring.slot, looked]))
        assert changed
        other = random(len(now), rng, dtype)
        found = np.empty((len(tensors), kept))
        kernels.products(as_array(other), ring.starts, ring.stops, as_array(ring.rows), kept, -1, found)
        wide = other.double().numpy().astype(np.longdouble)
        np.testing.assert_allclose(
            found, ring.brute(wide, kept).astype(float), rtol=1e-12, atol=1e-15 * np.abs(scale).max()
        )
    assert not ring.advance(4)[3]


def rows_of(ring, kept):
    return [(i, ring.rows[i].double().numpy().astype(np.longdouble)) for i in range(kept)]


@compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_fused_ring_shows_broken_values(dtype, value):
    rng = np.random.default_rng(4)
    tensors = [random(3000, rng, dtype), random(50, rng, dtype)]
    ring = Ring(tensors, 3, dtype)
    tensors[0][1000] = value
    tensors[1] += 1
    sums, norm, _, changed = ring.advance(2)
    assert not np.isfinite(sums[0, 0])
    assert np.isfinite(sums[1, 0])
    assert not np.isfinite(norm)
    assert changed


@compiled
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", ["cluster", "geometric"])
@pytest.mark.parametrize("columns", [50_000, 200_000, 200_003])
def test_the_fused_ring_keeps_the_smallest_value_at_condition_a_million(dtype, shape, columns):
    from spectral_edge.measure import grams, spectrum

    rng = np.random.default_rng(5)
    sigma = np.append(np.linspace(2, 1, 9), 2e-6) if shape == "cluster" else np.geomspace(1, 1e-6, 10)
    left = np.linalg.qr(rng.standard_normal((10, 10)))[0]
    right = np.linalg.qr(rng.standard_normal((columns, 10)))[0]
    updates = ((left * sigma) @ right.T).astype(dtype)
    tensor = torch.zeros(columns, dtype=torch.from_numpy(updates).dtype)
    ring = Ring([tensor], 10, tensor.dtype)
    rows = np.full((10, 10), np.nan)
    for step, update in enumerate(updates):
        tensor.copy_(torch.from_numpy(update))
        rows[step, : step + 1] = ring.advance(step + 1)[0][0, ::-1]
        ring.previous.zero_()
    found = spectrum(grams(rows, np.array([9]), size=10)).sigma[0]
    np.testing.assert_allclose(found, np.linalg.svd(updates.astype(np.float64), compute_uv=False), rtol=2e-5)


@interpreted
@pytest.mark.parametrize("cells", [7, 1500])
def test_interpreted_triton_follows_the_definition(cells):
    """Every dtype, gaps, shards from the middle of a tensor, addresses that change, and a value that is not finite."""
    from spectral_edge.observe.triton_fold import TritonFold

    rng = np.random.default_rng(7)
    sizes = [4099, 1, 37, 9001 if cells > 1000 else 90, 500, 700]
    plan = SketchPlan.make(sizes, {"a": (0, 1, 2), "b": (3, 4, 5)}, cells=cells)
    fold = TritonFold(plan, CPU)
    for case in range(6):
        shards = [Shard(random(size, rng, DTYPES[case % 4] if case < 4 else DTYPES[rng.integers(4)])) for size in sizes]
        if case >= 3:
            shards[1], shards[3] = None, Shard(shards[3].values[11:70].clone(), shards[3].shape, 11)
        if case == 5:
            shards[4:] = [Shard(transposed(25, 20, rng)), Shard(transposed(35, 20, rng))]
        truth, norm = definition(plan, shards)
        found = fold.fold(shards)
        assert np.linalg.norm(found.numpy() - truth) <= 1e-12 * norm
        assert torch.equal(found, fold.fold(shards))
    shards[0].values[100] = float("nan")
    assert int((~torch.isfinite(fold.fold(shards))).sum()) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", DTYPES)
def test_triton_follows_the_definition_on_a_gpu(dtype):
    triton_fold = pytest.importorskip("spectral_edge.observe.triton_fold")
    rng = np.random.default_rng(6)
    sizes = [300_000, 17, 4099, 1_000_000]
    plan = SketchPlan.make(sizes, {"a": (0, 1, 2), "b": (3,)}, cells=20_000)
    device = torch.device("cuda", 0)
    here = [Shard(random(size, rng, dtype)) for size in sizes]
    there = [Shard(shard.values.to(device)) for shard in here]
    truth, norm = definition(plan, here)
    for fold in (TorchFold(plan, device), triton_fold.TritonFold(plan, device)):
        found = fold.fold(there)
        assert np.linalg.norm(found.cpu().numpy() - truth) <= 1e-12 * norm
        assert torch.equal(found, fold.fold(there))


def test_triton_is_refused_without_a_gpu():
    with pytest.raises(InputError, match="triton on cpu"):
        make_fold(SketchPlan.make([10], {"a": (0,)}), CPU, backend="triton")
