"""Two-sided CUSUM of a ratio after a reference stretch, with a threshold for a stated rate of false alarms.

A fixed threshold of 5 standard deviations supposes independent observations and a known mean and spread. Here the
threshold comes from AR(1) series, each standardised by its own reference, so that the uncertainty of mean and spread is
in it. Their memories are those with which a reference shows the lag-1 autocorrelation of the observed one, so that the
uncertainty of the memory is in it too: with the best estimate alone, .13 to .22 of series with memory .9 give an
alarm at a stated .05.

Rates of alarm at a stated .05 by observations of reference and test, and of alarms upwards where every observation of
the test lies 2 or 4 standard deviations higher (300 and 100 series, 300 draws each):

| memory | 20 + 20 | 40 + 40 | 100 + 50 | fixed threshold of 5 | shift of 2 | shift of 4 |
|---|---|---|---|---|---|---|
| 0 | .02 | .05 | .03 | .13 to .18 | .87, 1, 1 | 1, 1, 1 |
| .5 | .02 | .04 | .03 | .48 to .71 | .32, .78, 1 | .91, .99, 1 |
| .9 | .08 | .03 | .02 | .79 to .91 | .59, .48, .59 | .93, .95, 1 |
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectral_edge.errors import InputError
from spectral_edge.evaluate.ar1 import checked_series, lag1

Array = NDArray[np.float64]

SLACK = 0.5
"""Standard deviations that are taken off each deviation; half of the shift that is looked for (Page 1954)."""

FIXED = 5.0
"""The usual threshold, in standard deviations, whose rate of false alarms is given beside."""

MEMORIES = (-0.5, 0.998)
"""Correlations of neighbours that are thought possible, with Jeffreys' density 1 / sqrt(1 - memory^2)."""

KEPT = 10
"""One in so many series, those nearest in the autocorrelation of their reference, is kept."""

LEAST = 8
"""Observations that a reference has at least."""


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """The first alarm after a reference stretch.

    Attributes:
        reference: observations of the reference.
        tested: observations after it.
        mean: of the reference.
        spread: standard deviation of the reference.
        memory: median of the memories with which the null is drawn.
        threshold: of the CUSUM, in standard deviations.
        stated: probability of a false alarm within the tested stretch for which the threshold was chosen.
        simulated: rate of false alarms of this threshold on series that were not used to choose it.
        fixed_rate: the same for the fixed threshold of 5.
        step: of the first alarm; None without one.
        direction: of the change that raised it.
        largest: largest value of either CUSUM, in standard deviations.
        p: share of the series, the observed one among them, whose CUSUM gets at least as large.
    """

    reference: int
    tested: int
    mean: float
    spread: float
    memory: float
    threshold: float
    stated: float
    simulated: float
    fixed_rate: float
    step: int | None
    direction: Literal["up", "down"] | None
    largest: float
    p: float


