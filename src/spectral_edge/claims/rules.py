"""The rules by which a claim gets its verdict. What changed after runs were read is told in docs/claims/rules.md.

For each class of controls the units are pairs of a run and its control. Under the hypothesis that a run is no more as
claimed than its control, P(run > control) <= 1/2, wins are at most binomial with 1/2, ties lose, and

    e = (1 / (1 - b)) integral over b < p < 1 of p^wins (1-p)^losses dp / (1/2)^pairs,    b = 0.7,

is an e-value: its expectation is at most 1, so that it exceeds 20 times the number of claims with a probability of at
most 1 / (20 x claims), and any claim does on one family with at most 5 % (Markov's inequality, then a union bound over
the claims; Vovk and Wang 2021). Of a claim's several families together it promises nothing; synthetic ledgers measure
that. The alternatives that it averages over are those that the verdict asks for. Intervals are of Clopper and
Pearson, 95 %.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from math import exp, log

from scipy.special import betaincc, betaln
from scipy.stats import binom, binomtest

from spectral_edge.claims.claim import Published, Unit

WORTH = 0.7
"""Least lower bound of P(run > control) that confirms, and the least alternative in the e-value."""
UNHELPFUL = 0.75
"""An upper bound of P(run > control) at most so large says that a control is about as likely to show it."""
OFTEN = 0.5
"""A lower bound, at least so large, of the rate at which controls meet the criterion disqualifies it; one of
the rate at which runs do is what a confirmation asks for."""
ENOUGH_PAIRS = 12
"""Pairs below which P(run > control) cannot be called small."""
ERROR = 0.05
"""Probability that claims that are all false confirm any of them on one family."""
ALTERNATIVE, POWER = 0.95, 0.8
"""P(run > control) for which power is stated, and the power at which runs would decide."""
MOST_RUNS = 500
TIE = 1e-6
"""Relative difference of two scalars below which they are equal: surrogates keep norms up to rounding, and what is a
function of norms alone would be told apart by the last digit."""

Interval = tuple[float, float]


class Verdict(StrEnum):
    """What a claim comes to on one family."""

    CONFIRMED = "confirmed"
    NOT_DISCRIMINATING = "not discriminating"
    REFUTED = "refuted"
    INCONCLUSIVE = "inconclusive"
    NOT_TESTABLE = "not testable here"


@dataclass(frozen=True, slots=True)
class Rate:
    """A share, with its interval of Clopper and Pearson.

    Attributes:
        count: how many.
        of: of how many, at least 1.
    """

    count: int
    of: int

    @property
    def interval(self) -> Interval:
        """95 %, two-sided."""
        return _clopper_pearson(self.count, self.of)


@dataclass(frozen=True, slots=True)
class Tally:
    """Runs against one class of controls.

    Attributes:
        wins: pairs in which the run's scalar exceeds its control's; None without a pair.
        e_value: evidence against P(run > control) <= 1/2; 1 without a pair.
        passed: controls that meet the criterion; None where no control's pass is known.
    """

    wins: Rate | None
    e_value: float
    passed: Rate | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on one claim and family, with what led to it.

    Attributes:
        verdict: by the rules of this module.
        because: in words.
        scalar: the verdict that the scalar alone would get, the criterion left aside.
        passed: runs that meet the criterion; None where no run's pass is known.
        tallies: by class of controls.
        power: probability that as many pairs confirm if P(run > control) is `ALTERNATIVE` in every class, which is what
            the rules can see at best; None where nothing was run, or more runs make no more units.
        needed: fewest runs with a power of `POWER`, each with a control of every class; for a claim without controls
            the fewest that would refute it if none met the criterion. None where no rate was published, more runs
            make no more units, or runs meet the criterion too seldom for any number of them.
    """

    verdict: Verdict
    because: str
    scalar: Verdict
    passed: Rate | None
    tallies: Mapping[str, Tally]
    power: float | None
    needed: int | None


def e_value(wins: int, pairs: int) -> float:
    """Evidence against P(run > control) <= 1/2; see the module's description."""
    if pairs == 0:
        return 1.0
    shape = (wins + 1, pairs - wins + 1)
    tail = float(betaincc(*shape, WORTH))
    if tail == 0.0:
        return 0.0
    return exp(betaln(*shape) + log(tail) + pairs * log(2.0) - log(1.0 - WORTH))


@lru_cache(maxsize=4096)
def wins_needed(pairs: int, claims: int) -> int | None:
    """Fewest wins among so many pairs that confirm, or None where not even all of them do."""
    for wins in range(pairs + 1):
        if _convincing(wins, pairs, claims):
            return wins
    return None


@lru_cache(maxsize=4096)
def power(pairs: int, claims: int, *, classes: int) -> float:
    """Probability that so many pairs confirm against every class, if wins are independent with `ALTERNATIVE`."""
    least = wins_needed(pairs, claims)
    return 0.0 if least is None else float(binom.sf(least - 1, pairs, ALTERNATIVE)) ** classes


@lru_cache(maxsize=4096)
def runs_needed(claims: int, *, classes: int) -> int:
    """Fewest runs that reach a power of `POWER`."""
    return next((n for n in range(1, MOST_RUNS) if power(n, claims, classes=classes) >= POWER), MOST_RUNS)


