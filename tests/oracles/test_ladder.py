"""Rows of updates summed over 2, 4, 8, ... observations agree with direct computation at every stride."""

import numpy as np
import pytest
import torch

import spectral_edge as se

COUNT, SIZE, HORIZON = 70, 300, 6


def recorded(engine, ladder, path, *, horizon=HORIZON, out=None, restart=None):
    weights = {
        "a.w": torch.zeros(SIZE // 3, dtype=torch.float64),
        "b.w": torch.zeros(2 * SIZE // 3, dtype=torch.float64),
    }
    options = {"engine": engine, "cells": 64, "every": 1, "window": 3, "horizon": horizon, "ladder": ladder, "out": out}
    monitor = se.Monitor(weights, **options)
    for step, row in enumerate(path, start=1):
        value = torch.from_numpy(row)
        weights["a.w"].copy_(value[: SIZE // 3])
        weights["b.w"].copy_(value[SIZE // 3 :])
        if step == restart:
            weights["a.w"][0] = torch.nan
        monitor.step()
    return monitor


def walk(seed=0):
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.standard_normal((COUNT, SIZE)) + 0.2 * rng.standard_normal(SIZE), axis=0)


def direct(updates, newest, window, stride):
    """Singular values of the window of summed updates that ends with observation `newest`."""
    rows = updates[newest - window * stride : newest].reshape(window, stride, -1).sum(axis=1)
    return np.linalg.svd(rows, compute_uv=False)


@pytest.mark.parametrize(("window", "stride"), [(3, 1), (3, 2), (3, 4), (3, 8), (3, 16), (2, 3), (2, 6), (2, 12)])
@pytest.mark.parametrize("group", [None, "a"])
def test_exact_ladder_against_dense_svd(window, stride, group):
    path = walk()
    updates = np.diff(path, axis=0, prepend=0.0)
    updates = updates if group is None else updates[:, : SIZE // 3]
    series = recorded("exact", 4, path).trace.edge(window=window, stride=stride, group=group)
    assert len(series.step)
    for sigma, step in zip(series["sigma"], series.step, strict=True):
        np.testing.assert_allclose(sigma, direct(updates, int(step), window, stride), rtol=1e-11)


@pytest.mark.parametrize("engine", ["exact", "sketch"])
@pytest.mark.parametrize("stride", [4, 8])
def test_ladder_equals_strides_of_a_long_horizon(engine, stride):
    path = walk(1)
    # The ladder's rows end at multiples of the stride since the start, a long horizon's windows with the newest row.
    short = recorded(engine, 3, path).trace.edge(window=3, stride=stride)
    long = recorded(engine, 0, path[: COUNT - COUNT % stride], horizon=48).trace.edge(window=3, stride=stride)
    common, one, other = np.intersect1d(short.step, long.step, return_indices=True)
    assert len(common) >= 2
    for name in ("sigma", "gap_ratio", "alpha_overlap", "coherence"):
        np.testing.assert_allclose(short[name][one], long[name][other], rtol=1e-8, atol=1e-10)


def test_a_ladder_restarts_with_the_window():
    path = walk(2)
    with pytest.warns(se.SpectralEdgeWarning, match="not finite"):
        trace = recorded("exact", 2, path, restart=30).trace
    rows = trace.lag_rows(stride=4)
    steps = trace.ladder_steps(4)
    # 30 is NaN and 31 the new baseline: sums are of 32..35, 36..39, ...
    assert [step for step in steps if step > 30][:2] == [35, 39]
    depth = np.isfinite(rows).sum(axis=1)
    assert depth[list(steps).index(35)] == 1


def test_a_ladder_survives_disk_and_resume(tmp_path):
    path = walk(3)
    whole = recorded("exact", 3, path).trace
    first = recorded("exact", 3, path[:41], out=tmp_path / "run")
    state = first.state_dict()
    weights = {name: tensor.clone() for name, tensor in first._source.tensors.items()}
    first.close()
    second = se.Monitor(
        weights, engine="exact", every=1, window=3, horizon=HORIZON, ladder=3, out=tmp_path / "run", cells=64
    )
    second.load_state_dict(state)
    for row in path[41:]:
        value = torch.from_numpy(row)
        weights["a.w"].copy_(value[: SIZE // 3])
        weights["b.w"].copy_(value[SIZE // 3 :])
        second.step()
    trace = se.open_trace(tmp_path / "run")
    assert trace.strides == (1, 2, 4, 8)
    for stride in trace.strides:
        np.testing.assert_array_equal(trace.lag_rows(stride=stride), whole.lag_rows(stride=stride))


def test_a_stride_beyond_the_ladder_is_refused():
    trace = recorded("exact", 2, walk()).trace
    with pytest.raises(se.InputError, match="longer horizon or ladder"):
        trace.edge(window=3, stride=32)
    with pytest.raises(se.TraceError, match="1, 2, 4"):
        trace.lag_rows(stride=8)
    with pytest.raises(se.InputError, match="doublings"):
        se.Monitor({"w": torch.zeros(3)}, ladder=-1)