def change_point(
    values: ArrayLike,
    steps: ArrayLike,
    *,
    reference: tuple[int, int],
    until: int | None = None,
    slack: float = SLACK,
    false_alarm: float = 0.05,
    draws: int = 2000,
    seed: int = 42,
) -> ChangePoint | None:
    """Looks for a change of level after a stretch in which there is none.

    The step of the alarm comes after that of the change: by 3 observations in the median for a shift of 4 standard
    deviations without memory, and by 10 to 20 with a memory of .9.

    Args:
        values: the series [N], at equally spaced observations.
        steps: of the observations, ascending [N].
        reference: first and last step of the stretch without a change.
        until: last step that is tested; the end of the series by default. It is to be fixed in advance.
        slack: standard deviations that each deviation must exceed to count.
        false_alarm: probability of an alarm on a series without a change, over all tested observations.
        draws: series from which the threshold comes, and as many again for its rate.
        seed: of the draws.

    Returns:
        The first alarm, if any; None where the reference has fewer than `LEAST` observations or no variation, or
        nothing comes after it.

    Raises:
        InputError: for series that are not finite or not aligned, or a probability that is not between 0 and 1.
    """
    if not 0 < false_alarm < 1:
        raise InputError("false_alarm", expected="between 0 and 1", found=str(false_alarm), remedy="state .05")
    at = checked_series("steps", steps)
    series = checked_series("values", values, len(at))
    quiet = series[(at >= reference[0]) & (at <= reference[1])]
    after = (at > reference[1]) & (at <= (at.max(initial=0) if until is None else until))
    tested, at = series[after], at[after]
    if len(quiet) < LEAST or not len(tested):
        return None
    mean, spread = float(quiet.mean()), float(quiet.std(ddof=1))
    if spread <= 1e-12 * abs(mean):
        return None
    seen = float(lag1(quiet - mean))
    rng = np.random.default_rng(seed)
    null, memories = _null(seen, len(quiet), len(tested), slack, draws, rng)
    again, _ = _null(seen, len(quiet), len(tested), slack, draws, rng)
    threshold = float(np.quantile(null, 1 - false_alarm))
    up, down = cusum((tested - mean) / spread, slack)
    both = np.maximum(up, down)
    crossed = np.flatnonzero(both > threshold)
    first = int(crossed[0]) if len(crossed) else None
    direction = None if first is None else ("up" if up[first] >= down[first] else "down")
    largest = float(both.max())
    return ChangePoint(
        reference=len(quiet),
        tested=len(tested),
        mean=mean,
        spread=spread,
        memory=float(np.median(memories)),
        threshold=threshold,
        stated=false_alarm,
        simulated=float((again > threshold).mean()),
        fixed_rate=float((again > FIXED).mean()),
        step=None if first is None else round(float(at[first])),
        direction=direction,
        largest=largest,
        p=float(((null >= largest).sum() + 1) / (draws + 1)),
    )


def cusum(deviations: Array, slack: float = SLACK) -> tuple[Array, Array]:
    """Cumulative sums above and below that start again at zero, each [..., N].

    Args:
        deviations: from the reference's mean, in its standard deviations [..., N].
        slack: what each deviation must exceed to count.
    """
    up, down = np.empty_like(deviations), np.empty_like(deviations)
    high, low = np.zeros(deviations.shape[:-1]), np.zeros(deviations.shape[:-1])
    for place in range(deviations.shape[-1]):
        high = np.maximum(high + deviations[..., place] - slack, 0.0)
        low = np.maximum(low - deviations[..., place] - slack, 0.0)
        up[..., place], down[..., place] = high, low
    return up, down


def _null(
    seen: float, reference: int, tested: int, slack: float, draws: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Largest CUSUM of series without a change, each standardised by its own reference, and their memories [draws].

    Series of all memories are drawn; kept are those whose reference has an autocorrelation nearest to the one seen.
    """
    low, high = np.arcsin(MEMORIES)
    memories = np.sin(rng.uniform(low, high, KEPT * draws))
    series = _series(memories, reference, tested, rng)
    quiet = series[:, :reference]
    mean, spread = quiet.mean(axis=1, keepdims=True), quiet.std(axis=1, ddof=1, keepdims=True)
    near = np.argsort(np.abs(lag1(quiet - mean) - seen), kind="stable")[:draws]
    up, down = cusum((series[near, reference:] - mean[near]) / spread[near], slack)
    return np.maximum(up, down).max(axis=1), memories[near]


def _series(memories: Array, reference: int, tested: int, rng: np.random.Generator) -> Array:
    """Stationary AR(1) series of unit variance, each with a memory of its own [draws, reference + tested]."""
    series = rng.standard_normal((reference + tested, len(memories)))
    fresh = np.sqrt(1 - memories**2)
    for place in range(1, len(series)):
        series[place] = memories * series[place - 1] + fresh * series[place]
    return series.T
