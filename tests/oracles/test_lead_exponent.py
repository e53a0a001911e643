"""The lead exponent against SciPy's regression, every arrangement by hand, and onsets that know or ignore t_grok."""

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import chisquare, linregress, t

from spectral_edge.errors import InputError
from spectral_edge.evaluate.lead_exponent import _drawn, lead_exponent


def runs(rng, count, *, exponent=0.0, spread=0.3):
    """t_grok over 1.3 decades, and onsets that grow as its power, all before it."""
    grok = 2000 * 20 ** rng.random(count)
    onset = 800 * (grok / 2000) ** exponent * np.exp(spread * rng.uniform(-2, 2, count))
    return grok, np.minimum(onset, 0.95 * grok)


def test_slopes_are_those_of_scipy():
    grok, onset = runs(np.random.default_rng(0), 11, exponent=0.5)
    found = lead_exponent(grok, onset, draws=99)
    for slope, interval, y in [
        (found.slope, found.interval, grok - onset),
        (found.onset_slope, found.onset_interval, onset),
    ]:
        fit = linregress(np.log(grok), np.log(y))
        reach = t.ppf(0.975, 9) * fit.stderr
        assert slope == pytest.approx(fit.slope)
        assert interval == pytest.approx((fit.slope - reach, fit.slope + reach))


def test_few_runs_are_arranged_in_every_possible_way():
    grok, onset = np.array([10.0, 40, 20, 90, 65]), np.array([5.0, 15, 12, 30, 3])
    slopes = []
    for order in permutations(range(5)):
        lead = grok - onset[list(order)]
        if (lead > 0).all():
            slopes.append(linregress(np.log(grok), np.log(lead)).slope)
    found = lead_exponent(grok, onset)
    assert found.possible == found.arrangements == len(slopes) < 120
    assert found.p_above == pytest.approx(np.mean(np.array(slopes) >= found.slope - 1e-9))
    assert found.shuffled_95 == pytest.approx(np.quantile(slopes, 0.95))
    assert found.shuffled == pytest.approx(tuple(np.quantile(slopes, [0.025, 0.975])))


def test_draws_are_uniform_over_the_possible_arrangements():
    start, grok = np.array([1.0, 2, 3, 4]), np.array([2.5, 3.5, 4.5, 9])
    drawn = _drawn(start, grok, 8000, np.random.default_rng(1))
    allowed = [p for p in permutations(start) if (np.array(p) < grok).all()]
    kinds, counts = np.unique(drawn, axis=0, return_counts=True)
    assert sorted(map(tuple, kinds)) == sorted(allowed)
    assert chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("exponent", [0.0, 0.3, 0.6, 0.9])
def test_slopes_above_one_are_automatic_where_onset_grows_more_slowly(exponent):
    """Theory section 11; the local slope is (t - b o) / (t - o)."""
    grok = 2000 * 20 ** np.linspace(0, 1, 12)
    onset = 800 * (grok / 2000) ** exponent
    found = lead_exponent(grok, onset, draws=999)
    local = (grok - exponent * onset) / (grok - onset)
    assert found.onset_slope == pytest.approx(exponent)
    assert 1 < local.min() < found.slope < local.max()
    assert found.shuffled_median > 1
    assert not found.passes  # a slope above 1, and yet no larger than by chance


def test_onset_proportional_to_t_grok_gives_one():
    grok = 2000 * 20 ** np.linspace(0, 1, 12)
    found = lead_exponent(grok, 0.3 * grok, draws=999)
    assert (found.slope, found.onset_slope) == pytest.approx((1, 1))
    assert found.interval == pytest.approx((1, 1))


def test_published_size():
    """Eleven rows with a slope near the published 1.18 have shuffled slopes like the published 1.08 to 1.51."""
    rng = np.random.default_rng(2)
    found = [lead_exponent(*runs(rng, 11, exponent=0.4), draws=499) for _ in range(50)]
    assert np.mean([f.slope > 1 for f in found]) == 1
    assert np.mean([f.shuffled[0] > 1 for f in found]) > 0.5


def test_level_and_power():
    """Independent onsets are called above at the level; onsets that come earlier in slower runs are found."""
    rng = np.random.default_rng(3)
    trials = 400
    level = np.mean([lead_exponent(*runs(rng, 12), draws=199, seed=s).passes for s in range(trials)])
    assert abs(level - 0.05) < 3 * np.sqrt(0.05 * 0.95 / trials)
    power = np.mean([lead_exponent(*runs(rng, 12, exponent=-0.4), draws=199, seed=s).passes for s in range(100)])
    rising = np.mean([lead_exponent(*runs(rng, 12, exponent=0.4), draws=199, seed=s).passes for s in range(100)])
    assert power > 0.5
    assert rising < 0.05


def test_what_is_undefined():
    assert lead_exponent([10, 20, 30], [1, 2, 3]) is None
    assert lead_exponent([10, 10, 10, 10], [1, 2, 3, 4]) is None
    found = lead_exponent([10, 20, 30, 40], [0, 2, 3, 4])
    assert found.onset_slope is found.onset_interval is None
    for bad in ([10, 2, 3, 4], [1, 2, 3], [-1, 2, 3, 4], [np.nan, 2, 3, 4]):
        with pytest.raises(InputError):
            lead_exponent([10, 20, 30, 40], bad)
    assert lead_exponent([10, 20, 30, 40, 50], [1, 2, 3, 4, 5], draws=20, seed=1) == lead_exponent(
        [10, 20, 30, 40, 50], [1, 2, 3, 4, 5], draws=20, seed=1
    )
