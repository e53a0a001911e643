"""The rank of windows of deterministic updates: simulated quadratics, closed forms, failures of the published bound."""

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from spectral_edge.errors import InputError
from spectral_edge.theory.edge_of_stability import stability_threshold
from spectral_edge.theory.krylov import (
    decay_exponents,
    inverted_hierarchy_code_pub,
    inverted_hierarchy_pub,
    krylov_bound,
    krylov_bound_pub,
    krylov_rows,
    numerical_rank,
    rank_bound,
    slow_residual,
    slow_threshold,
)
from spectral_edge.theory.signal_flow import expected_energy


def descent(hessian, start, *, eta, omega=0.0, window, every):
    """Updates of gradient descent with decoupled decay, simulated step by step."""
    theta, rows = start.copy(), []
    for _ in range(window):
        before = theta.copy()
        for _ in range(every):
            theta = theta - eta * (hessian @ theta + omega * theta)
        rows.append(theta - before)
    return np.array(rows)


def rotated(values, seed=0):
    basis, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values), len(values))))
    return basis @ np.diag(values) @ basis.T, basis


@pytest.mark.parametrize("every", [1, 7])
def test_rows_are_those_of_descent(every):
    h = np.array([0.01, 0.5, 3.0, 9.0, 15.0])
    hessian, basis = rotated(h)
    start = np.random.default_rng(1).standard_normal(5)
    rows = descent(hessian, start, eta=0.1, omega=0.3, window=6, every=every)
    found = krylov_rows(0.1 * (h + 0.3), basis.T @ start, window=6, every=every)
    np.testing.assert_allclose(rows @ basis, found, atol=1e-13)


