"""Best lags at several windows: running means delay by half a window, and centred ones do not."""

import numpy as np
import pytest

from spectral_edge.errors import InputError
from spectral_edge.evaluate.ar1 import ar1_draws
from spectral_edge.evaluate.association import association
from spectral_edge.evaluate.window_sweep import EXPECTED_SLOPE, window_sweep

WINDOWS = (10, 15, 20, 25)
LAGS = range(-20, 21)


def smooth(count, seed):
    """A series whose running means correlate best at their middle."""
    return ar1_draws(0.9, count, 1, np.random.default_rng(seed))[0]


def means(values, centred=False):
    """Running means by window, at the step of the last value or of the middle one."""
    steps = 50 * np.arange(len(values))

    def at(window):
        mean = np.convolve(values, np.ones(window) / window, mode="valid")
        shift = (window - 1) // 2 if centred else 0
        return steps[window - 1 - shift : len(steps) - shift], mean

    return at, (steps, values)


@pytest.mark.parametrize("lead", [0, 4])
def test_right_aligned_windows_fall_back_by_half_their_length(lead):
    values = smooth(1500, 1)
    at, (steps, _) = means(values)
    other = (steps[lead:], values[: len(values) - lead])  # what the windows see, `lead` observations later
    found = window_sweep(at, other, WINDOWS, LAGS, draws=200)
    np.testing.assert_allclose(found.lags, lead - (np.array(WINDOWS) - 1) / 2, atol=1)
    assert found.slope == pytest.approx(EXPECTED_SLOPE, abs=0.1)
    assert found.as_expected
    assert not found.exceeds
    assert not found.at_edge
    assert found.expected_flip == -7.5
    assert found.excess == found.flip + 7.5


def test_centred_windows_do_not():
    at, other = means(smooth(1500, 2), centred=True)
    found = window_sweep({w: at(w) for w in WINDOWS}, other, WINDOWS, LAGS, draws=200)
    assert abs(found.slope) < 0.1
    assert not found.as_expected
    assert found.exceeds
    assert found.slope_interval[0] < found.slope < found.slope_interval[1]


def test_correlations_are_those_of_a_fixed_lag():
    at, other = means(smooth(200, 3))
    found = window_sweep(at, other, (10, 20), range(-12, 3), draws=20)
    common = other[0][19:]
    for window, lag, r in zip((10, 20), found.lags, found.correlations, strict=True):
        steps, values = at(window)
        kept = np.isin(steps, common)
        by_hand = association(values[kept], other[1][19:], common, lag=int(lag), draws=10)
        assert r == pytest.approx(by_hand.r)
    assert found.observations == 181


def test_interval_covers_half_in_short_runs():
    """The published length: 36 windows or so. The expected slope is left out no more often than 1 in 10."""
    left_out = 0
    for seed in range(40):
        at, other = means(smooth(90, 100 + seed))
        found = window_sweep(at, other, (10, 20), range(-14, 8), degree=1, draws=100)
        left_out += not found.as_expected
    assert left_out <= 10  # .10 of 40, and 3.2 standard errors


def test_what_cannot_be_read():
    at, other = means(smooth(60, 4))
    assert window_sweep(at, other, (10, 20), range(-40, 41), draws=5) is None
    assert window_sweep(at, (other[0], np.ones(60)), (10, 20), (-1, 0, 1), draws=5) is None
    assert window_sweep(at, other, (10, 20), (-1, 0), draws=5).at_edge
    with pytest.raises(InputError, match="two different"):
        window_sweep(at, other, (10, 10), (-1, 0))
