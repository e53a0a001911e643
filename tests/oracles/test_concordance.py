"""Concordance by brute force, the exact sign test and bootstrap intervals."""

from math import comb

import numpy as np
import pytest

from spectral_edge.errors import InputError
from spectral_edge.evaluate.concordance import bootstrap_interval, concordance, sign_test


def brute(risk, time, seen):
    """Pairs in which the first event is known to come first, one by one."""
    good = pairs = 0
    for i in range(len(time)):
        for j in range(len(time)):
            if i != j and seen[i] and (time[i] < time[j] or (time[i] == time[j] and not seen[j])):
                pairs += 1
                good += 1.0 if risk[i] > risk[j] else 0.5 if risk[i] == risk[j] else 0.0
    return good / pairs, pairs


@pytest.mark.parametrize("seed", range(8))
def test_concordance_by_brute_force(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(4, 25))
    risk, time = rng.integers(0, 6, count), rng.integers(1, 10, count)
    seen = rng.random(count) < 0.6
    seen[0] = True
    found = concordance(risk, time, seen, draws=50)
    if found is None:
        assert not any(seen[i] and time[i] <= time.max() for i in range(count) if (time > time[i]).any())
        return
    expected, pairs = brute(risk, time, seen)
    assert found.c == pytest.approx(expected)
    assert found.pairs == pairs
    assert concordance(-risk, time, seen, draws=5, higher="later").c == pytest.approx(expected)
    assert concordance(risk, time, seen, draws=5, higher="later").c == pytest.approx(1 - expected)
    assert found.interval[0] <= found.c <= found.interval[1]


def test_a_score_that_knows_and_one_that_does_not():
    rng = np.random.default_rng(1)
    time = rng.permutation(np.arange(1, 31))
    known = concordance(-time, time, np.ones(30), draws=500)
    assert known.c == 1
    assert known.interval == (1, 1)
    assert known.p == pytest.approx(1 / 501)
    assert known.pairs == 30 * 29 / 2
    same = concordance(np.zeros(30), time, np.ones(30), draws=100)
    assert same.c == 0.5
    assert same.tied == same.pairs
    assert same.p == 1
    censored = concordance(-time, np.minimum(time, 20), time <= 20, draws=100)
    assert censored.c == 1
    assert censored.events == 20
    assert concordance(-time, time, np.zeros(30)) is None


def test_size_and_coverage_on_scores_without_relation():
    rng = np.random.default_rng(2)
    hits = covered = 0
    for seed in range(200):
        time, seen = rng.exponential(size=20), rng.random(20) < 0.7
        found = concordance(rng.standard_normal(20), time, seen, draws=199, seed=seed)
        hits += found.p <= 0.05
        covered += found.interval[0] <= 0.5 <= found.interval[1]
    assert abs(hits / 200 - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 200)
    assert covered / 200 > 0.95 - 4 * np.sqrt(0.05 * 0.95 / 200)


def test_sign_test():
    twelve = sign_test(np.arange(1, 13))
    assert twelve.p_greater == pytest.approx(2.0**-12)  # the published 12 of 12
    assert twelve.p == pytest.approx(2.0**-11)
    mixed = sign_test([1, 2, 3, -1, 0, 0, 5])
    assert (mixed.positive, mixed.negative, mixed.ties) == (4, 1, 2)
    assert mixed.p_greater == pytest.approx(sum(comb(5, k) for k in (4, 5)) / 32)
    assert sign_test([0.0, 0.0]) is None
    with pytest.raises(InputError, match="finite"):
        sign_test([1.0, np.nan])


def test_bootstrap_interval():
    rng = np.random.default_rng(3)
    values = rng.standard_normal(60) + 3
    found = bootstrap_interval(values, draws=1999)
    error = values.std(ddof=1) / np.sqrt(60)
    np.testing.assert_allclose(found.interval, values.mean() + np.array([-1.96, 1.96]) * error, atol=0.15 * error * 2)
    assert found.method == "BCa"
    assert found.value == pytest.approx(values.mean())
    assert bootstrap_interval(values, np.median, draws=499).value == pytest.approx(np.median(values))
    same = bootstrap_interval([2.0, 2.0, 2.0])
    assert (same.interval, same.method) == ((2.0, 2.0), "percentile")
    assert bootstrap_interval([1.0]) is None
    assert bootstrap_interval(values, draws=99) == bootstrap_interval(values, draws=99)


def test_bootstrap_of_five_is_too_narrow_as_stated():
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(300):
        low, high = bootstrap_interval(rng.standard_normal(5), draws=299).interval
        held += low <= 0 <= high
    assert abs(held / 300 - 0.84) < 4 * np.sqrt(0.84 * 0.16 / 300)
