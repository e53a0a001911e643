"""Forecasts of the gap: the descriptions are exact where they must be, and what is missing is named."""

import numpy as np
import pytest
import torch

import spectral_edge as se
from spectral_edge.evaluate.gap_change import FORMS, gap_change
from spectral_edge.evaluate.scoring import score


def quadratic_run(steps=130, *, noise=0.0, window=5, seed=0, horizon=None, curvature=(0.9, 0.3, 0.05, 0.02), log=True):
    """Gradient descent on a quadratic, probed at every step; curvatures are logged along the modes."""
    torch.manual_seed(seed)
    h = torch.tensor(curvature, dtype=torch.float64)
    weight = torch.nn.Parameter(torch.tensor([3.0, -2.0, 4.0, 1.0], dtype=torch.float64))
    optimizer = torch.optim.SGD([weight], lr=0.05)
    monitor = se.Monitor({"weight": weight}, optimizer, window=window, every=1, horizon=horizon)
    for _ in range(steps):
        weight.grad = h * weight.detach() + noise * torch.randn(4, dtype=torch.float64)
        optimizer.step()
        reading = monitor.step()
        monitor.probe(gradient={"weight": h * weight.detach()})
        if log and reading is not None:
            found = monitor.modes()
            values = [float(v["weight"] @ (h * v["weight"])) for v in found.directions]
            monitor.log(**{f"curvature_{j + 1}": value for j, value in enumerate(values)})
    return monitor.trace


def test_the_flow_given_the_drive_is_exact_where_the_modes_span_what_comes():
    trace = quadratic_run()
    found = gap_change(trace, ahead=2)
    assert found.missing == ("the metrics relaxation_1, ... of modes.mode_curvature(...).metrics()",)
    forecasts = found.forecasts
    described = sum(forecasts.terms["matrix_flow_given_drive"].values())
    # Four coordinates and modes of five rows: all that comes lies in their span until a mode sinks below the floor.
    np.testing.assert_allclose(described[:5], forecasts.measured[:5], rtol=1e-6, atol=1e-9)
    sigma = np.linalg.svd(rows_of(trace, found.step[0]), compute_uv=False)
    k = found.position[0]
    assert found.gap[0] == pytest.approx(sigma[k - 1] - sigma[k], rel=1e-9)
    assert forecasts.scale[0] == pytest.approx(np.sqrt((sigma**2).sum()), rel=1e-9)


def rows_of(trace, step):
    """The window's Gram matrix from lag rows, as a square root of it with the same singular values."""
    lags = trace.lag_rows()[: list(trace.steps).index(step) + 1]
    width = trace.window
    gram = np.array([[lags[len(lags) - 1 - min(i, j), abs(i - j)] for j in range(width)] for i in range(width)])
    value, vector = np.linalg.eigh(gram)
    return vector * np.sqrt(np.maximum(value, 0))


def test_the_published_terms_by_hand():
    trace = quadratic_run()
    found = gap_change(trace, ahead=3)
    terms = found.forecasts.terms
    n, k, step = 2, found.position[2], found.step[2]
    at = list(trace.steps).index(step)
    lags = trace.lag_rows()[: at + 1]
    gram = np.array([[lags[at - min(4 - i, 4 - j), abs(i - j)] for j in range(5)] for i in range(5)])
    value, vector = np.linalg.eigh(gram)
    sigma, left = np.sqrt(np.maximum(value, 0))[::-1], vector[:, ::-1]
    probe = next(row for row in trace.probes("gradient") if row.step == step).lags[0, :5][::-1]
    slope = left.T @ probe / sigma
    h = [dict(zip(*trace.metrics(f"curvature_{j}"), strict=True))[step] for j in (k, k + 1)]
    d, g = sigma[k - 1 : k + 1], slope[k - 1 : k + 1]
    rate, times = 0.05, 3
    expected = {
        "curvature_asymmetry": -rate * (h[0] - h[1]) * d.mean(),
        "damping": -rate * np.mean(h) * (d[0] - d[1]),
        "driving_pub": rate * 5 * (g[0] ** 2 / d[0] - g[1] ** 2 / d[1]),
    }
    for name, value in expected.items():
        assert terms["published"][name][n] == pytest.approx(times * value, rel=1e-7)
    ratio = terms["published"]["driving_pub"] / terms["consistent"]["driving_consistent"]
    np.testing.assert_allclose(ratio[np.isfinite(ratio)], 2 / rate)


def test_forecasts_against_persistence():
    trace = quadratic_run(noise=0.3, steps=400)
    found = gap_change(trace)
    assert (np.diff(found.step) == 5).all()
    for form in FORMS:
        assert np.isfinite(score([found.forecasts], form).r2)
    assert score([found.forecasts], "published").r2 < score([found.forecasts], "consistent").r2


def test_what_is_not_recorded_is_named_and_its_terms_are_undefined():
    trace = quadratic_run(log=False, horizon=5)
    found = gap_change(trace)
    assert any("curvature_1" in words for words in found.missing)
    assert np.isnan(found.forecasts.terms["published"]["damping"]).all()
    assert np.isfinite(found.forecasts.terms["published"]["driving_pub"]).any()
    assert np.isfinite(found.forecasts.terms["matrix_flow"]["driving"]).all()
    # The horizon of one window does not hold the products of old rows with those that come.
    assert np.isnan(found.forecasts.terms["matrix_flow_given_drive"]["driving"]).all()
    with pytest.raises(se.InputError, match="in each half"):
        score([found.forecasts], "published")
    with pytest.raises(se.InputError, match="at least two windows"):
        gap_change(trace, window=5, ahead=100)


def test_strided_rows():
    trace = quadratic_run(horizon=40, steps=300)
    found = gap_change(trace, stride=4, ahead=2)
    assert set(np.diff(found.step)) == {8}
    described = sum(found.forecasts.terms["matrix_flow_given_drive"].values())
    np.testing.assert_allclose(described[:3], found.forecasts.measured[:3], rtol=1e-5, atol=1e-9)
