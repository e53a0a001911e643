"""Correlation at a lag against brute force, planted relations and unrelated series with memory."""

import numpy as np
import pytest
from scipy import stats

from spectral_edge.errors import InputError
from spectral_edge.evaluate.ar1 import ar1_draws, lag1, matched_memory, polynomial, removed
from spectral_edge.evaluate.association import association, best_lag

STEPS = np.arange(36) * 200


def rest(values, steps, degree):
    """Detrended by another routine."""
    unit = (steps - steps.mean()) / np.ptp(steps)
    return values - np.polyval(np.polyfit(unit, values, degree), unit)


def partial(x, y, covariates):
    """Partial correlation by two regressions."""
    design = np.column_stack([np.ones(len(x)), covariates])
    left = [v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in (x, y)]
    return np.corrcoef(*left)[0, 1]


def within(count, draws, rate, errors=4.0):
    """Whether a count lies within so many standard errors of a binomial."""
    return abs(count - draws * rate) < errors * np.sqrt(draws * rate * (1 - rate))


@pytest.mark.parametrize("lag", [-3, 0, 2])
@pytest.mark.parametrize("degree", [None, 1, 3])
def test_correlation_and_shifts_by_hand(lag, degree):
    rng = np.random.default_rng(lag + 10)
    x, y = rng.standard_normal((2, 36)).cumsum(axis=1)
    found = association(x, y, STEPS, lag=lag, degree=degree, draws=10)
    if degree is not None:
        x, y = rest(x, STEPS, degree), rest(y, STEPS, degree)
    pairs = [(x[t], y[t + lag]) for t in range(36) if 0 <= t + lag < 36]
    first, second = np.array(pairs).T
    assert found.r == pytest.approx(stats.pearsonr(first, second).statistic, abs=1e-9)
    assert found.n == 36 - abs(lag)
    all_r = [abs(np.corrcoef(np.roll(first, k), second)[0, 1]) for k in range(len(first))]
    assert found.p_shift == pytest.approx(np.mean([r >= all_r[0] - 1e-9 for r in all_r]))
    assert found.p_shift >= 1 / found.n
    a, b = (v - v.mean() for v in (first, second))
    shared = (a[1:] @ a[:-1]) * (b[1:] @ b[:-1]) / (a @ a) / (b @ b)
    assert found.n_effective == pytest.approx(np.clip(found.n * (1 - shared) / (1 + shared), 4, found.n))


def test_without_memory_the_t_test_is_pearsons():
    x, y = np.random.default_rng(0).standard_normal((2, 400))
    x = x - x.mean()
    found = association(x, y, np.arange(400), degree=None, draws=10)
    assert found.p_effective == pytest.approx(stats.pearsonr(x, y).pvalue, abs=0.01)


def test_partial_correlation_and_its_shifts_by_hand():
    rng = np.random.default_rng(3)
    rate = np.linspace(1, 0, 30) ** 2
    other = rng.standard_normal(30)
    x, y = 3 * rate + rng.standard_normal(30), 2 * rate + other + rng.standard_normal(30)
    held = np.column_stack([rate, other])
    found = association(x, y, np.arange(30), lag=2, degree=None, covariates=held, draws=10)
    first, second, held = x[:-2], y[2:], held[2:]
    assert found.r == pytest.approx(partial(first, second, held), abs=1e-10)
    design = np.column_stack([np.ones(28), held])
    left = first - design @ np.linalg.lstsq(design, first, rcond=None)[0]
    all_r = np.array([abs(partial(np.roll(left, k), second, held)) for k in range(28)])
    assert found.p_shift == pytest.approx((all_r >= all_r[0] - 1e-9).mean())


def test_a_covariate_explains_what_it_causes():
    rng = np.random.default_rng(4)
    cause = rng.standard_normal(80)
    x, y = cause + 0.3 * rng.standard_normal((2, 80))
    plain = association(x, y, np.arange(80))
    given = association(x, y, np.arange(80), covariates=cause)
    assert plain.r > 0.8
    assert plain.p_ar1 < 0.01
    assert abs(given.r) < 0.35
    assert given.p_ar1 > 0.01
    twice = association(x, y, np.arange(80), covariates=np.column_stack([cause, 2 * cause, np.ones(80)]))
    assert twice.r == pytest.approx(given.r)


def test_detrending_leaves_no_trend():
    x, y = np.random.default_rng(5).standard_normal((2, 60))
    at = np.arange(60) * 50 + 1000
    bent = (at / 1000) ** 3
    plain, trended = association(x, y, at), association(x + 5 * bent, y - 7 * bent, at)
    assert trended.r == pytest.approx(plain.r, abs=1e-9)
    assert association(x + 50 * bent, y - 50 * bent, at, degree=None).r < -0.9
    assert association(bent, y, at) is None
    assert association(x, np.full(60, 0.1), at) is None


