"""The rules of the ledger against exact sums and integrals, and every verdict on units made for it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import binom, binomtest

from spectral_edge.claims import Measured, Published, Unit, Verdict, judge
from spectral_edge.claims.rules import WORTH, Rate, e_value, power, runs_needed, wins_needed

CLAIMS = 32
NOTHING = Published("nothing", "none")


def units(wins, pairs, *, passed=None, control_passed=None, classes=("one", "two")):
    """Pairs of which so many are won against every class."""
    made = []
    for i in range(pairs):
        value = 1.0 if i < wins else -1.0
        run = Measured(f"{i}", value, None if passed is None else i < passed)
        control = Measured(f"{i}", 0.0, None if control_passed is None else i < control_passed)
        made.append(Unit(run, dict.fromkeys(classes, control)))
    return made


def verdict(made, *, published=NOTHING, classes=("one", "two")):
    return judge(made, classes=classes, published=published, claims=CLAIMS).verdict


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_e_value_is_the_integral_that_it_is_said_to_be(wins, losses):
    pairs = wins + losses
    expected = quad(lambda p: p**wins * (1 - p) ** losses * 2.0**pairs / (1 - WORTH), WORTH, 1, epsrel=1e-10)[0]
    assert e_value(wins, pairs) == pytest.approx(expected if pairs else 1.0, rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("p", [0.5, 0.4, 0.1])
@pytest.mark.parametrize("pairs", [1, 12, 40])
def test_its_expectation_is_at_most_one_without_an_effect(p, pairs):
    wins = np.arange(pairs + 1)
    assert sum(binom.pmf(wins, pairs, p) * [e_value(k, pairs) for k in wins]) <= 1 + 1e-12


@given(st.integers(0, 50), st.integers(1, 50))
def test_intervals_are_those_of_clopper_and_pearson(count, extra):
    found = Rate(count, count + extra).interval
    expected = binomtest(count, count + extra).proportion_ci(0.95, method="exact")
    assert found == pytest.approx((expected.low, expected.high))


def test_twelve_of_twelve_is_the_least_that_confirms():
    assert wins_needed(11, CLAIMS) is None
    assert wins_needed(12, CLAIMS) == 12
    assert verdict(units(12, 12)) is Verdict.CONFIRMED
    assert verdict(units(11, 12)) is Verdict.INCONCLUSIVE
    assert verdict(units(11, 11)) is Verdict.INCONCLUSIVE


def test_every_class_has_to_be_beaten_and_be_there():
    made = units(20, 20)
    lost = [Unit(u.run, {"one": u.controls["one"], "two": Measured("", 2.0)}) for u in made]
    assert verdict(lost) is Verdict.NOT_DISCRIMINATING
    absent = [Unit(u.run, {"one": u.controls["one"]}) for u in made]
    found = judge(absent, classes=("one", "two"), published=NOTHING, claims=CLAIMS)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "two" in found.because


@pytest.mark.parametrize(("run", "control", "wins"), [(0, 0, 0), (-2, -2 - 1e-7, 0), (2 + 1e-5, 2, 12), (1e-9, 0, 12)])
def test_ties_up_to_rounding_lose(run, control, wins):
    made = [Unit(Measured(f"{i}", run), {"one": Measured(f"{i}", control)}) for i in range(12)]
    assert judge(made, classes=("one",), published=NOTHING, claims=CLAIMS).tallies["one"].wins == Rate(wins, 12)


def test_a_criterion_that_controls_meet_does_not_discriminate_whatever_the_scalar_says():
    found = judge(units(20, 20, passed=20, control_passed=20), classes=("one", "two"), published=NOTHING, claims=CLAIMS)
    assert found.verdict is Verdict.NOT_DISCRIMINATING
    assert found.scalar is Verdict.CONFIRMED
    assert verdict(units(20, 20, passed=20, control_passed=5)) is Verdict.CONFIRMED
    # five of five are too few to say that a class meets it in half of the cases
    assert verdict(units(5, 5, passed=5, control_passed=5)) is Verdict.INCONCLUSIVE


def test_a_criterion_that_runs_miss_is_not_confirmed_whatever_the_scalar_says():
    found = judge(units(16, 16, passed=8), classes=("one", "two"), published=NOTHING, claims=CLAIMS)
    assert (found.verdict, found.scalar) == (Verdict.INCONCLUSIVE, Verdict.CONFIRMED)
    assert "8 of 16 runs meet the criterion" in found.because
    assert verdict(units(16, 16, passed=15)) is Verdict.CONFIRMED


def test_where_runs_miss_the_criterion_no_number_of_them_is_said_to_confirm():
    found = judge(units(9, 10, passed=0), classes=("one", "two"), published=NOTHING, claims=CLAIMS)
    assert (found.verdict, found.power, found.needed) == (Verdict.INCONCLUSIVE, 0.0, None)
    assert "0 of 10 runs meet the criterion, at most 0.31, so that no number of such runs confirms" in found.because
    open_yet = judge(units(9, 10, passed=3), classes=("one", "two"), published=NOTHING, claims=CLAIMS)
    assert open_yet.needed == runs_needed(CLAIMS, classes=2)


def test_wins_that_are_rare_do_not_discriminate_with_twelve_pairs_and_not_with_fewer():
    assert verdict(units(4, 12)) is Verdict.NOT_DISCRIMINATING
    assert verdict(units(4, 11)) is Verdict.INCONCLUSIVE


def test_refuted_where_the_rates_exclude_each_other():
    published = Published("24 of 24", "", 24, 24)
    assert verdict(units(5, 5, passed=0), published=published) is Verdict.REFUTED
    assert verdict(units(5, 5, passed=3), published=published) is Verdict.INCONCLUSIVE
    assert verdict(units(5, 5, passed=0)) is Verdict.INCONCLUSIVE


def test_nothing_recorded_is_not_testable():
    assert verdict([]) is Verdict.NOT_TESTABLE
    assert verdict([Unit(Measured("undefined", None))]) is Verdict.NOT_TESTABLE


def test_power_is_what_drawing_wins_gives():
    rng, pairs, draws = np.random.default_rng(0), 17, 4_000
    confirmed = 0
    for wins in rng.binomial(pairs, 0.95, size=(draws, 2)):
        made = [
            Unit(
                Measured("", 0.0),
                {"one": Measured("", -1.0 + 2 * (i >= wins[0])), "two": Measured("", -1.0 + 2 * (i >= wins[1]))},
            )
            for i in range(pairs)
        ]
        confirmed += verdict(made) is Verdict.CONFIRMED
    expected = power(pairs, CLAIMS, classes=2)
    assert abs(confirmed / draws - expected) < 4 * np.sqrt(expected * (1 - expected) / draws)


def test_the_runs_that_would_decide_are_the_fewest():
    for classes in (1, 3):
        needed = runs_needed(CLAIMS, classes=classes)
        assert power(needed, CLAIMS, classes=classes) >= 0.8
        assert all(power(n, CLAIMS, classes=classes) < 0.8 for n in range(1, needed))


def test_a_claim_without_controls_says_how_many_failures_refute():
    found = judge([], classes=(), published=Published("3 of 3", "", 3, 3), claims=CLAIMS)
    least = Rate(3, 3).interval[0]
    assert Rate(0, found.needed).interval[1] < least <= Rate(0, found.needed - 1).interval[1]
    assert judge([], classes=(), published=NOTHING, claims=CLAIMS).needed is None


def test_under_no_effect_hardly_any_ledger_confirms():
    rng, confirmed = np.random.default_rng(1), 0
    for _ in range(300):
        values = rng.standard_normal((27, 4))
        made = [
            Unit(Measured("", row[0]), {name: Measured("", value) for name, value in zip("abc", row[1:], strict=True)})
            for row in values
        ]
        confirmed += verdict(made, classes=("a", "b", "c")) is Verdict.CONFIRMED
    assert confirmed == 0


def test_one_fit_over_all_runs_is_not_told_how_many_more_would_decide():
    found = judge(units(1, 1), classes=("one", "two"), published=NOTHING, claims=CLAIMS, joint=True)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert (found.power, found.needed) == (None, None)
    assert "one fit over all runs, which exceeds that of its control (one)" in found.because


def test_a_control_whose_pass_is_known_is_recorded_though_its_scalar_is_not():
    made = [Unit(Measured("run", 1.0), {"one": Measured("control", None, False)})]
    found = judge(made, classes=("one", "two"), published=NOTHING, claims=CLAIMS)
    assert found.because == "no scalar of a control (one) is recorded; no control (two) is recorded"
