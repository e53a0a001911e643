"""The smallest closed loop in which a gap sustains itself, and its open twin.

Persistence q of the leading direction opens a gap E W q in a window of W updates with drive-to-noise ratio E; the gap
protects the direction, alpha = gap^2 / (gap^2 + 2 C); a protected direction persists, dq/dt = r (alpha - q). This is a
reading of the self-sustained edge of arXiv 2603.28964, whose text gives no equations for it; all formulas are this
library's. With E W constant the loop has two stable states above a saddle-node, one below.

The minimal loop never re-forms a lost gap, since q = 0 stays stable at any drive. A floor b, the persistence that a
drive has without any help from the gap, dq/dt = r (b + (1 - b) alpha - q), adds the second fold that a closed
hysteresis loop needs; b = 0 is the minimal loop and b >= 1/9 leaves one state at any drive.

Numbers of equations are those of docs/theory/feedback.md.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError

Array = NDArray[np.float64]

CUSP = 1 / 9
"""Floor from which the loop has a single state at every drive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """Constants of the loop.

    Attributes:
        window: number W of updates.
        noise: constant C of the stability coefficient; 1 as published.
        rate: r, per observation, at which persistence follows.
        floor: persistence b that needs no gap, 0 for the minimal loop.

    Raises:
        InputError: for a window, noise or rate that is not positive, or a floor outside [0, 1).
    """

    window: float = 10.0
    noise: float = 1.0
    rate: float = 1.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        if not (self.window > 0 and self.noise > 0 and self.rate > 0 and 0 <= self.floor < 1):
            raise InputError(
                "a feedback loop",
                expected="positive window, noise and rate, and a floor from 0 to below 1",
                found=f"window={self.window}, noise={self.noise}, rate={self.rate}, floor={self.floor}",
                remedy="change the constants",
            )


def gap(persistence: Array, drive: Array, loop: Loop) -> Array:
    """(B1): gap E W q in units of the noise, broadcast over both arguments."""
    return drive * loop.window * persistence


def stability_coefficient(gap_size: Array, loop: Loop) -> Array:
    """(B2): alpha = gap^2 / (gap^2 + 2 C), between 0 and 1."""
    square = gap_size**2
    return square / (square + 2 * loop.noise)


def protection(persistence: Array, drive: Array, loop: Loop) -> Array:
    """Term r (1 - b) alpha of (B3): persistence gained because the gap keeps its direction, per observation."""
    return loop.rate * (1 - loop.floor) * stability_coefficient(gap(persistence, drive, loop), loop)


def unaided(loop: Loop) -> float:
    """Term r b of (B3): persistence gained without a gap, per observation."""
    return loop.rate * loop.floor


def forgetting(persistence: Array, loop: Loop) -> Array:
    """Term -r q of (B3): persistence lost, per observation."""
    return -loop.rate * persistence


def closed_rate(persistence: Array, drive: Array, loop: Loop) -> Array:
    """(B3): dq/dt = r (b + (1 - b) alpha - q) of the closed loop, the sum of its three terms."""
    return protection(persistence, drive, loop) + unaided(loop) + forgetting(persistence, loop)


def open_rate(persistence: Array, drive: Array, loop: Loop) -> Array:
    """(B8): dq/dt of the open twin, in which the drive alone sets what persistence tends to.

    The target is that of the closed loop at full persistence: q plays no part in it, so each drive has one state.
    """
    return protection(np.ones_like(persistence), drive, loop) + unaided(loop) + forgetting(persistence, loop)


def open_state(drive: Array, loop: Loop) -> Array:
    """The one fixed point of the open twin."""
    return loop.floor + (1 - loop.floor) * stability_coefficient(gap(np.ones_like(drive), drive, loop), loop)


