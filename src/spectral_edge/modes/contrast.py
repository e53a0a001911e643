"""Paired differences between arms over seeds, and whether removing the mode at the gap did the most harm.

Seeds are the replicates: everything inside a seed (data, order, checkpoint) is shared by its arms, so differences are
taken seed by seed. An interval that holds zero is reported with the number of seeds that would decide.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import nctdtr, stdtr, stdtrit

from spectral_edge.errors import InputError

Array = NDArray[np.float64]

MOST_SEEDS = 10_000
"""Above this many seeds an effect is called undecidable."""


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
        verdict: "supported" where the lead's interval lies above zero, "contradicted" where some position's interval
            (Bonferroni over positions) says that removing it does more harm, else "inconclusive".
        lead: the outcome at k* minus the worst outcome at another position, over seeds.
        rivals: by position, the outcome at k* minus the outcome there, over the seeds whose k* lies elsewhere.
    """

    verdict: str
    lead: Paired
    rivals: dict[int, Paired] = field(default_factory=dict[int, Paired])


def maximality(outcomes: ArrayLike, edge: ArrayLike, *, confidence: float = 0.95) -> Maximality:
    """Judges the Gap Maximality Principle (arXiv 2603.28964) on interventions matched in removed energy.

    The lead compares with the worst of several noisy outcomes and so errs against the principle; a contradiction is
    therefore never read off the lead.

    Args:
        outcomes: harm after removing the mode at each position [seeds, positions], say a test loss; larger is worse.
        edge: k* of each seed [seeds], counted from 1.
        confidence: of the intervals.

    Raises:
        InputError: if shapes disagree, there are fewer than two positions, or a k* is none of them.
    """
    harm = np.asarray(outcomes, dtype=np.float64)
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
    # A position whose run broke off leaves the worst unknown, so the seed is left out of the lead.
    worst = np.where(elsewhere, harm, -np.inf).max(axis=1)
    lead = paired(at_edge[:, 0] - worst, confidence=confidence)
    shared = 1 - (1 - confidence) / (harm.shape[1] - 1)
    rivals, strict = {}, []
    for j in range(harm.shape[1]):
        chosen = elsewhere[:, j]
        if chosen.any():
            difference = (at_edge[:, 0] - harm[:, j])[chosen]
            rivals[j + 1] = paired(difference, confidence=confidence)
            strict.append(paired(difference, confidence=shared).sign)
    verdict = "supported" if lead.sign > 0 else "contradicted" if -1 in strict else "inconclusive"
    return Maximality(verdict, lead, rivals)