def test_exact_rank_is_the_number_of_different_rates():
    """Three rates shared by nine modes, at 60 digits."""
    with mpmath.workdps(60):
        z = [1 - mpmath.mpf(k) for k in ("0.002", "0.003", "0.004")]
        rows = mpmath.matrix(5, 9)
        for k in range(5):
            for i in range(9):
                rows[k, i] = (z[i // 3] - 1) * z[i // 3] ** k * (i + 1)
        sigma = mpmath.svd_r(rows, compute_uv=False)
    assert float(sigma[2] / sigma[0]) > 1e-9
    assert float(sigma[3] / sigma[0]) < 1e-50


rates = st.lists(st.one_of(st.floats(0, 2), st.floats(0, 0.2), st.floats(-8, -1).map(lambda e: 10**e)), min_size=1)


@given(rates, st.integers(2, 12), st.integers(1, 50), st.sampled_from([1e-1, 1e-2, 1e-4, 1e-8]), st.integers(0, 9))
def test_no_deterministic_window_exceeds_the_bound(kappa, window, every, tolerance, seed):
    displacement = 10 ** np.random.default_rng(seed).uniform(-6, 6, len(kappa))
    rows = krylov_rows(kappa, displacement, window=window, every=every)
    bound = rank_bound(kappa, window=window, every=every, tolerance=tolerance)
    assert 1 <= bound <= window
    assert numerical_rank(rows, tolerance=tolerance * (1 + 1e-6)) <= bound


@given(rates, st.integers(4, 12), st.integers(1, 50))
def test_the_bound_grows_with_precision_and_with_the_window(kappa, window, every):
    bounds = [rank_bound(kappa, window=window, every=every, tolerance=t) for t in (0.3, 1e-2, 1e-5)]
    assert bounds == sorted(bounds)
    assert krylov_bound(kappa, window=window, every=every) <= krylov_bound(kappa, window=window + 1, every=1 + every)


@pytest.mark.parametrize("tolerance", [1e-1, 1e-2, 1e-3])
@pytest.mark.parametrize("fast", [0, 1, 2, 3])
def test_the_bound_is_reached(fast, tolerance):
    slow = np.full(40, 0.5 * slow_threshold(tolerance, window=10) / 10)
    kappa = np.concatenate([slow * np.linspace(0.1, 1, 40), [0.25, 0.7, 1.9][:fast]])
    energy = np.linalg.norm(krylov_rows(kappa, np.ones(len(kappa)), window=10), axis=0)
    share = np.concatenate([np.full(40, 1 / 40**0.5), np.ones(fast)])
    rows = krylov_rows(kappa, share / energy, window=10)
    assert numerical_rank(rows, tolerance=tolerance) == rank_bound(kappa, window=10, tolerance=tolerance) == 1 + fast


def test_two_modes_above_the_clock_and_a_hundred_below():
    h = np.concatenate([np.linspace(1e-3, 1e-2, 100), [20.0, 60.0]])
    hessian, basis = rotated(h)
    start = basis @ np.concatenate([np.full(100, 100.0), np.ones(2)])
    rows = descent(hessian, start, eta=1e-2, window=10, every=1)
    assert numerical_rank(rows) == krylov_bound(1e-2 * h, window=10) == 3
    assert krylov_bound_pub(h, rate=1e-2, window=10) == 2


def test_published_bound_fails_where_everything_is_slow():
    eta, window = 1e-2, 10
    h = np.linspace(0.01, 1e-2 / (eta * window), 50)
    hessian, basis = rotated(h)
    rows = descent(hessian, basis @ np.ones(50), eta=eta, window=window, every=1)
    assert krylov_bound_pub(h, rate=eta, window=window) == 0
    assert numerical_rank(rows) == krylov_bound(eta * h, window=window) == rank_bound(eta * h, window=window) == 1
    # What is left is the mean update, no eigenvector of the Hessian.
    _, _, right = np.linalg.svd(rows, full_matrices=False)
    mean = rows.sum(axis=0) / np.linalg.norm(rows.sum(axis=0))
    assert (right[0] @ mean) ** 2 > 0.9999
    assert ((basis.T @ right[0]) ** 2).max() < 0.1


def test_published_bound_fails_by_the_clock():
    """200 steps a row: modes that the published clock calls slow are over within one row."""
    eta, window, every = 1e-3, 10, 200
    h = np.array([0.0005, 1.0, 3.0, 10.0])
    rows = descent(np.diag(h), np.array([1e3, 1.0, 1.0, 1.0]), eta=eta, window=window, every=every)
    assert krylov_bound_pub(h, rate=eta, window=window) == 0
    assert numerical_rank(rows, tolerance=1e-3) > 1
    assert krylov_bound(eta * h, window=window, every=every) == 4
    assert numerical_rank(rows, tolerance=1e-3) <= 4


def test_bound_in_the_inner_product_of_a_preconditioner():
    rng = np.random.default_rng(3)
    scale = 10 ** rng.uniform(-3, 0, 30)
    whitened, basis = rotated(np.concatenate([np.linspace(1e-4, 1e-3, 28), [3.0, 8.0]]), seed=4)
    hessian = np.sqrt(scale)[:, None] * whitened * np.sqrt(scale)
    eta, theta, rows = 0.1, (basis @ np.r_[np.full(28, 1e3), 1, 1]) / np.sqrt(scale), []
    for _ in range(10):
        step = -eta * (hessian @ theta) / scale
        theta = theta + step
        rows.append(step)
    kappa = eta * np.linalg.eigvalsh(whitened)
    assert numerical_rank(np.array(rows) * np.sqrt(scale)) <= rank_bound(kappa, window=10) == 3
    condition = np.sqrt(scale.max() / scale.min())
    assert numerical_rank(np.array(rows), tolerance=1e-2 * condition) <= 3


# the slow modes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("x", [1e-3, 0.02, 0.3, 1.0, 4.0, 30.0])
def test_residual_against_integration(x):
    mean = quad(lambda t: np.exp(-x * t), 0, 1)[0]
    left = quad(lambda t: (np.exp(-x * t) - mean) ** 2, 0, 1)[0]
    square = quad(lambda t: np.exp(-2 * x * t), 0, 1)[0]
    assert float(slow_residual(x)) == pytest.approx(np.sqrt(left / square), rel=1e-5)


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_residual_against_a_fit(degree):
    x, window = np.array([0.2, 1.0, 7.0]), 8
    t = np.arange(window) / window
    for value, found in zip(x, slow_residual(x, degree=degree, window=window), strict=True):
        decay = np.exp(-value * t)
        fit = np.polynomial.Polynomial.fit(t, decay, degree)
        assert found == pytest.approx(np.linalg.norm(decay - fit(t)) / np.linalg.norm(decay), rel=1e-8)


@given(st.floats(1e-4, 400), st.integers(2, 40))
def test_sampling_never_leaves_more_than_the_continuous_window(x, window):
    assert slow_residual(x, degree=0, window=window) <= slow_residual(x) + 1e-5 * x


@pytest.mark.parametrize("window", [3, 5, 10, 20])
def test_residual_grows_with_the_rate(window):
    """The bound needs it: below a threshold nothing leaves more than at it."""
    x = np.logspace(-3, 2.6, 500)
    for degree in range(window):
        assert (np.diff(slow_residual(x, degree=degree, window=window)) > -1e-12).all()


@given(st.floats(1e-6, 0.3), st.integers(0, 6))
def test_threshold_is_the_inverse(tolerance, degree):
    x = slow_threshold(tolerance, degree=degree, window=10)
    assert x > 0
    if np.isfinite(x):
        assert float(slow_residual(x, degree=degree, window=10)) == pytest.approx(tolerance, rel=1e-5)
    else:
        assert float(slow_residual(1e3, degree=degree, window=10)) < tolerance


def test_long_and_short_windows():
    assert rank_bound([0.1, 1e-9], window=1) == 1
    kappa = np.logspace(-6, 0, 200)
    rows = krylov_rows(kappa, 1 / kappa, window=60, every=3)
    for tolerance in (1e-2, 1e-6):
        assert (
            numerical_rank(rows, tolerance=tolerance)
            <= rank_bound(kappa, window=60, every=3, tolerance=tolerance)
            <= 60
        )


def test_thresholds_of_the_usual_readings():
    assert float(slow_residual(1.0)) == pytest.approx(0.2753, abs=1e-4)
    assert slow_threshold(1e-2, window=10) == pytest.approx(1e-2 * np.sqrt(12 * 100 / 99), rel=1e-2)
    assert slow_threshold(0.5, degree=9, window=10) == np.inf


# strengths ------------------------------------------------------------------------------------------------------------


def test_inverted_hierarchy_needs_coarse_rows():
    h = np.logspace(0, 1, 20)
    for every, slope in ((1, 0.0), (100_000, -0.5)):
        d = np.sqrt(expected_energy(rate=1e-3, curvature=h, window=10, noise=1.0, every=every))
        assert np.polyfit(np.log(h), np.log(d), 1)[0] == pytest.approx(slope, abs=3e-3)
    pub = inverted_hierarchy_pub(1.0, h)
    assert np.polyfit(np.log(h), np.log(pub), 1)[0] == pytest.approx(-0.5)


@given(st.floats(0.1, 10), st.floats(0.1, 10), st.floats(0.1, 10))
def test_published_strengths_have_no_length(scale, gradient, h):
    """Parameters in other units: strengths should grow with them, theirs do not."""
    pub = inverted_hierarchy_pub(gradient, h)
    assert float(inverted_hierarchy_pub(gradient / scale, h / scale**2)) == pytest.approx(float(pub))
    code = inverted_hierarchy_code_pub(gradient, h, window=9)
    assert float(code) == pytest.approx(3 * float(pub))
    assert float(inverted_hierarchy_code_pub(gradient / scale, h / scale**2, window=9)) == pytest.approx(float(code))
    d = expected_energy(rate=1e-3, curvature=h, window=9, noise=gradient**2)
    rescaled = expected_energy(rate=1e-3 * scale**2, curvature=h / scale**2, window=9, noise=(gradient / scale) ** 2)
    assert float(rescaled) == pytest.approx(scale**2 * float(d))


def test_undefined_strengths_are_nan():
    assert np.isnan(inverted_hierarchy_pub([1.0, 1.0], [-0.2, -0.1], decay=0.1)).all()
    assert np.isfinite(inverted_hierarchy_pub(1.0, -0.05, decay=0.1))
    assert np.isnan(inverted_hierarchy_code_pub(1.0, 0.0, window=3))


# thresholds of stability ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("averaged", [True, False])
def test_threshold_is_where_a_root_leaves_the_unit_circle(momentum, averaged):
    eta = 0.03
    edge = stability_threshold(eta, momentum=momentum, averaged=averaged)
    step = eta * (1 - momentum if averaged else 1)

    def roots(h):
        return np.roots([1, -(1 + momentum - step * h), momentum])

    assert min(np.abs(roots(edge) + 1)) < 1e-9
    assert np.abs(roots(0.999 * edge)).max() < 1 < np.abs(roots(1.001 * edge)).max()


def test_known_thresholds():
    assert stability_threshold(0.1) == pytest.approx(20)
    assert stability_threshold(0.1, momentum=0.9, averaged=True) == pytest.approx(380)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: stability_threshold(0.0), "positive learning rate"),
        (lambda: stability_threshold(0.1, momentum=1.0), "beta < 1"),
        (lambda: rank_bound([np.nan], window=5), "undefined modes"),
        (lambda: decay_exponents([-0.1], window=5), "finite rates"),
        (lambda: rank_bound([0.1], window=5, tolerance=1.0), "between 0 and 1"),
        (lambda: slow_residual(1.0, degree=1), "window=W"),
        (lambda: slow_residual(1.0, degree=5, window=5), "0 to 4"),
    ],
)
def test_what_makes_no_sense_is_said(call, words):
    with pytest.raises(InputError, match=words):
        call()