def fixed_points(drive: Array, loop: Loop) -> Array:
    """(B4): fixed points of the closed loop, [...] -> [..., 3], ascending; NaN where there are fewer.

    For b = 0 they are 0 and the roots of E^2 W^2 (q^2 - q) + 2 C = 0, q = (1 -+ sqrt(1 - 8 C / (E W)^2)) / 2. For b > 0
    they are the real roots of (q - b)(q^2 + m) = (1 - b) q^2, m = 2 C / (E W)^2. The middle one is unstable.

    Args:
        drive: E, positive or zero.
        loop: the constants.

    Returns:
        Lower, middle and upper state; where only one exists it stands in the branch that it belongs to.
    """
    drive = np.asarray(drive, dtype=np.float64)
    found = np.full((*drive.shape, 3), np.nan)
    if loop.floor == 0:
        with np.errstate(divide="ignore"):
            inside = 1 - 8 * loop.noise / (drive * loop.window) ** 2
        root = np.sqrt(np.where(inside >= 0, inside, np.nan))
        found[..., 0] = 0.0
        found[..., 1], found[..., 2] = (1 - root) / 2, (1 + root) / 2
        return found
    folds = fold_states(loop)
    boundary = float(np.mean(folds)) if len(folds) else 0.5
    for place in np.ndindex(drive.shape):
        states = _cubic_states(float(drive[place]), loop)
        if len(states) == 3:
            found[place] = states
        else:
            found[(*place, 0 if states[0] < boundary else 2)] = states[0]
    return found


def growth_rate(state: Array, drive: Array, loop: Loop) -> Array:
    """(B7): derivative of `closed_rate` by q, per observation; a fixed point is stable where it is negative.

    At a fixed point of the minimal loop other than zero it is r (1 - 2 q); at zero it is -r.
    """
    square = (drive * loop.window) ** 2
    slope = 2 * square * state * 2 * loop.noise / (square * state**2 + 2 * loop.noise) ** 2
    return loop.rate * ((1 - loop.floor) * slope - 1)


def fold_states(loop: Loop) -> tuple[float, ...]:
    """Persistence at the folds, ascending: roots of 2 q^2 - (1 + 3 b) q + 2 b = 0; none for b >= 1/9.

    For b = 0 only q = 1/2 is a fold at a finite drive.
    """
    floor = loop.floor
    if floor >= CUSP:
        return ()
    root = float(np.sqrt((1 + 3 * floor) ** 2 - 16 * floor))
    upper = (1 + 3 * floor + root) / 4
    return (upper,) if floor == 0 else ((1 + 3 * floor - root) / 4, upper)


