"""Paired differences between arms over seeds, and whether removing the mode at the gap did the most harm.

Seeds are the replicates: everything inside a seed (data, order, checkpoint) is shared by its arms, so differences are
taken seed by seed. An interval that holds zero is reported with the number of seeds that would decide.

A run that an arm breaks has no finite outcome, and that is the greatest harm of all, not a missing value. A mean cannot
hold it, so where it happens the verdict comes from the signs of the differences.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, nctdtr, stdtr, stdtrit

from spectral_edge.errors import InputError

Array = NDArray[np.float64]

MOST_SEEDS = 10_000
"""Above this many seeds an effect is called undecidable."""

COMPARABLE = 0.2
"""Arms whose displacements differ by more than this share of that at k* are not compared."""


@dataclass(frozen=True, slots=True)
class Paired:
    """The mean of paired differences with a Student interval.

    Attributes:
        n: pairs that count.
        left_out: pairs of which one outcome was not finite.
        mean: of the differences, in the outcome's unit.
        sd: their standard deviation.
        low: lower end of the interval; NaN below two pairs.
        high: upper end.
        p: two-sided p value of Student's test; NaN below two pairs.
        seeds: pairs that a test of this level needs to find an effect of this size with the stated power, if the mean
            and the standard deviation are the true ones; None where that is over `MOST_SEEDS`.
    """

    n: int
    left_out: int
    mean: float
    sd: float
    low: float
    high: float
    p: float
    seeds: int | None

    @property
    def sign(self) -> int:
        """1 or -1 where the interval excludes zero, else 0."""
        return int(self.low > 0) - int(self.high < 0)


def paired(differences: ArrayLike, *, confidence: float = 0.95, power: float = 0.8) -> Paired:
    """The mean of differences between two arms over seeds.

    Args:
        differences: one for each seed; what is not finite is left out and counted.
        confidence: of the two-sided interval.
        power: of the test that `Paired.seeds` speaks of.

    Raises:
        InputError: unless confidence and power lie between 0 and 1.
    """
    for name, value in (("confidence", confidence), ("power", power)):
        if not 0 < value < 1:
            raise InputError(name, expected="a number between 0 and 1", found=repr(value), remedy="pass 0.95, say")
    every = np.asarray(differences, dtype=np.float64).ravel()
    values = every[np.isfinite(every)]
    n, left_out = len(values), int(len(every) - len(values))
    mean = float(values.mean()) if n else math.nan
    if n < 2:
        return Paired(n, left_out, mean, math.nan, math.nan, math.nan, math.nan, None)
    sd = float(values.std(ddof=1))
    error = sd / math.sqrt(n)
    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = float(np.divide(abs(mean), error))
    p = math.nan if math.isnan(statistic) else 2 * float(stdtr(n - 1, -statistic))
    return Paired(n, left_out, mean, sd, mean - half, mean + half, p, seeds_needed(mean, sd, 1 - confidence, power))


def seeds_needed(effect: float, sd: float, level: float, power: float) -> int | None:
    """Pairs at which a two-sided paired t test finds an effect, by the noncentral t distribution.

    Args:
        effect: true mean of the differences.
        sd: their true standard deviation.
        level: of the test.
        power: wanted probability.

    Returns:
        The number, at least 2; None where it is over `MOST_SEEDS` or there is no effect.
    """
    if not (math.isfinite(effect) and math.isfinite(sd)) or effect == 0:
        return None
    if sd == 0:
        return 2

    def found(n: int) -> bool:
        critical = float(stdtrit(n - 1, 1 - level / 2))
        # The far tail of the noncentral distribution is lost to rounding long after the power has reached one.
        shift = min(math.sqrt(n) * abs(effect) / sd, 30.0 + critical)
        return 1 - float(nctdtr(n - 1, shift, critical)) >= power

    if not found(MOST_SEEDS):
        return None
    low, high = 1, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if found(middle) else (middle, high)
    return high


@dataclass(frozen=True, slots=True)
class Maximality:
    """Whether removing the mode at the gap did more harm than removing any other, for the same removed energy.

    Attributes:
        verdict: "supported" where the lead is above zero, "contradicted" where some position says that removing it does
            more harm (Bonferroni over the positions that are compared), else "inconclusive"; "not comparable" where
            the arms moved the parameters by different distances. By Student's test, or by the sign test where a run
            broke off in the comparison.
        lead: the outcome at k* minus the worst outcome at another position, over seeds; of finite ones only.
        rivals: by position, the outcome at k* minus the outcome there, over the seeds whose k* lies elsewhere.
        broken: number of runs whose outcome was not finite.
        apart: largest relative difference between an arm's displacement and that at k*; NaN if they were not given.
    """

    verdict: str
    lead: Paired
    rivals: dict[int, Paired] = field(default_factory=dict[int, Paired])
    broken: int = 0
    apart: float = math.nan


def maximality(
    outcomes: ArrayLike,
    edge: ArrayLike,
    *,
    displacements: ArrayLike | None = None,
    confidence: float = 0.95,
) -> Maximality:
    """Judges the Gap Maximality Principle (arXiv 2603.28964) on interventions matched in removed energy.

    The lead compares with the worst of several noisy outcomes and so errs against the principle; a contradiction is
    therefore never read off the lead.

    Args:
        outcomes: harm after removing the mode at each position [seeds, positions], say a test loss; larger is worse,
            and what is not finite is worse than anything that is.
        edge: k* of each seed [seeds], counted from 1.
        displacements: how far each arm moved the updates [seeds, positions] (`ArmResult.displacement`). Arms with the
            same removed energy may differ in it, and with it in harm; means over seeds that differ by more than
            `COMPARABLE` are not compared.
        confidence: of the intervals.

    Raises:
        InputError: if shapes disagree, there are fewer than two positions, or a k* is none of them.
    """
    harm = np.asarray(outcomes, dtype=np.float64)
    broken = int((~np.isfinite(harm)).sum())
    harm = np.where(np.isfinite(harm), harm, np.inf)
    positions = np.asarray(edge)
    if harm.ndim != 2 or harm.shape[1] < 2 or positions.shape != harm.shape[:1]:
        raise InputError(
            "outcomes",
            expected="[seeds, positions] with two positions at least, and one k* for each seed",
            found=f"{harm.shape} and {positions.shape}",
            remedy="pass one row for each seed",
        )
    if not ((positions >= 1) & (positions <= harm.shape[1])).all():
        raise InputError(
            "edge", expected=f"1 to {harm.shape[1]}", found=str(positions.tolist()), remedy="remove that mode too"
        )
    at_edge = np.take_along_axis(harm, positions[:, None] - 1, axis=1)
    elsewhere = np.arange(1, harm.shape[1] + 1) != positions[:, None]
    with np.errstate(invalid="ignore"):  # two runs that broke off are equally bad: no difference
        over_worst = at_edge[:, 0] - np.where(elsewhere, harm, -np.inf).max(axis=1)
        over = at_edge - harm
    differences = {j + 1: over[elsewhere[:, j], j] for j in range(harm.shape[1]) if elsewhere[:, j].any()}
    apart = math.nan if displacements is None else _apart(displacements, elsewhere, positions)
    shared = 1 - (1 - confidence) / len(differences)
    if displacements is not None and not apart <= COMPARABLE:
        verdict = "not comparable"
    elif _direction(over_worst, confidence) > 0:
        verdict = "supported"
    elif any(_direction(each, shared) < 0 for each in differences.values()):
        verdict = "contradicted"
    else:
        verdict = "inconclusive"
    rivals = {j: paired(each, confidence=confidence) for j, each in differences.items()}
    return Maximality(verdict, paired(over_worst, confidence=confidence), rivals, broken, apart)


def _direction(differences: Array, confidence: float) -> int:
    """1 or -1 where differences are decided, else 0; infinite ones count as what they are, NaN as a tie."""
    if np.isfinite(differences).all():
        return paired(differences, confidence=confidence).sign
    up, down = int((differences > 0).sum()), int((differences < 0).sum())
    # Two-sided sign test: the chance of so few or fewer on the rarer side, twice.
    decided = 2 * float(bdtr(min(up, down), up + down, 0.5)) <= 1 - confidence if up + down else False
    return int(np.sign(up - down)) if decided else 0


def _apart(displacements: ArrayLike, elsewhere: NDArray[np.bool_], positions: NDArray[Any]) -> float:
    """Largest relative difference between the mean displacement at a position and that at k*, over the same seeds."""
    moved = np.asarray(displacements, dtype=np.float64)
    if moved.shape != elsewhere.shape:
        raise InputError(
            "displacements",
            expected=f"one for each outcome, {elsewhere.shape}",
            found=str(moved.shape),
            remedy="pass ArmResult.displacement of the same arms",
        )
    at_edge = np.take_along_axis(moved, positions[:, None] - 1, axis=1)[:, 0]
    chosen = elsewhere.any(axis=0)
    here, there = (np.where(elsewhere, each, 0.0).sum(axis=0)[chosen] for each in (at_edge[:, None], moved))
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.abs(there / here - 1).max())
