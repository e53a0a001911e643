"""Does the response to a slow cycle depend on its direction because of memory, or because of a second state?

Everything that relaxes slowly trails a cycle and so draws a loop. The loop of a lag closes as the cycle is slowed
down, in proportion to 1 / period; that of a system with two states does not. So the same cycle is run at several
periods and the loop area is extrapolated to an infinite one.

The area of a loop is the mean of the response on the way down minus its mean on the way up: the control moves evenly
in time, so a mean over time is an integral over the control, whose range counts as one. It is in the response's unit.
Four branches u1 d1 u2 d2 in turn give (-u1 + 3 d1 - 3 u2 + d2) / 4, from which trends of the response that are linear
or quadratic in time cancel: a run that is still learning draws no loop by that alone.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import fdtri

from spectral_edge.errors import InputError
from spectral_edge.modes.contrast import Paired, paired

Array = NDArray[np.float64]

CONTRAST = np.array([-1.0, 3.0, -3.0, 1.0]) / 4
"""Weights of four successive branches."""

_REACH = 3.0
"""An extrapolated area this many times the largest one is not bounded by the data."""

RESOLUTION = 0.1
"""Smallest loop of interest, as a share of how far the response moves over the cycle."""


@dataclass(frozen=True, slots=True)
class Loops:
    """Loops that a response drew.

    Attributes:
        period: of the cycle, in the unit of time of the readings.
        areas: one for each two cycles [blocks].
        control: centres of the bins of the control [bins], 0 to 1.
        up: response on the way up [bins], averaged over cycles and freed of trend; NaN where there is no reading.
        down: on the way down.
        span: how far the response moves over the cycle: largest minus smallest of the mean of both branches.
    """

    period: float
    areas: Array
    control: Array
    up: Array
    down: Array
    span: float


def loops(time: Array, values: Array, *, period: float, skip: int = 1, bins: int = 12) -> Loops:
    """Loop areas of a response to a triangular cycle that starts at its lowest point at time 0.

    Args:
        time: of the readings [N], in any unit.
        values: the response [N]; what is not finite is left out.
        period: of the cycle, in the same unit.
        skip: cycles at the start that are left out, as the run settles.
        bins: of the control, for the branches.

    Raises:
        InputError: if fewer than two cycles are left, or a bin of a branch would hold no reading.
    """
    half = period / 2
    branch = np.floor(time / half).astype(np.intp) - 2 * skip
    phase = np.mod(time, half) / half
    # Windows that reach beyond the end leave the last branch a little short: its last bins count for nothing then.
    spacing = float(np.median(np.diff(time))) if len(time) > 1 else period
    complete = math.floor(time.max(initial=0.0) / half + 0.25) - 2 * skip
    blocks = complete // 4
    if blocks < 1 or spacing > half / bins:
        raise InputError(
            "cycles",
            expected=f"two cycles after the first {skip}, with a reading in each of {bins} bins of a branch",
            found=f"{max(complete, 0) / 2:g} cycles with readings {spacing:g} apart in a branch of {half:g}",
            remedy="run more cycles, slow them down, or use fewer bins",
        )
    used = 4 * blocks
    column = np.minimum((phase * bins).astype(np.intp), bins - 1)
    rising = branch % 2 == 0
    column = np.where(rising, column, bins - 1 - column)
    good = np.isfinite(values) & (branch >= 0) & (branch < used)
    flat = branch[good] * bins + column[good]
    counts = np.bincount(flat, minlength=used * bins).reshape(used, bins)
    with np.errstate(divide="ignore", invalid="ignore"):
        means = np.bincount(flat, weights=values[good], minlength=used * bins).reshape(used, bins) / counts
    pieces = means.reshape(blocks, 4, bins)
    difference = np.einsum("k,bkj->bj", CONTRAST, pieces)
    middle = np.einsum("k,bkj->bj", np.abs(CONTRAST) / 2, pieces)
    # A bin that a block lacks is left out of that block's area alone.
    areas = _mean(difference, axis=1)
    centre, apart = _mean(middle, axis=0), _mean(difference, axis=0)
    span = float(np.nanmax(centre) - np.nanmin(centre)) if np.isfinite(centre).any() else math.nan
    places = (np.arange(bins) + 0.5) / bins
    return Loops(period, areas, places, centre - apart / 2, centre + apart / 2, span)


def lag_area(period: ArrayLike, relaxation: float) -> Array:
    """Loop area of a first-order lag behind a triangular cycle, as a share of its quasistatic response's range.

    With u = 4 tau / period it is u (1 - u tanh(1 / u)): 4 tau / period where the cycle is slow, and a quarter of that
    range at most.

    Args:
        period: of the cycle.
        relaxation: tau of dy/dt = (x - y) / tau, in the same unit of time.
    """
    u = 4 * relaxation / np.asarray(period, dtype=np.float64)
    with np.errstate(divide="ignore"):
        inverse = 1 / u
    # For slow relaxation the difference of nearly equal numbers is replaced by its series.
    series = inverse / 3 - 2 * inverse**3 / 15
    return np.where(u > 1e3, series, u * (1 - u * np.tanh(inverse)))


@dataclass(frozen=True, slots=True)
class RateDependence:
    """How loop areas depend on the period.

    Attributes:
        verdict: "hysteresis", "no hysteresis" or "inconclusive".
        remaining: area extrapolated to an infinite period.
        low: lower end of its interval; minus infinity where the periods do not bound it.
        high: upper end.
        relaxation: tau of the lag that fits best beside it.
        slowest: areas at the longest period.
        span: how far the response moves over the slowest cycle.
        periods: of the cycles [K], shortest first.
        areas: mean area at each period [K].
        errors: standard error of each mean [K]; NaN where there is one area.
    """

    verdict: str
    remaining: float
    low: float
    high: float
    relaxation: float
    slowest: Paired
    span: float
    periods: Array
    areas: Array
    errors: Array


def rate_dependence(found: list[Loops], *, confidence: float = 0.95, resolution: float = RESOLUTION) -> RateDependence:
    """Extrapolates loop areas to an infinitely slow cycle, and judges.

    The areas are fitted by A + a f(period, tau), f the exact area of a first-order lag (`lag_area`), with an interval
    for A over all tau up to the longest period. The verdict is

    - "no hysteresis" where the interval holds no loop as large as the resolution;
    - "hysteresis" where the interval excludes zero, A is larger than the resolution, and at least half of the slowest
      loop is left in A;
    - "inconclusive" otherwise.

    No finite experiment tells a second state from a relaxation slower than the slowest cycle: "hysteresis" means a
    loop that no first-order lag up to the longest period explains.

    Args:
        found: loops at three periods at least, several areas each.
        confidence: of the interval.
        resolution: smallest loop of interest, as a share of the response's span at the longest period.

    Raises:
        InputError: if there are fewer than three periods, over a factor of four, or six areas.
    """
    ordered = sorted(found, key=lambda one: one.period)
    periods = np.concatenate([np.full(len(one.areas), one.period) for one in ordered])
    areas = np.concatenate([one.areas for one in ordered])
    good = np.isfinite(areas)
    periods, areas = periods[good], areas[good]
    distinct = np.unique(periods)
    if len(distinct) < 3 or len(areas) < 6 or distinct[-1] < 4 * distinct[0]:
        raise InputError(
            "loops",
            expected="three periods that span a factor of four, and six areas",
            found=f"{len(areas)} areas at the periods {', '.join(f'{period:g}' for period in distinct)}",
            remedy="run the cycle at more periods, or more cycles",
        )
    groups = [paired(areas[periods == period], confidence=confidence) for period in distinct]
    remaining, low, high, relaxation = _extrapolate(periods, areas, confidence)
    slowest = groups[-1]
    span = next(one.span for one in reversed(ordered) if one.period == distinct[-1])
    smallest = resolution * span
    left = remaining if remaining * slowest.mean > 0 else 0.0
    if max(abs(low), abs(high)) < smallest:
        verdict = "no hysteresis"
    elif (low > 0 or high < 0) and abs(left) > max(smallest, abs(slowest.mean) / 2):
        verdict = "hysteresis"
    else:
        verdict = "inconclusive"
    errors = np.array([group.sd / math.sqrt(group.n) for group in groups])
    means = np.array([group.mean for group in groups])
    return RateDependence(verdict, remaining, low, high, relaxation, slowest, span, distinct, means, errors)


def _extrapolate(periods: Array, areas: Array, confidence: float) -> tuple[float, float, float, float]:
    """A, the ends of its interval by the profile of the residual sum of squares over (a, tau), and tau.

    A lag turns the same way as the loops do on the whole: a A that is made up for by a lag turning against it would fit
    a few areas, and mean nothing.
    """
    taus = np.geomspace(periods.min() / 100, periods.max(), 120)
    shape = np.stack([lag_area(periods, float(tau)) for tau in taus])
    shape /= np.sqrt((shape**2).sum(axis=1, keepdims=True))
    turn = 1.0 if areas.mean() >= 0 else -1.0
    reach = _REACH * float(np.abs(areas).max())
    levels = np.linspace(-reach, reach, 1201)
    rest = areas - levels[:, None]
    lag = np.maximum(turn * rest @ shape.T, 0.0)
    residual = (rest**2).sum(axis=1)[:, None] - lag**2
    profile = np.maximum(residual.min(axis=1), 0.0)
    best = int(profile.argmin())
    degrees = len(areas) - 3
    # Two parameters' worth of room for one: areas at short periods are noisier than at long ones, which the fit does
    # not know; with room for one the interval misses the truth in up to 13 % of such cases, with room for two in 5 %.
    limit = profile[best] * (1 + 2 * float(fdtri(2, degrees, confidence)) / degrees)
    # No finer than the grid, so that areas without noise keep an interval.
    inside = np.flatnonzero(profile <= limit + np.finfo(np.float64).eps * float(areas @ areas))
    low = -math.inf if inside[0] == 0 else float(levels[inside[0] - 1])
    high = math.inf if inside[-1] == len(levels) - 1 else float(levels[inside[-1] + 1])
    return float(levels[best]), low, high, float(taus[int(residual[best].argmin())])


def _mean(values: Array, axis: int) -> Array:
    """Mean over what is finite; NaN where nothing is."""
    good = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(good, values, 0.0).sum(axis=axis) / good.sum(axis=axis)