def drive_at(state: Array, loop: Loop) -> Array:
    """Drive E that has a given persistence as a fixed point: the bifurcation diagram in closed form, [...] -> [...].

    (E W)^2 = 2 C (q - b) / (q^2 (1 - q)), NaN outside b <= q < 1.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        square = 2 * loop.noise * (state - loop.floor) / (state**2 * (1 - state))
        return np.sqrt(np.where((state < 1) & (square >= 0), square, np.nan)) / loop.window


def fold_drives(loop: Loop) -> tuple[float, float]:
    """Drives between which the loop has two stable states: where the high state ends and where the low one does.

    For b = 0 these are sqrt(8 C) / W and infinity: the low state never ends. NaN for b >= 1/9.
    """
    states = fold_states(loop)
    if not states:
        return np.nan, np.nan
    lower = float(drive_at(np.array(states[-1]), loop))
    return lower, np.inf if loop.floor == 0 else float(drive_at(np.array(states[0]), loop))


def relaxation_time(drive: Array, loop: Loop) -> Array:
    """Time in which a small disturbance of the high state falls by e, observations; NaN where it does not exist.

    For b = 0 it is 1 / (r sqrt(1 - 8 C / (E W)^2)), which diverges as the inverse square root of the distance to the
    fold: critical slowing.
    """
    high = fixed_points(drive, loop)[..., 2]
    rate = -growth_rate(high, np.asarray(drive, dtype=np.float64), loop)
    with np.errstate(divide="ignore"):
        return np.where(rate > 0, 1 / rate, np.where(rate == 0, np.inf, np.nan))


def evolve(start: Array, drive: Array, loop: Loop, *, step: float, closed: bool = True) -> Array:
    """Persistence under a drive that varies in time, by the classical Runge-Kutta method (order 4).

    Args:
        start: persistence at time zero [...].
        drive: E at half steps [2 T + 1, ...], so that every stage has its own value.
        loop: the constants.
        step: observations in a step.
        closed: the loop, or its open twin.

    Returns:
        Persistence at times 0, step, ..., T step [T + 1, ...].

    Raises:
        InputError: if the drive has an even number of values.
    """
    if len(drive) % 2 == 0:
        raise InputError(
            "a drive in time",
            expected="an odd number of values, one for each half step",
            found=f"{len(drive)}",
            remedy="sample it at 0, step/2, step, ...",
        )
    rate = closed_rate if closed else open_rate
    path = np.empty(((len(drive) + 1) // 2, *np.shape(start)))
    path[0] = start
    for index in range(len(path) - 1):
        before, middle, after = drive[2 * index : 2 * index + 3]
        q = path[index]
        first = rate(q, before, loop)
        second = rate(q + step / 2 * first, middle, loop)
        third = rate(q + step / 2 * second, middle, loop)
        fourth = rate(q + step * third, after, loop)
        path[index + 1] = q + step / 6 * (first + 2 * second + 2 * third + fourth)
    return path


def triangle(low: float, high: float, *, period: float, cycles: int, step: float) -> Array:
    """A drive that starts high, falls to low and returns, at half steps [2 T + 1], T = cycles period / step rounded.

    Args:
        low: least drive.
        high: largest drive.
        period: observations in a cycle.
        cycles: number of cycles.
        step: observations in a step of `evolve`.
    """
    count = 2 * round(cycles * period / step) + 1
    phase = np.linspace(0.0, cycles, count) % 1.0
    return high - (high - low) * (1 - np.abs(2 * phase - 1))


def loop_area(drive: Array, persistence: Array) -> float:
    """Area that one cycle encloses in the plane of drive and persistence, by the shoelace formula, unsigned.

    It tends to a positive limit in slow cycles where there is hysteresis, and to zero where there is only lag.

    Args:
        drive: over one cycle [T].
        persistence: at the same times [T].
    """
    following = np.roll(drive, -1), np.roll(persistence, -1)
    return 0.5 * abs(float((drive * following[1] - following[0] * persistence).sum()))


def hysteresis_area(loop: Loop) -> float:
    """Limit of `loop_area` in slow cycles across both folds: the integral of the jump in q between them.

    NaN for b = 0, where the loop does not close, and for b >= 1/9, where there is none.
    """
    low, high = fold_drives(loop)
    if not np.isfinite([low, high]).all():
        return np.nan
    # Square roots at both folds: the substitution E = middle + half sin(angle) makes the integrand smooth.
    angle, weight = np.polynomial.legendre.leggauss(80)
    angle, weight = angle * np.pi / 2, weight * np.pi / 2
    middle, half = (high + low) / 2, (high - low) / 2
    states = fixed_points(middle + half * np.sin(angle), loop)
    return float((weight * half * np.cos(angle) * (states[:, 2] - states[:, 0])).sum())


def _cubic_states(drive: float, loop: Loop) -> Array:
    """Fixed points for b > 0, ascending: one or three."""
    if drive == 0:
        return np.array([loop.floor])
    m = 2 * loop.noise / (drive * loop.window) ** 2
    roots = np.roots([1.0, -1.0, m, -loop.floor * m])
    # A double root at a fold splits into a pair with an imaginary part of the root of rounding.
    real: Array = np.sort(roots.real[np.abs(roots.imag) < 1e-7]).astype(np.float64)
    return real if len(real) != 2 else real[[0, 1, 1]]
