"""CUSUM against a slow twin, planted shifts, and the rate of false alarms with and without memory."""

import numpy as np
import pytest

from spectral_edge.errors import InputError
from spectral_edge.evaluate.ar1 import ar1_draws
from spectral_edge.evaluate.change_point import change_point, cusum

STEPS = 100 * np.arange(60)
QUIET = (0, 2900)


def test_cusum_by_hand():
    values = np.random.default_rng(0).standard_normal((3, 40))
    up, down = cusum(values, 0.3)
    for row, highs, lows in zip(values, up, down, strict=True):
        high = low = 0.0
        for value, expected_high, expected_low in zip(row, highs, lows, strict=True):
            high, low = max(0, high + value - 0.3), max(0, low - value - 0.3)
            assert (high, low) == pytest.approx((expected_high, expected_low))
    np.testing.assert_array_equal(cusum(-values, 0.3)[0], down)


@pytest.mark.parametrize(("sign", "direction"), [(1, "up"), (-1, "down")])
def test_planted_shift(sign, direction):
    series = np.random.default_rng(1).standard_normal(60)
    series[45:] += 4 * sign
    found = change_point(3 * series + 7, STEPS, reference=QUIET)
    assert found.direction == direction
    assert 4500 <= found.step <= 4900
    assert found.p < 0.01
    assert (found.reference, found.tested) == (30, 30)
    assert found.mean == pytest.approx(3 * series[:30].mean() + 7)
    assert found.spread == pytest.approx(3 * series[:30].std(ddof=1))
    up, down = cusum((series[30:] - series[:30].mean()) / series[:30].std(ddof=1))
    assert found.largest == pytest.approx(max(up.max(), down.max()))
    crossed = STEPS[30:][np.maximum(up, down) > found.threshold]
    assert found.step == crossed[0]
    assert found == change_point(3 * series + 7, STEPS, reference=QUIET)
    before = change_point(3 * series + 7, STEPS, reference=QUIET, until=4400)
    assert before.step is None
    assert before.direction is None
    assert before.tested == 15


def test_the_threshold_keeps_what_it_states():
    series = np.random.default_rng(2).standard_normal(60)
    thresholds = []
    for stated in (0.01, 0.05, 0.2):
        found = change_point(series, STEPS, reference=QUIET, false_alarm=stated)
        assert found.stated == stated
        assert abs(found.simulated - stated) < 6 * np.sqrt(stated * (1 - stated) / 2000)
        thresholds.append(found.threshold)
    assert thresholds == sorted(thresholds, reverse=True)
    assert found.fixed_rate > 0.05  # the usual threshold of 5 does not: the reference is no more than an estimate


@pytest.mark.parametrize(("memory", "highest"), [(0.0, 0.05), (0.5, 0.05), (0.9, 0.05)])
def test_false_alarms(memory, highest):
    draws = 100
    alarms = fixed = 0
    for seed, series in enumerate(ar1_draws(memory, 60, draws, np.random.default_rng(3))):
        found = change_point(series, STEPS, reference=QUIET, draws=150, seed=seed)
        alarms += found.step is not None
        fixed += found.largest > 5
    assert alarms / draws < highest + 4 * np.sqrt(highest * (1 - highest) / draws)
    assert memory == 0 or fixed / draws > 0.3


def test_power_against_a_shift_of_four():
    for memory, power in ((0.0, 0.95), (0.5, 0.9)):
        found = 0
        for seed, series in enumerate(ar1_draws(memory, 60, 40, np.random.default_rng(4))):
            series[30:] += 4
            found += change_point(series, STEPS, reference=QUIET, draws=200, seed=seed).direction == "up"
        assert found / 40 > power - 4 * np.sqrt(power * (1 - power) / 40)


def test_what_cannot_be_tested():
    series = np.random.default_rng(5).standard_normal(60)
    assert change_point(series, STEPS, reference=(0, 300)) is None
    assert change_point(series, STEPS, reference=(0, 5900)) is None
    assert change_point(np.where(STEPS <= 2900, 2.0, 5.0), STEPS, reference=QUIET) is None
    assert change_point([], [], reference=QUIET) is None
    with pytest.raises(InputError, match="between 0 and 1"):
        change_point(series, STEPS, reference=QUIET, false_alarm=0)
