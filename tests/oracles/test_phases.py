"""Broken lines against generalized least squares by hand, planted courses and straight ones."""

import itertools
import time

import numpy as np
import pytest
from scipy.linalg import toeplitz
from scipy.stats import multivariate_normal

from spectral_edge.errors import InputError
from spectral_edge.evaluate.ar1 import ar1_draws
from spectral_edge.evaluate.phases import MEMORIES, phases

COUNT = 30
STEPS = 500 * np.arange(COUNT)
COURSE = np.interp(np.arange(COUNT), [0, 8, 20, COUNT - 1], [0, 1, 1, 0])


def best(values, designs):
    """Largest log likelihood over designs and memories, from dense covariance matrices; place of the best design."""
    count, found = len(values), []
    for memory in MEMORIES:
        correlation = toeplitz(memory ** np.arange(count))
        inverse = np.linalg.inv(correlation)
        for place, design in enumerate(designs):
            weights = np.linalg.solve(design.T @ inverse @ design, design.T @ inverse @ values)
            rest = values - design @ weights
            variance = rest @ inverse @ rest / count
            likelihood = multivariate_normal(np.zeros(count), variance * correlation).logpdf(rest)
            found.append((likelihood, place, memory, weights))
    return max(found, key=lambda row: row[0])


@pytest.mark.parametrize("null", ["straight", "constant"])
def test_fit_and_statistic_by_dense_covariances(null):
    at = np.arange(15.0)
    values = np.interp(at, [0, 4, 9, 14], [0, 1, 0.9, 0]) + 0.1 * ar1_draws(0.4, 15, 1, np.random.default_rng(0))[0]
    pairs = [(i, j) for i, j in itertools.combinations(range(3, 12), 2) if j - i >= 3]
    broken = [np.column_stack([np.ones(15), at, np.maximum(at - i, 0), np.maximum(at - j, 0)]) for i, j in pairs]
    likelihood, place, memory, weights = best(values, broken)
    straight = best(values, [np.vander(at, 2 if null == "straight" else 1)])
    found = phases(np.exp(values), 10 * at + 3, stride=1, null=null, draws=9)
    assert found.statistic == pytest.approx(2 * (likelihood - straight[0]), rel=1e-6)
    assert found.knots == tuple(10 * k + 3 for k in pairs[place])
    assert found.memory == memory
    np.testing.assert_allclose(found.slopes, np.cumsum(weights[1:]) / 10, rtol=1e-6)


def test_planted_course_is_recovered():
    rng = np.random.default_rng(1)
    found = phases(np.exp(COURSE + 0.03 * rng.standard_normal(COUNT)), STEPS, stride=1)
    assert found.accepted(0.01)
    np.testing.assert_allclose(found.knots, [4000, 10000], atol=500)
    np.testing.assert_allclose(found.slopes, [1 / 4000, 0, -1 / 4500], atol=3e-5)
    for truth, (low, high) in zip((4000, 10000), found.knot_intervals, strict=True):
        assert low <= truth <= high
    for value, (low, high) in zip(found.slopes, found.slope_intervals, strict=True):
        assert low < value < high
    upside_down = phases(np.exp(-COURSE + 0.03 * rng.standard_normal(COUNT)), STEPS, stride=1)
    assert upside_down.p <= 0.01
    assert not upside_down.accepted()


def test_units_change_nothing_but_units():
    values = np.exp(COURSE + 0.1 * np.random.default_rng(2).standard_normal(COUNT))
    one, other = phases(values, STEPS, stride=1), phases(7 * values**2, STEPS / 500 + 3, stride=1)
    assert other.p == one.p
    assert other.statistic == pytest.approx(one.statistic)
    np.testing.assert_allclose(np.array(other.slopes), 1000 * np.array(one.slopes), rtol=1e-6)
    tilted = phases(values * np.exp(STEPS / 3000), STEPS, stride=1)
    assert tilted.statistic == pytest.approx(one.statistic)
    assert one == phases(values, STEPS, stride=1)


def test_windows_that_overlap_are_left_out():
    rng = np.random.default_rng(3)
    values = np.exp(rng.standard_normal(200))
    assert phases(values, np.arange(200), stride=10) == phases(values[9::10], np.arange(9, 200, 10), stride=1)
    assert phases(values, np.arange(200), stride=20) is None


@pytest.mark.parametrize("memory", [0.0, 0.8])
def test_size(memory):
    """Straight lines with AR(1) errors: rejected at the stated rate, and almost never taken for the three phases."""
    draws = 120
    rows = np.linspace(0, 5, COUNT) + ar1_draws(memory, COUNT, draws, np.random.default_rng(4))
    found = [phases(np.exp(row), STEPS, stride=1, draws=59) for row in rows]
    assert abs(np.mean([f.p <= 0.05 for f in found]) - 0.05) < 4 * np.sqrt(0.05 * 0.95 / draws)
    assert np.mean([f.accepted() for f in found]) < 0.05


def test_power():
    """The docstring's rise, plateau and fall by eight and five standard deviations."""
    rng = np.random.default_rng(5)
    for memory, height, power in ((0.0, 8, 0.87), (0.5, 8, 0.73), (0.0, 5, 0.71)):
        rows = height * COURSE + ar1_draws(memory, COUNT, 60, rng)
        hits = [phases(np.exp(row / 10), STEPS, stride=1, draws=59).accepted() for row in rows]
        assert abs(np.mean(hits) - power) < 4 * np.sqrt(power * (1 - power) / 60)


def test_time():
    values = np.exp(np.random.default_rng(6).standard_normal(40))
    begun = time.process_time()
    phases(values, np.arange(40), stride=1, draws=200)
    assert time.process_time() - begun < 2
    assert phases(np.exp(np.random.default_rng(7).standard_normal(150)), np.arange(150), stride=1, draws=19).p > 0


def test_what_has_no_phases():
    assert phases(np.ones(30), STEPS, stride=1) is None
    assert phases(np.where(STEPS == 0, 0.0, COURSE + 1), STEPS, stride=1) is None
    assert phases([], [], stride=1) is None
    with pytest.raises(InputError, match="equally spaced"):
        phases(COURSE + 1, np.where(STEPS > 5000, STEPS + 800, STEPS), stride=1)
    with pytest.raises(InputError, match="at least 1"):
        phases(COURSE + 1, STEPS, stride=0)
