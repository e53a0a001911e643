"""Collapse, stabilisation and lead against a slow twin, planted events and series without a relation."""

import numpy as np
import pytest

from spectral_edge.errors import InputError
from spectral_edge.evaluate.event_study import BARS, MAIN_BAR, event_study

COUNT = 60
STEPS = 200 * np.arange(1, COUNT + 1)


def run(collapse, settle, *, noise=0.0, seed=0):
    """A ratio that falls below every bar at one place, and a loss whose changes shrink tenfold at another."""
    rng = np.random.default_rng(seed)
    ratio = np.where(np.arange(COUNT) < collapse, 1.6, 1.05) + noise * rng.standard_normal(COUNT)
    ratio[max(collapse - 5, 0)] += 0.3
    change = np.where(np.arange(COUNT) < settle, 0.1, 0.01) * (1 + 0.2 * rng.random(COUNT))
    return ratio, 5 - np.cumsum(change)


def slow(ratio, loss, bar):
    """The rules, read word by word."""
    peak = max(range(COUNT), key=lambda t: ratio[t])
    collapse = next((t for t in range(peak, COUNT) if ratio[t] < bar), None)
    change = [abs(loss[t] - loss[t - 1]) for t in range(1, COUNT)]
    means = {t: np.mean(change[t - 3 : t]) for t in range(3, COUNT)}
    early = np.median([means[t] for t in range(3, 13)])
    calm = [t for t in range(13, COUNT) if means[t] < 0.3 * early]
    stable = next((t for t in calm if collapse is not None and t > collapse), None)
    return collapse, stable, calm[0] if calm else None


@pytest.mark.parametrize("seed", range(6))
def test_against_a_slow_twin(seed):
    rng = np.random.default_rng(seed)
    ratio = 1.25 + 0.15 * rng.standard_normal(COUNT)
    loss = np.cumsum(rng.standard_normal(COUNT)) * np.linspace(1, 0.3, COUNT)
    for found in event_study(ratio, loss, STEPS):
        collapse, stable, settled = slow(ratio, loss, found.bar)
        assert found.collapse_step == (None if collapse is None else STEPS[collapse])
        assert found.stable_step == (None if stable is None else STEPS[stable])
        assert found.settled_step == (None if settled is None else STEPS[settled])
        if stable is not None:
            assert found.lead == STEPS[stable] - STEPS[collapse] > 0
            shifts = [slow(np.roll(ratio, k), loss, found.bar) for k in range(COUNT)]
            null = [200 * (s[1] - s[0]) for s in shifts if s[1] is not None]
            assert found.null_median == np.median(null)
            assert found.null_share == pytest.approx(len(null) / COUNT)
            assert found.p_longer == pytest.approx(np.mean(np.array(null) >= found.lead) * len(null) / COUNT)
            assert found.p_longer + found.p_shorter > found.null_share


def test_planted_events():
    ratio, loss = run(20, 32)
    found = {lead.bar: lead for lead in event_study(ratio, loss, STEPS)}
    assert tuple(found) == BARS
    main = found[MAIN_BAR]
    assert main.collapse_step == STEPS[20]
    assert main.stable_step == main.settled_step == STEPS[34]  # the third small change
    assert main.lead == main.lead_free == 200 * 14


def test_a_loss_that_settles_first_shows_in_the_free_lead_only():
    ratio, loss = run(40, 20)
    (found,) = event_study(ratio, loss, STEPS, bars=[MAIN_BAR])
    assert found.lead == 200  # the published lead: the very next window
    assert found.lead_free == 200 * (22 - 40)
    assert found.p_free > 0.5


def test_size_of_the_shift():
    """A gap that collapses at any time, unrelated to the loss: a lead is called long no more often than stated."""
    rng = np.random.default_rng(1)
    draws, hits, shorter = 200, 0, 0
    for seed in range(draws):
        ratio, loss = run(int(rng.integers(6, COUNT - 1)), int(rng.integers(14, 50)), noise=0.02, seed=seed)
        (found,) = event_study(ratio, loss, STEPS, bars=[MAIN_BAR])
        hits += found.p_longer is not None and found.p_longer <= 0.1
        shorter += found.p_shorter is not None and found.p_shorter <= 0.1
    error = np.sqrt(0.1 * 0.9 / draws)
    assert hits / draws < 0.1 + 4 * error
    assert shorter / draws < 0.1 + 4 * error


def test_what_does_not_happen_is_none():
    ratio, loss = run(20, 32)
    (found,) = event_study(ratio + 1, loss, STEPS, bars=[MAIN_BAR])
    assert found.collapse_step is None
    assert found.lead is found.p_longer is found.null_median is None
    assert found.null_share == 0
    (found,) = event_study(ratio, 5 - 0.1 * np.arange(COUNT), STEPS, bars=[MAIN_BAR])
    assert found.collapse_step == STEPS[20]
    assert found.stable_step is found.settled_step is found.lead is found.lead_free is None
    (found,) = event_study(ratio[:8], loss[:8], STEPS[:8], bars=[MAIN_BAR])
    assert found.settled_step is None
    assert event_study([], [], [])[0].collapse_step is None
    with pytest.raises(InputError, match="ascending"):
        event_study(ratio, loss, STEPS[::-1])