def judge(
    units: Sequence[Unit], *, classes: Sequence[str], published: Published, claims: int, joint: bool = False
) -> Judgement:
    """Verdict on one claim and family.

    Args:
        units: what was measured.
        classes: classes of controls that have to be beaten.
        published: what was reported.
        claims: number of claims in the ledger.
        joint: whether the one unit is a fit over all runs.
    """
    tallies = {name: _tally(units, name) for name in classes}
    passed = _passed([unit.run.passed for unit in units])
    needed = None if joint else runs_needed(claims, classes=len(classes)) if classes else _runs_to_refute(published)
    fewest = min((0 if t.wins is None else t.wins.of for t in tallies.values()), default=0)
    might = power(fewest, claims, classes=len(classes)) if units and classes and not joint else None
    seldom = ""
    if passed is not None and passed.interval[1] < OFTEN:
        seldom = f"{_met(passed)}, at most {passed.interval[1]:.2f}, so that no number of such runs confirms"
        needed, might = None if classes else needed, None if might is None else 0.0

    scalar = _of_scalar(tallies, claims)

    def reached(verdict: Verdict, because: str) -> Judgement:
        return Judgement(verdict, because, scalar, passed, tallies, might, needed)

    known = [unit for unit in units if unit.run.value is not None or unit.run.passed is not None]
    if not known:
        return reached(Verdict.NOT_TESTABLE, "no run of this family is recorded in which it is defined")
    refuted = _refuted(passed, published)
    if refuted:
        return reached(Verdict.REFUTED, refuted)
    idle = [text for name, tally in tallies.items() if (text := _unhelpful(name, tally))]
    if idle:
        return reached(Verdict.NOT_DISCRIMINATING, "; ".join(idle))
    short = [text for name, tally in tallies.items() if (text := _short(name, tally, claims, joint=joint))]
    if tallies and not short:
        if passed is not None and passed.interval[0] < OFTEN:
            beaten = "although the scalar beats every class of controls"
            return reached(Verdict.INCONCLUSIVE, f"{seldom or _met(passed)}, {beaten}")
        return reached(Verdict.CONFIRMED, "against every class of controls")
    if not tallies:
        short = ["no class of controls applies, and its rate decides nothing"]
    elif seldom:
        short.append(seldom)
    return reached(Verdict.INCONCLUSIVE, "; ".join(short))


@lru_cache(maxsize=4096)
def _clopper_pearson(count: int, of: int) -> Interval:
    found = binomtest(count, of).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)


def _tally(units: Sequence[Unit], name: str) -> Tally:
    pairs = [(unit.run.value, unit.controls[name].value) for unit in units if name in unit.controls]
    known = [(run, control) for run, control in pairs if run is not None and control is not None]
    wins = sum(run - control > TIE * max(abs(run), abs(control)) for run, control in known)
    passed = _passed([unit.controls[name].passed for unit in units if name in unit.controls])
    return Tally(Rate(wins, len(known)) if known else None, e_value(wins, len(known)), passed)


def _passed(values: Sequence[bool | None]) -> Rate | None:
    known = [value for value in values if value is not None]
    return Rate(sum(known), len(known)) if known else None


def _of_scalar(tallies: Mapping[str, Tally], claims: int) -> Verdict:
    if all(tally.wins is None for tally in tallies.values()):
        return Verdict.NOT_TESTABLE
    if any(_no_more_than(tally) for tally in tallies.values()):
        return Verdict.NOT_DISCRIMINATING
    beaten = all(
        tally.wins is not None and _convincing(tally.wins.count, tally.wins.of, claims) for tally in tallies.values()
    )
    return Verdict.CONFIRMED if beaten else Verdict.INCONCLUSIVE


def _no_more_than(tally: Tally) -> bool:
    """Whether enough pairs say that the run does not exceed its control often."""
    return tally.wins is not None and tally.wins.of >= ENOUGH_PAIRS and tally.wins.interval[1] <= UNHELPFUL


def _refuted(passed: Rate | None, published: Published) -> str | None:
    if passed is None or published.passed is None or not published.of:
        return None
    least = Rate(published.passed, published.of).interval[0]
    high = passed.interval[1]
    if high >= least:
        return None
    return f"{_met(passed)}, at most {high:.2f}; published {published.passed} of {published.of}, at least {least:.2f}"


def _met(passed: Rate) -> str:
    return f"{passed.count} of {passed.of} runs meet the criterion"


def _runs_to_refute(published: Published) -> int | None:
    if published.passed is None or not published.of:
        return None
    least = Rate(published.passed, published.of).interval[0]
    return next((n for n in range(1, MOST_RUNS) if Rate(0, n).interval[1] < least), None)


def _unhelpful(name: str, tally: Tally) -> str | None:
    found: list[str] = []
    if tally.passed is not None and tally.passed.interval[0] >= OFTEN:
        found.append(f"{tally.passed.count} of {tally.passed.of} controls ({name}) meet the criterion")
    if tally.wins is not None and _no_more_than(tally):
        found.append(f"the run exceeds its control ({name}) in {tally.wins.count} of {tally.wins.of} pairs")
    return ", ".join(found) or None


def _short(name: str, tally: Tally, claims: int, *, joint: bool) -> str | None:
    if tally.wins is None:
        return f"{'no control' if tally.passed is None else 'no scalar of a control'} ({name}) is recorded"
    if joint:
        won = "exceeds" if tally.wins.count else "does not exceed"
        return f"one fit over all runs, which {won} that of its control ({name}) and decides nothing by these rules"
    if _convincing(tally.wins.count, tally.wins.of, claims):
        return None
    least = wins_needed(tally.wins.of, claims)
    asked = "too few pairs for any number of wins" if least is None else f"{least} would do"
    return f"{tally.wins.count} wins in {tally.wins.of} pairs ({name}); {asked}"


def _convincing(wins: int, pairs: int, claims: int) -> bool:
    return pairs > 0 and e_value(wins, pairs) >= claims / ERROR and Rate(wins, pairs).interval[0] >= WORTH
