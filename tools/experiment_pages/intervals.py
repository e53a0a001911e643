"""Intervals of 95 % for what few runs can say."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: the number.
        low: lower limit; NaN where there is no interval.
        high: upper limit.
        count: of what it was estimated from.
    """

    value: float
    low: float
    high: float
    count: int

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.low)


def mean(values: Sequence[float]) -> Estimate | None:
    """Mean with Student's t; None without values, no interval with one."""
    if not values:
        return None
    count, centre = len(values), float(np.mean(values))
    if count < 2:
        return Estimate(centre, math.nan, math.nan, count)
    half = float(stats.t.ppf(0.975, count - 1) * np.std(values, ddof=1) / math.sqrt(count))
    return Estimate(centre, centre - half, centre + half, count)


def mean_share(values: Sequence[float]) -> Estimate | None:
    """Mean of shares; its limits stay between none and all."""
    found = mean(values)
    return found and Estimate(found.value, max(found.low, 0.0), min(found.high, 1.0), found.count)


def geometric(values: Sequence[float]) -> Estimate | None:
    """Geometric mean of positive numbers with Student's t on the logarithms; None without positive values."""
    found = mean([math.log(value) for value in values if value > 0])
    return found and Estimate(math.exp(found.value), math.exp(found.low), math.exp(found.high), found.count)


def difference(ours: Sequence[float], theirs: Sequence[float]) -> Estimate | None:
    """Difference of two means with Welch's interval; None where either has no value, no interval where either has one.

    Without any spread in either the interval is the difference itself.
    """
    if not ours or not theirs:
        return None
    centre, count = float(np.mean(ours) - np.mean(theirs)), min(len(ours), len(theirs))
    if count < 2:
        return Estimate(centre, math.nan, math.nan, count)
    parts = [float(np.var(values, ddof=1)) / len(values) for values in (ours, theirs)]
    total = sum(parts)
    if total == 0:
        return Estimate(centre, centre, centre, count)
    freedom = total**2 / sum(part**2 / (len(v) - 1) for part, v in zip(parts, (ours, theirs), strict=True))
    half = float(stats.t.ppf(0.975, freedom)) * math.sqrt(total)
    return Estimate(centre, centre - half, centre + half, count)


def share(hits: int, count: int) -> Estimate | None:
    """A share with the exact interval of Clopper and Pearson; None of nothing."""
    if count == 0:
        return None
    found = stats.binomtest(hits, count).proportion_ci(confidence_level=0.95, method="exact")
    return Estimate(hits / count, float(found.low), float(found.high), count)
