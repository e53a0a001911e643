"""Streaming from lag rows against dense singular value decompositions of stacked updates."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import spectral_edge as se

EXAMPLE = [198.58, 169.08, 122.47, 110.73, 106.22, 92.66, 78.30, 61.27, 44.58, 22.79]
"""The published example spectrum (theory section 3)."""


def planted(sigma, *, columns=4000, rng):
    """Updates with exactly these singular values."""
    width = len(sigma)
    left = np.linalg.qr(rng.standard_normal((width, width)))[0]
    right = np.linalg.qr(rng.standard_normal((columns, width)))[0]
    return (left * np.asarray(sigma)) @ right.T


def snapshots_of(updates):
    return list(np.vstack([np.zeros(updates.shape[1]), np.cumsum(updates, axis=0)]))


def brute_force(snapshots, window):
    """The published quantities from stacked updates, one window at a time."""
    updates = np.diff(np.asarray(snapshots), axis=0)
    found = {name: [] for name in ("sigma", "k_star_raw", "k_star_weighted", "gap_ratio", "g23", "step")}
    for end in range(window, len(updates) + 1):
        sigma = np.linalg.svd(updates[end - window : end], compute_uv=False)
        ratio = sigma[:-1] / sigma[1:]
        found["sigma"].append(sigma)
        found["k_star_raw"].append(1 + np.argmax(ratio))
        found["k_star_weighted"].append(1 + np.argmax(sigma[:-1] / sigma.sum() * ratio))
        found["gap_ratio"].append(ratio.max())
        found["g23"].append(sigma[1] ** 2 - sigma[2] ** 2)
        found["step"].append(end)
    return {name: np.asarray(values) for name, values in found.items()}


@pytest.mark.parametrize("window", [3, 5, 10])
def test_scan_reproduces_dense_svd(window):
    rng = np.random.default_rng(window)
    snapshots = list(np.cumsum(rng.standard_normal((36, 3000)) * rng.lognormal(size=(36, 1)), axis=0))
    series = se.scan(snapshots).edge(window=window)
    truth = brute_force(snapshots, window)
    np.testing.assert_array_equal(series.step, truth["step"])
    for name in ("sigma", "gap_ratio"):
        np.testing.assert_allclose(series[name], truth[name], rtol=1e-12, err_msg=name)
    np.testing.assert_allclose(series["g23"], truth["g23"], rtol=1e-10)
    np.testing.assert_array_equal(series["k_star_raw"], truth["k_star_raw"])
    np.testing.assert_array_equal(series["k_star_weighted"], truth["k_star_weighted"])


@given(st.integers(1, 4), st.integers(0, 2**31))
def test_any_stride_is_the_svd_of_summed_updates(stride, seed):
    rng = np.random.default_rng(seed)
    updates = rng.standard_normal((40, 200))
    series = se.scan(snapshots_of(updates), horizon=20).edge(window=5, stride=stride)
    newest = len(updates)
    for sigma, step in zip(series["sigma"], series.step, strict=True):
        assert (newest - step) % stride == 0
        rows = updates[step - 5 * stride : step].reshape(5, stride, -1).sum(axis=1)
        np.testing.assert_allclose(sigma, np.linalg.svd(rows, compute_uv=False), rtol=1e-11)
    assert len(series.step) == (len(updates) - 5 * stride) // stride + 1


@given(st.integers(2, 9), st.integers(0, 2**31))
def test_rows_of_disjoint_tensors_add(parts, seed):
    rng = np.random.default_rng(seed)
    cuts = np.sort(rng.choice(np.arange(1, 300), size=parts - 1, replace=False))
    snapshots = np.cumsum(rng.standard_normal((14, 300)), axis=0)
    split = [{f"t{i}": piece for i, piece in enumerate(np.split(row, cuts))} for row in snapshots]
    whole = se.scan(list(snapshots), horizon=10).lag_rows()
    divided = se.scan(split, horizon=10)
    np.testing.assert_allclose(divided.lag_rows(), whole, rtol=1e-11, atol=1e-9)
    added = sum(divided.lag_rows(f"t{i}") for i in range(parts))
    np.testing.assert_allclose(added, divided.lag_rows(), rtol=1e-12, atol=1e-10)


@given(st.integers(0, 2**31))
def test_row_sign_and_order_leave_the_spectrum(seed):
    rng = np.random.default_rng(seed)
    updates = rng.standard_normal((10, 150)) * rng.lognormal(sigma=2, size=(10, 1))
    changed = updates[rng.permutation(10)] * rng.choice([-1.0, 1.0], size=(10, 1))
    first, second = (se.scan(snapshots_of(rows)).edge(window=10)["sigma"] for rows in (updates, changed))
    np.testing.assert_allclose(first, second, rtol=1e-9)


@pytest.mark.parametrize(("dtype", "columns"), [("float64", 200_000), ("float32", 200_000)])
@pytest.mark.parametrize("shape", ["cluster", "geometric"])
def test_smallest_value_at_condition_a_million(dtype, columns, shape):
    """Float64 rows, or float32 rows with float64 products, keep sigma_W to 2e-5."""
    rng = np.random.default_rng(5)
    sigma = np.append(np.linspace(2, 1, 9), 2e-6) if shape == "cluster" else np.geomspace(1, 1e-6, 10)
    updates = planted(sigma, columns=columns, rng=rng).astype(dtype)
    truth = np.linalg.svd(updates.astype(np.float64), compute_uv=False)
    ring = ring_of(updates)
    np.testing.assert_allclose(ring, truth, rtol=2e-5)


def ring_of(updates):
    """Singular values through the ring, one row at a time; the snapshot is set to zero before each update."""
    from spectral_edge.measure import grams, spectrum
    from spectral_edge.observe import ExactRing, Shard

    zero = torch.zeros(updates.shape[1], dtype=torch.from_numpy(updates).dtype)
    ring = ExactRing([Shard(zero)], len(updates))
    rows = []
    for update in updates:
        # A snapshot of float32 parameters would round the update itself; the product is what is tested here.
        rows.append(ring.push([Shard(torch.from_numpy(update))]).lags[0])
        for bank in ring._banks:
            bank.previous.zero_()
    block = grams(np.asarray(rows), np.array([len(rows) - 1]), size=len(rows))
    return spectrum(block).sigma[0]


def test_published_example_spectrum():
    """Acceptance 2: raw 9, weighted 2, restricted 2, ratio to the detection threshold 22.96."""
    from spectral_edge.measure.detection import detection_ratio_pub

    series = se.scan(snapshots_of(planted(EXAMPLE, rng=np.random.default_rng(0)))).edge(window=10)
    assert series["k_star_raw"][-1] == 9
    assert series["k_star_weighted"][-1] == 2
    assert series["k_star_restricted"][-1] == 2
    assert series["k_star_abs"][-1] == 2
    np.testing.assert_allclose(series["ratios"][-1], np.divide(EXAMPLE[:-1], EXAMPLE[1:]), rtol=1e-9)
    assert detection_ratio_pub(np.array([EXAMPLE]), 163_150_848)[0] == pytest.approx(22.96, abs=0.005)


@given(st.integers(0, 2**31), st.sampled_from([1, 3, 10]))
def test_overlaps_at_any_lag_are_those_of_dense_right_directions(seed, lag):
    from spectral_edge.measure import grams, spectrum
    from spectral_edge.measure.subspace import moment_change, overlaps

    rng = np.random.default_rng(seed)
    width = 10
    updates = rng.standard_normal((width + lag, 80)) + 0.7 * rng.standard_normal(80)
    rows = se.scan(snapshots_of(updates), horizon=width + lag).lag_rows()
    block = grams(rows, np.array([len(rows) - 1]), size=width + lag)
    older, newer = spectrum(block[:, :width, :width]), spectrum(block[:, lag:, lag:])
    found = overlaps(older, newer, block[:, :width, lag:])[0]
    before, after = (np.linalg.svd(updates[s : s + width], full_matrices=False)[2] for s in (0, lag))
    np.testing.assert_allclose(np.abs(found), np.abs(before @ after.T), atol=1e-7)
    change = updates[lag:].T @ updates[lag:] - updates[:width].T @ updates[:width]
    got = moment_change(block[:, width:, width:], block[:, :lag, :lag], block[:, width:, :lag])
    np.testing.assert_allclose(got, np.linalg.norm(change), rtol=1e-10)
