"""Which run is next: readings some share of the steps ahead, and whom a transition is compared with."""

from types import SimpleNamespace

import numpy as np
import pytest

from spectral_edge.claims.next_run import BANK, bank, next_units, told
from spectral_edge.claims.risk import AT_RISK, NORMS_ALIKE, at_risk, fit_at_risk, units_at_risk

STEPS = np.arange(100, 3_100, 100)


def run(name, grok, values, *, member="add", seed=1):
    """A run as claims see it, whose every metric has these values."""
    return SimpleNamespace(
        name=name, member=member, kind="any", seed=seed, grok=lambda: grok, metric=lambda metric: (STEPS, values)
    )


def cohort(rng, count):
    groks = rng.choice(STEPS[8:], size=count)
    return [
        run(f"{member}-{i}", None if i == 0 else int(grok), rng.standard_normal(len(STEPS)), member=member)
        for member in ("add", "sub")
        for i, grok in enumerate(groks)
    ]


@pytest.mark.parametrize("ahead", [0.05, 0.2, 0.5])
def test_wins_are_those_counted_by_hand(ahead):
    runs = cohort(np.random.default_rng(1), 9)
    wins = pairs = 0
    for one in runs:
        step = one.grok()
        if step is None:
            continue
        waiting = [o for o in runs if o is not one and o.member == one.member and (o.grok() or 10_000) >= step]
        # the last evaluation that is not behind the share of the steps
        at = max(i for i, evaluated in enumerate(STEPS) if evaluated <= (1 - ahead) * step)
        if waiting:
            others = sorted(o.metric("")[1][at] for o in waiting)
            pairs += 1
            wins += one.metric("")[1][at] > others[len(others) // 2]
    assert told(None, runs, "test accuracy", ahead=ahead) == (wins, pairs)
    assert pairs > 10


def test_what_is_behind_the_reading_is_not_looked_at():
    rng = np.random.default_rng(2)
    runs = cohort(rng, 6)
    before = next_units(None, runs, "test accuracy", ahead=0.2)
    step = min(one.grok() for one in runs if one.grok())
    first = [unit.run.value for unit in before if unit.run.name in {o.name for o in runs if o.grok() == step}]
    for one in runs:
        one.metric("")[1][0.8 * step < STEPS] = 9.0
    after = next_units(None, runs, "test accuracy", ahead=0.2)
    assert [unit.run.value for unit in after if unit.run.value != 9.0][: len(first)] == first


def test_a_transition_before_the_first_reading_leaves_its_run_out():
    early = run("early", 100, np.ones(len(STEPS)))
    others = [run("a", 1_000, np.ones(len(STEPS))), run("b", None, np.zeros(len(STEPS)))]
    units = next_units(None, [early, *others], "test accuracy", ahead=0.2)
    assert [unit.run.name for unit in units] == ["a"]
    assert units[0].controls[AT_RISK].value == 0.0


def test_a_run_of_which_the_reading_before_its_transition_is_unknown_waited_until_then():
    values = np.ones(5)
    steps = np.arange(1, 6)
    gone = at_risk(run("gone", 4, values), steps, [1.0, 2.0, 3.0, np.nan, 5.0])
    assert (gone.step.tolist(), gone.event.any()) == ([1.0, 2.0, 3.0], False)
    assert at_risk(run("none", 4, values), steps, np.full(5, np.nan)) is None
    bad = at_risk(run("bad", None, values), steps, values, {"norm": [1.0, 0.0, -1.0, np.e, 1.0]})
    assert (bad.step.tolist(), bad.norms["norm"].tolist()) == ([1.0, 4.0, 5.0], [0.0, 1.0, 0.0])


def test_beyond_norms_what_only_follows_the_norm_is_expected():
    """The run with the largest norm is next; the covariate is the norm's logarithm and a little of its own."""
    rng = np.random.default_rng(3)
    steps = np.arange(1, 9)
    found, own = [], {}
    for i in range(8):
        norm, own[f"r{i}"] = np.full(8, np.exp(i)), 0.01 * rng.standard_normal()
        found.append(at_risk(run(f"r{i}", 8 - i, steps), steps, np.log(norm) + own[f"r{i}"], {"norm": norm}))
    units = {unit.run.name: unit for unit in units_at_risk(found)}
    assert all(unit.run.value > unit.controls[AT_RISK].value for name, unit in units.items() if name != "r0")
    assert {name for name, unit in units.items() if NORMS_ALIKE in unit.controls} == {f"r{i}" for i in range(3, 8)}
    assert all(
        abs(unit.run.value - unit.controls[NORMS_ALIKE].value) < 0.1
        for unit in units.values()
        if NORMS_ALIKE in unit.controls
    )
    assert fit_at_risk(found[:3]) is None
    assert fit_at_risk(found).events == 8


def test_the_bank_waits_for_every_run_of_its_half():
    plan = {"add-1": 1, "add-2": 2, "add-3": 3}
    names = ["add-1", "add-2"]
    evidence = SimpleNamespace(
        planned=lambda study, family, role: plan if (study, role) == (BANK, "transition") else {},
        study=lambda study, family, role: [SimpleNamespace(name=name) for name in names],
    )
    assert bank(evidence, "arithmetic") == []
    names.append("add-3")
    assert [one.name for one in bank(evidence, "arithmetic")] == ["add-1", "add-3"]
