"""Singular values of a window from a flow of its second moment: the form that survives modes driven together.

Let r(t) be the update in the modes' coordinates and C = sum of r r^T over the window [m, m]. The window's singular
values are the roots of C's eigenvalues, whatever directions they belong to. Two flows of C:

    rolling   dC/dt = r(t) r(t)^T - r(t - W) r(t - W)^T      exact: what enters, less what leaves
    leaky     dC/dt = -C/T + (W/T) r r^T                     no memory of when a row entered; T = W if not said

Both rest at W r r^T under a constant drive. They differ in the ages of the rows they hold: a box of W rows has mean age
(W-1)/2 and standard deviation sqrt((W^2-1)/12), a leaky window has T for both. The leading singular value feels the
mean age. The second one of modes that are driven together exists only because their profiles over the window differ,
so it is proportional to the *spread* of ages, and the leaky window overstates it about 3.5 times, however slow the
drive.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError
from spectral_edge.theory.quadratic import windows

Array = NDArray[np.float64]
Kind = Literal["rolling", "leaky"]


def predicted_rows(
    start: Array,
    *,
    rate: float,
    curvature: Array,
    every: int,
    count: int,
    decay: float = 0.0,
    target: Array | None = None,
) -> Array:
    """Updates of noise-free plain descent on a quadratic, in closed form [..., count, m], u (this library).

    The mode relaxes to h target / (h + omega) with the factor (1 - kappa) a step, kappa = eta (h + omega); this is
    where curvature and decay enter a window, and the only place.

    Args:
        start: position at step 0 [..., m], u.
        rate: learning rate.
        curvature: h [m].
        every: steps per observation.
        count: number of updates.
        decay: omega.
        target: minimum of the quadratic [..., m], zero if left out.
    """
    stiffness = curvature + decay
    rest = np.zeros_like(start)
    if target is not None:
        weight = np.divide(curvature, stiffness, out=np.zeros_like(stiffness), where=stiffness != 0)
        rest = weight * target
    kept = (1 - rate * stiffness) ** every
    time = np.arange(count)[:, None]
    return (start - rest)[..., None, :] * (kept - 1) * kept**time


def noise_moment(*, rate: float, curvature: Array, every: int, count: int, noise: Array, decay: float = 0.0) -> Array:
    """Variance that gradient noise adds to each update of plain descent from a known position [count, m], u^2.

    With q = 1 - kappa a mode has variance eta^2 sigma^2 (1 - q^(2 t)) / (1 - q^2) after t steps. Its update over the
    next s steps has (1 - q^s)^2 times that, plus the fresh noise of s steps (this library).

    Args:
        rate: learning rate.
        curvature: h [m].
        every: steps s per observation.
        count: number of updates.
        noise: variance of the gradient noise [m], (l/u)^2.
        decay: omega.
    """
    kept = 1 - rate * (curvature + decay)
    time = every * np.arange(count)[:, None]
    still = np.abs(1 - kept**2) < 1e-12
    below = np.where(still, 1.0, 1 - kept**2)
    start = np.where(still, time, (1 - kept ** (2 * time)) / below)
    fresh = np.where(still, every, (1 - kept ** (2 * every)) / below)
    return rate**2 * noise * ((1 - kept**every) ** 2 * start + fresh)


def rolling_moment(rows: Array, *, window: int, variance: Array | None = None) -> Array:
    """C of every full window [..., T, m] -> [..., T - W + 1, m, m], u^2; the exact twin of the leaky flow.

    From measured updates this is an identity, X^T X itself; a prediction it is only from predicted updates.

    Args:
        rows: updates in the modes' coordinates, u.
        window: W.
        variance: expected energy of noise in each row [..., T, m], added to the diagonal, see `noise_moment`.
    """
    view = windows(rows, window)
    moment = np.swapaxes(view, -1, -2) @ view
    if variance is None:
        return moment
    return moment + windows(variance, window).sum(axis=-2)[..., None] * np.eye(rows.shape[-1])


def rolling_step(moment: Array, *, new: Array, old: Array) -> Array:
    """C after one observation: a row gained, a row lost (exact; this library).

    Args:
        moment: C [..., m, m].
        new: row that enters [..., m].
        old: row that leaves [..., m].
    """
    return moment + _outer(new) - _outer(old)


def leaky_moment(
    start: Array, rows: Array, *, window: int, memory: float | None = None, variance: Array | None = None
) -> Array:
    """C of the leaky window after each row, stepped exactly for a drive that is constant within an observation.

    Args:
        start: C before the first row [..., m, m], u^2.
        rows: updates in the modes' coordinates [..., n, m], u: measured, or `predicted_rows`.
        window: W.
        memory: T in observations; W if left out, W/2 matches the mean age of a box window.
        variance: as for `rolling_moment` [..., n, m].

    Returns:
        [..., n, m, m], u^2.
    """
    memory = float(window) if memory is None else memory
    kept, gained = float(np.exp(-1 / memory)), -window * float(np.expm1(-1 / memory))
    found = np.empty((*rows.shape, rows.shape[-1]))
    now = start
    for t in range(rows.shape[-2]):
        gain = _outer(rows[..., t, :])
        if variance is not None:
            gain = gain + variance[..., t, :, None] * np.eye(rows.shape[-1])
        now = kept * now + gained * gain
        found[..., t, :, :] = now
    return found


def leaky_moment_rate(moment: Array, row: Array, *, window: int, memory: float | None = None) -> Array:
    """Right-hand side of the leaky flow, -C/T + (W/T) r r^T: u^2 per observation (this library)."""
    memory = float(window) if memory is None else memory
    return (window * _outer(row) - moment) / memory


def constant_moment(row: Array, *, window: int) -> Array:
    """Fixed point of both flows under a constant drive, W r r^T [..., m, m]: rank one, so R is undefined there."""
    return window * _outer(row)


def decaying_moment(
    row: Array, *, decline: Array, window: int, kind: Kind = "rolling", memory: float | None = None
) -> Array:
    """C at the time of `row` under a drive r_i(t) ~ exp(-q_i t) that has lasted long: u^2 (this library).

    With q = q_i + q_j the rolling window holds r_i r_j (e^(q W) - 1) / (e^q - 1); the leaky one, in discrete steps,
    r_i r_j W (1 - e^(-1/T)) / (1 - e^(q - 1/T)), which exists only while q < 1/T: it forgets no faster than
    exp(-t/T), so it cannot follow a drive that dies faster, and keeps showing what the true window has dropped.

    Args:
        row: newest update [..., m].
        decline: q per observation [m].
        window: W.
        kind: which flow.
        memory: T of the leaky one.

    Returns:
        [..., m, m]; NaN in entries of the leaky window that have no such state.
    """
    total = decline[:, None] + decline[None, :]
    if kind == "rolling":
        still = np.abs(total) < 1e-12
        safe = np.where(still, 1.0, total)
        held = np.where(still, float(window), np.expm1(safe * window) / np.expm1(safe))
    else:
        memory = float(window) if memory is None else memory
        slow = total < 1 / memory
        below = np.where(slow, -np.expm1(np.where(slow, total, 0.0) - 1 / memory), np.nan)
        held = -window * np.expm1(-1 / memory) / below
    return _outer(row) * held


def moment_sigma(moment: Array) -> Array:
    """Singular values from C, largest first [..., m], u.

    Forming C halves the digits: values below about 1e-8 of the largest are rounding.
    """
    value = np.linalg.eigvalsh(moment)[..., ::-1]
    return np.sqrt(np.maximum(value, 0.0))


def age_spread(window: int, *, kind: Kind = "rolling", memory: float | None = None) -> float:
    """Standard deviation of the ages of the rows that a window holds, in observations (this library).

    Args:
        window: W.
        kind: which window.
        memory: T of the leaky one, W if left out.

    Raises:
        InputError: if the window or the memory is not positive.
    """
    length = float(window) if memory is None else memory
    if window < 1 or length <= 0:
        raise InputError(
            "window", expected="positive lengths", found=f"W = {window}, T = {length}", remedy="use W >= 1 and T > 0"
        )
    if kind == "rolling":
        return float(np.sqrt((window**2 - 1) / 12))
    kept = np.exp(-1 / length)
    return float(np.sqrt(kept) / (1 - kept))


def second_sigma(row: Array, *, decline: Array, window: int, spread: float | None = None) -> Array:
    """Second singular value of two modes driven together, to leading order in q W: u (this library).

    sqrt(W) times the spread of ages times |r_a r_b (q_a - q_b)| / |r|: the modes' rows are parallel but for the
    difference of their rates of decline, q per observation.

    Args:
        row: update in the middle of the window [..., 2], u.
        decline: q of the pair [2].
        window: W.
        spread: of ages; that of a rolling window if left out, see `age_spread`.
    """
    spread = age_spread(window) if spread is None else spread
    size = np.linalg.norm(row, axis=-1)
    cross = np.abs(row[..., 0] * row[..., 1] * (decline[0] - decline[1]))
    found = np.full(np.shape(size), np.nan)
    np.divide(cross, size, out=found, where=size > 0)
    return np.sqrt(window) * spread * found


def _outer(row: Array) -> Array:
    return row[..., :, None] * row[..., None, :]
