"""Granger's test against statsmodels, planted drivers and series without a relation; Holm's correction."""

import numpy as np
import pytest
from scipy.signal import lfilter

from spectral_edge.errors import InputError
from spectral_edge.evaluate.granger import granger, holm

TRIALS = 400


def ar(rng, count, rho=0.5):
    return lfilter([1], [1, -rho], rng.standard_normal(count + 50))[50:]


def driven(rng, count, effect=0.5, lag=1):
    """y follows its own last value and x at a lag."""
    x, y = ar(rng, count), rng.standard_normal(count)
    for t in range(lag, count):
        y[t] += 0.5 * y[t - 1] + effect * x[t - lag]
    return y, x


def rejections(make, trials=TRIALS, **options):
    return float(np.mean([granger(*make(), **options).p <= 0.05 for _ in range(trials)]))


def near_level(share, trials=TRIALS, level=0.05):
    return abs(share - level) < 3 * np.sqrt(level * (1 - level) / trials)


@pytest.mark.parametrize("lag", [1, 2, 3])
def test_f_test_is_that_of_statsmodels(lag):
    pytest.importorskip("statsmodels")
    from statsmodels.tsa.stattools import grangercausalitytests

    y, x = driven(np.random.default_rng(lag), 80, 0.3)
    tests = grangercausalitytests(np.column_stack([y, x]), [lag])[lag][0]
    statistic, p, free, added = tests["ssr_ftest"]
    found = granger(y, x, lags=[lag])
    assert (found.lags, found.observations, found.free, found.added) == (lag, 80 - lag, free, added)
    assert (found.statistic, found.p) == pytest.approx((statistic, p))


def test_choice_covariates_and_several_columns_are_those_of_statsmodels():
    pytest.importorskip("statsmodels")
    from statsmodels.regression.linear_model import OLS

    rng = np.random.default_rng(0)
    y, first = driven(rng, 60, 0.4, lag=2)
    x = np.column_stack([first, ar(rng, 60)])
    rate = 1e-4 * np.cos(np.arange(60) / 20)
    fits = {}
    for skip in (1, 2):
        for m in range(1, skip + 1):
            own = [y[skip - k : 60 - k] for k in range(1, m + 1)]
            drive = [x[skip - k : 60 - k] for k in range(1, m + 1)]
            small = np.column_stack([np.ones(60 - skip), 1e4 * rate[skip:], *own])
            fits[skip, m] = OLS(y[skip:], small).fit(), OLS(y[skip:], np.column_stack([small, *drive])).fit()
    found = granger(y, x, covariates=rate)
    assert found.aic[1] - found.aic[2] == pytest.approx(fits[2, 1][1].aic - fits[2, 2][1].aic)
    assert found.lags == min((1, 2), key=lambda m: fits[2, m][1].aic) == 2
    small, large = fits[found.lags, found.lags]
    statistic, p, added = large.compare_f_test(small)
    assert (found.statistic, found.p, found.added) == pytest.approx((statistic, p, added))
    assert found.partial_r2 == pytest.approx(1 - large.ssr / small.ssr)


def test_planted_driver_is_found_in_its_direction_only():
    rng = np.random.default_rng(1)
    power = rejections(lambda: driven(rng, 60), 200)
    late = [granger(*driven(rng, 60, lag=2)) for _ in range(200)]
    assert power > 0.85
    assert np.mean([f.p <= 0.05 for f in late]) > 0.85
    assert np.mean([f.lags == 2 for f in late]) > 0.9
    assert near_level(rejections(lambda: driven(rng, 60)[::-1], lags=[1]))
    several = rejections(lambda: (lambda y, x: (y, np.column_stack([x, ar(rng, 60)])))(*driven(rng, 60)), 200)
    assert several > 0.75


def test_level_on_independent_series():
    rng = np.random.default_rng(2)
    assert near_level(rejections(lambda: (ar(rng, 100), ar(rng, 100)), lags=[1]))
    # The choice of m costs a part of the level: .076 of 1000.
    assert near_level(rejections(lambda: (ar(rng, 100), ar(rng, 100))), level=0.076)


def test_overlapping_windows_break_the_level_and_stride_restores_it():
    rng = np.random.default_rng(3)
    width = np.full(10, 0.1)

    def windows():
        return tuple(np.convolve(rng.standard_normal(409), width, "valid") for _ in range(2))

    assert rejections(windows, 200) > 0.08
    assert near_level(rejections(windows, lags=[1], stride=10))


def test_stride_keeps_the_last_value():
    y, x = driven(np.random.default_rng(4), 61)
    assert granger(y, x, stride=4) == granger(y[::4], x[::4])
    assert granger(y[1:], x[1:], stride=4) == granger(y[4::4], x[4::4])


def test_units_and_constant_covariates_change_nothing():
    y, x = driven(np.random.default_rng(5), 50)
    once = granger(y, x)
    other = granger(1e-8 * y + 3, 1e8 * x - 7, covariates=np.full(50, 3e-4))
    assert (other.statistic, other.p) == pytest.approx((once.statistic, once.p), rel=1e-4)
    assert other.free == once.free


def test_what_is_undefined():
    y, x = driven(np.random.default_rng(6), 30)
    assert granger(y[:4], x[:4]) is None
    assert granger(np.ones(30), x) is None
    assert granger(y, np.ones(30)) is None
    assert granger(y, 2 * y + 1) is None
    for bad, options in [
        ((y, x[1:]), {}),
        ((y, np.full(30, np.nan)), {}),
        ((np.full(30, np.nan), x), {}),
        ((np.ones((30, 2)), x), {}),
        ((y, x), {"lags": [0]}),
        ((y, x), {"lags": []}),
        ((y, x), {"stride": 0}),
    ]:
        with pytest.raises(InputError):
            granger(*bad, **options)


def test_holm_is_that_of_statsmodels():
    pytest.importorskip("statsmodels")
    from statsmodels.stats.multitest import multipletests

    rng = np.random.default_rng(7)
    p = rng.random(12) ** 3
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])
    np.testing.assert_allclose(holm([0.01, np.nan, 0.03]), [0.02, np.nan, 0.03])
    assert holm([]).shape == (0,)
    family = np.mean([(holm(rng.random(8)) <= 0.05).any() for _ in range(2000)])
    assert family < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)
    with pytest.raises(InputError):
        holm([1.2])
