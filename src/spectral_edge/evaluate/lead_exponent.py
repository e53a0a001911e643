"""Prediction M6: the lead of a precursor grows as t_grok^a with a > 1, and what a is without a relation.

The lead is t_grok - onset. Its slope against t_grok on logarithms is (t_grok - b onset) / (t_grok - onset) where onset
grows as t_grok^b, so it lies above 1 whenever onset grows more slowly than t_grok, onsets that ignore t_grok included
(theory section 11). What can be tested is whether the slope lies above those of onsets dealt to the runs at random.

An onset comes before its t_grok, so only arrangements that keep this order are possible, and each of these is equally
likely where onset and t_grok are otherwise unrelated (quasi-independence, Tsai 1990). Runs sorted by t_grok may take
the onsets one after the other, each any of those that are left: every possible arrangement has the same chance.

So a slope above the shuffled ones says that the precursor comes earlier in slower runs. A precursor whose onset rises
with t_grok has a slope below them and fails M6, however large the slope is.

Share of trials that pass (t_grok over 1.3 decades, onset within a factor of 1.8 about its law; 1000 trials on the left,
300 for the others):

| runs | onset ignores t_grok | onset ~ t_grok^-.4 | onset ~ t_grok^.4 |
|---|---|---|---|
| 6 | .060 | .33 | .00 |
| 12 | .062 | .66 | .00 |
| 24 | .046 | .93 | .00 |
"""

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from spectral_edge.errors import InputError

Array = NDArray[np.float64]
Interval = tuple[float, float]

LEAST = 4
"""Runs below which a slope has no interval to speak of."""


@dataclass(frozen=True, slots=True)
class LeadExponent:
    """Slopes on natural logarithms over runs that grokked.

    Attributes:
        runs: number of runs.
        slope: a, of ln(t_grok - onset) on ln t_grok.
        interval: 95 % of it, least squares with Student's t.
        onset_slope: b, of ln onset on ln t_grok; None where an onset is zero.
        onset_interval: 95 % of it.
        possible: number of arrangements that keep every onset before its t_grok, the observed one included.
        arrangements: how many of them were used: all, or the draws and the observed one.
        shuffled_median: median slope over them.
        shuffled: their 2.5th and 97.5th percentile.
        shuffled_95: their 95th percentile.
        p_above: share of them with at least the observed slope.
    """

    runs: int
    slope: float
    interval: Interval
    onset_slope: float | None
    onset_interval: Interval | None
    possible: int
    arrangements: int
    shuffled_median: float
    shuffled: Interval
    shuffled_95: float
    p_above: float

    @property
    def passes(self) -> bool:
        """The rule of M6: the slope lies above 95 % of the shuffled ones."""
        return self.p_above <= 0.05


def lead_exponent(t_grok: ArrayLike, onset: ArrayLike, *, draws: int = 9999, seed: int = 0) -> LeadExponent | None:
    """The exponent of the lead beside those of shuffled onsets.

    Args:
        t_grok: steps at which the runs grokked [n]; leave out runs that did not.
        onset: steps of the precursor [n], each at least 0 and before its t_grok; leave out runs without one.
        draws: arrangements to draw where there are more; all are used otherwise.
        seed: of the draws.

    Returns:
        The slopes; None with fewer than `LEAST` runs, or where all t_grok are equal.

    Raises:
        InputError: for columns of unequal length, or an onset that is not before its t_grok: such a run has no lead,
            and leaving it out selects for leads, so the caller has to decide and say so.
    """
    grok, start = (np.asarray(values, dtype=np.float64) for values in (t_grok, onset))
    if grok.ndim != 1 or grok.shape != start.shape:
        raise InputError(
            "onset",
            expected="one for each t_grok",
            found=f"shapes {start.shape} and {grok.shape}",
            remedy="pass the runs that have both",
        )
    late = ~((start >= 0) & (start < grok) & np.isfinite(grok))
    if late.any():
        raise InputError(
            "onset",
            expected="steps of at least 0 and before t_grok in every run",
            found=f"{int(late.sum())} others of {len(grok)}",
            remedy="leave those runs out and report how many they are",
        )
    if len(grok) < LEAST or grok.min() == grok.max():
        return None
    order = np.argsort(grok, kind="stable")
    grok, start = grok[order], start[order]
    log = np.log(grok)
    choices = [int((start < limit).sum()) - taken for taken, limit in enumerate(grok)]
    possible = prod(choices)
    if possible <= draws + 1:
        shuffled = _every(start, grok)
    else:
        shuffled = np.concatenate([start[None], _drawn(start, grok, draws, np.random.default_rng(seed))])
    slopes = _slopes(log, np.log(grok - shuffled))
    slope, interval = _fitted(log, np.log(grok - start))
    onset_fit = _fitted(log, np.log(start)) if (start > 0).all() else (None, None)
    low, middle, high, upper = (float(q) for q in np.quantile(slopes, [0.025, 0.5, 0.975, 0.95]))
    return LeadExponent(
        runs=len(grok),
        slope=slope,
        interval=interval,
        onset_slope=onset_fit[0],
        onset_interval=onset_fit[1],
        possible=possible,
        arrangements=len(slopes),
        shuffled_median=middle,
        shuffled=(low, high),
        shuffled_95=upper,
        p_above=float((slopes >= slope - 1e-9 * (1 + abs(slope))).mean()),
    )


def _slopes(x: Array, y: Array) -> Array:
    """Least-squares slopes of rows [m, n] on x [n]."""
    centred = x - x.mean()
    return y @ centred / float(centred @ centred)


def _fitted(x: Array, y: Array) -> tuple[float, Interval]:
    slope = float(_slopes(x, y[None])[0])
    centred = x - x.mean()
    left = y - y.mean() - slope * centred
    free = len(x) - 2
    reach = float(stdtrit(free, 0.975)) * float(np.sqrt(left @ left / free / (centred @ centred)))
    return slope, (slope - reach, slope + reach)


def _every(start: Array, grok: Array) -> Array:
    """All arrangements with start < grok [m, n]; grok ascends."""
    rows: list[list[int]] = [[]]
    for limit in grok:
        allowed = [int(k) for k in np.flatnonzero(start < limit)]
        rows = [[*row, k] for row in rows for k in allowed if k not in row]
    return start[np.array(rows, dtype=np.intp)]


def _drawn(start: Array, grok: Array, draws: int, rng: np.random.Generator) -> Array:
    """Arrangements with start < grok [draws, n], each with the same chance; grok ascends."""
    found = np.empty((draws, len(grok)))
    free = np.ones((draws, len(grok)), dtype=np.bool_)
    rows = np.arange(draws)
    for at, limit in enumerate(grok):
        priority = np.where(free & (start < limit), rng.random(free.shape), -1.0)
        pick = priority.argmax(axis=1)
        found[:, at] = start[pick]
        free[rows, pick] = False
    return found