def test_memory_is_recovered_after_detrending():
    rng = np.random.default_rng(6)
    basis = polynomial(STEPS, 3)
    np.testing.assert_allclose(basis.T @ basis, np.eye(4), atol=1e-12)
    for memory in (0.0, 0.5, 0.9):
        left = removed(ar1_draws(memory, 36, 4000, rng), basis)
        pooled = (left[:, 1:] * left[:, :-1]).sum() / (left**2).sum()
        assert matched_memory(pooled, basis) == pytest.approx(memory, abs=0.03)
        assert np.median(lag1(left)) < memory


def test_planted_lead_is_found_with_its_sign():
    rng = np.random.default_rng(7)
    x = rng.standard_normal(42)
    y = -np.roll(x, 3) + 0.4 * rng.standard_normal(42)
    at = np.arange(36)
    for pick in ("largest", "negative"):
        found = best_lag(x[3:39], y[3:39], at, range(-5, 6), pick=pick)
        assert found.lag == 3
        assert found.r < -0.8
        assert found.p_ar1 < 0.01
        assert abs(found.null_median) < abs(found.null_95) < 0.8
    assert best_lag(x[3:39], -y[3:39], at, range(-5, 6), pick="negative").lag != 3
    fixed = association(x[3:39], y[3:39], at, lag=3)
    assert fixed.r == pytest.approx(found.correlations[found.lags.tolist().index(3)])
    assert fixed.p_ar1 < 0.01


def test_search_is_the_maximum_by_hand():
    rng = np.random.default_rng(8)
    x, y = rng.standard_normal((2, 30)).cumsum(axis=1)
    at, lags = np.arange(30), [-2, 0, 1, 40]
    found = best_lag(x, y, at, lags, degree=1, draws=20)
    x, y = rest(x, at, 1), rest(y, at, 1)

    def top(series):
        r = [np.corrcoef(series[max(-k, 0) : 30 - max(k, 0)], y[max(k, 0) : 30 + min(k, 0)])[0, 1] for k in lags[:3]]
        return max(np.abs(r))

    tops = np.array([top(np.roll(x, k)) for k in range(30)])
    assert abs(found.r) == pytest.approx(tops[0])
    assert found.lags.tolist() == [-2, 0, 1]
    assert found.p_shift == pytest.approx((tops >= tops[0] - 1e-9).mean())


def test_theory_section_11_search_over_unrelated_series():
    """Two independent AR(.9) series of 36 points, a line removed, lags -5 to 5: best |r| .50 median, .76 at 95 %."""
    rng = np.random.default_rng(9)
    x, y = ar1_draws(0.9, 36, 300, rng), ar1_draws(0.9, 36, 300, rng)
    found = [best_lag(a, b, STEPS, range(-5, 6), degree=1, draws=40, shifts=1) for a, b in zip(x, y, strict=True)]
    best = np.abs([f.r for f in found])
    assert np.median(best) == pytest.approx(0.50, abs=0.04)
    assert np.quantile(best, 0.95) == pytest.approx(0.76, abs=0.06)
    assert np.median([f.null_median for f in found]) == pytest.approx(0.45, abs=0.06)


def test_size_on_series_with_memory():
    """The docstring's sizes at 5 %: a fixed lag, cubic removed, AR(.9) of 36 points."""
    rng = np.random.default_rng(10)
    x, y = ar1_draws(0.9, 36, 300, rng), ar1_draws(0.9, 36, 300, rng)
    found = [association(a, b, STEPS, lag=1, draws=199) for a, b in zip(x, y, strict=True)]
    assert within(sum(f.p_shift <= 0.05 for f in found), 300, 0.055)
    assert within(sum(f.p_ar1 <= 0.05 for f in found), 300, 0.085)
    naive = [stats.pearsonr(rest(a, STEPS, 3), rest(b, STEPS, 3)).pvalue <= 0.05 for a, b in zip(x, y, strict=True)]
    assert np.mean(naive) > 0.2


def test_size_on_series_without_memory():
    rng = np.random.default_rng(11)
    x, y = rng.standard_normal((2, 300, 36))
    found = [association(a, b, STEPS, draws=199) for a, b in zip(x, y, strict=True)]
    assert within(sum(f.p_ar1 <= 0.05 for f in found), 300, 0.055)
    assert within(sum(f.p_shift <= 0.1 for f in found), 300, 3 / 36)  # the attainable level


def test_too_short_and_not_aligned():
    x = np.random.default_rng(0).standard_normal(8)
    at = np.arange(8)
    assert association(x, x[::-1], at, lag=3) is None
    assert association(x, x[::-1], at, degree=None, covariates=np.column_stack([at, at**2, at**3])) is None
    assert best_lag(x, x[::-1], at, [4, 5]) is None
    with pytest.raises(InputError, match="one dimension of 8"):
        association(x, x[:-1], at)
    with pytest.raises(InputError, match="1 that are not"):
        association(np.where(at == 3, np.nan, x), x, at)
    assert association(x, x[::-1], at, seed=1) == association(x, x[::-1], at, seed=1)
