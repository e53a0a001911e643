"""The gap between two neighbouring signal strengths: the published flow, its consistent form, and the corrected one.

All three follow two strengths d_a, d_b that each obey their own equation, written for g = d_a - d_b and
m = (d_a + d_b) / 2. They follow energies along fixed axes. Two modes that are driven together share one left
direction, and then their energies are no singular values: use `spectral_edge.theory.matrix_flow`.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from spectral_edge.errors import InputError
from spectral_edge.theory.signal_flow import linear_flow, steady_energy_pub
from spectral_edge.theory.terms import (
    curvature_asymmetry,
    damping,
    driving,
    driving_consistent,
    driving_pub,
    gap_window_loss,
)

Array = NDArray[np.float64]
Form = Literal["published", "consistent"]

_DRIVING: dict[Form, Callable[..., Array]] = {"published": driving_pub, "consistent": driving_consistent}


def gap_rate_pub(
    d: Array, *, rate: float, curvature: Array, window: int, source: Array, decay: float = 0.0, form: Form = "published"
) -> Array:
    """Published rate of the gap, the sum of its three terms (arXiv 2603.28964, Thm 14.2).

    Args:
        d: strengths of the pair [..., 2], u.
        rate: learning rate.
        curvature: h of the pair [..., 2].
        window: W.
        source: squared gradients of the pair [..., 2], (l/u)^2.
        decay: omega.
        form: the driving term as "published", or "consistent" with Eq. 38, smaller by eta/2.
    """
    asymmetry = curvature_asymmetry(d, rate=rate, curvature=curvature)
    damped = damping(d[..., 0] - d[..., 1], rate=rate, curvature=curvature, decay=decay)
    return asymmetry + damped + _DRIVING[form](d, rate=rate, window=window, source=source)


def gap_rate(d: Array, *, row: Array, window: int) -> Array:
    """Corrected rate of a gap between energies along fixed axes, per observation: u (this library).

    Args:
        d: strengths of the pair [..., 2], u.
        row: the update's components along the two modes [..., 2], u.
        window: W.
    """
    return gap_window_loss(d[..., 0] - d[..., 1], window=window) + driving(d, row=row)


def steady_gap_pub(
    *, rate: float, curvature: Array, window: int, source: Array, decay: float = 0.0, form: Form = "published"
) -> Array:
    """Gap at which the published flow rests, u; NaN where h + omega <= 0 (arXiv 2603.28964, Thm 14.2).

    The paper writes g* = c / (eta (h_mean + omega)) with c the sum of terms one and three. That is implicit: c contains
    both strengths. Solved, each strength rests at the root of its own fixed point. Arguments as `gap_rate_pub`.
    """
    energy = steady_energy_pub(rate=rate, curvature=curvature, window=window, source=source, decay=decay)
    d = np.sqrt(energy * (2 / rate if form == "published" else 1.0))
    return d[..., 0] - d[..., 1]


def steady_gap(gradient: Array, *, rate: float, window: int) -> Array:
    """Gap under constant gradients along two fixed axes, eta sqrt(W) (|G_a| - |G_b|): u (this library).

    Args:
        gradient: of the pair [..., 2], l/u.
        rate: learning rate, at one step per observation.
        window: W.
    """
    size = np.abs(gradient)
    return rate * np.sqrt(window) * (size[..., 0] - size[..., 1])


def solve_gap_pub(
    start: Array,
    sources: Array,
    *,
    rate: float,
    curvature: Array,
    window: int,
    decay: float = 0.0,
    form: Form = "published",
) -> Array:
    """The published gap flow in its own variables g and m, together with the equation of m that closes it.

    Args:
        start: strengths of the pair at the first time [N, 2], u.
        sources: squared gradients at times 0, 1, 2, ... steps [T, N, 2], linear in between.
        rate: learning rate.
        curvature: h of the pair [2] or [N, 2].
        window: W.
        decay: omega.
        form: see `gap_rate_pub`.

    Returns:
        Strengths at those times [T, N, 2], u.

    Raises:
        InputError: for fewer than two times, if a source is negative or a strength not positive, and where a strength
            falls below the solver's tolerance: there g and m no longer tell it from zero.
    """
    if len(sources) < 2 or (sources < 0).any() or (start <= 0).any():
        raise InputError(
            "gap flow",
            expected="sources >= 0 at two times or more, and strengths > 0 at the start",
            found=f"{len(sources)} times, at least {sources.min(initial=np.inf):.3g} and {start.min():.3g}",
            remedy="give squared gradients, and strengths of a window that has moved along both modes",
        )
    push = _DRIVING[form]

    def right(time: float, pair: Array) -> Array:
        gap, middle = pair[:, 0], pair[:, 1]
        d = np.stack([middle + gap / 2, middle - gap / 2], axis=-1)
        source = _between(sources, time)
        change = gap_rate_pub(d, rate=rate, curvature=curvature, window=window, source=source, decay=decay, form=form)
        # The mean's own equation: half the sum of the two strengths' rates, by the same three terms.
        other = push(d * np.array([1.0, -1.0]), rate=rate, window=window, source=source) / 2
        steep = -rate * (curvature[..., 0] - curvature[..., 1]) * gap / 4
        rest = -rate * (curvature.mean(axis=-1) + decay) * middle
        return np.stack([change, rest + steep + other], axis=-1)

    begin = np.stack([start[:, 0] - start[:, 1], start.mean(axis=-1)], axis=-1)
    found = _solve(right, begin, len(sources), floor=lambda pair: float((pair[:, 1] - np.abs(pair[:, 0]) / 2).min()))
    gap, middle = found[..., 0], found[..., 1]
    return np.stack([middle + gap / 2, middle - gap / 2], axis=-1)


def strengths_pub(
    start: Array,
    sources: Array,
    *,
    rate: float,
    curvature: Array,
    window: int,
    decay: float = 0.0,
    form: Form = "published",
) -> Array:
    """The published gap flow by way of the squares of its strengths, in which it is linear and has no singular point.

    Agrees with `solve_gap_pub` and also passes through zero strength. Arguments as there, but `sources` [..., T, 2] and
    `start` [..., 2], as `spectral_edge.theory.signal_flow.linear_flow` takes them.

    Returns:
        Strengths at times 0, 1, 2, ... steps [..., T, 2], u.
    """
    share = 2 * rate * window if form == "published" else rate**2 * window
    return np.sqrt(linear_flow(start**2, share * sources, loss=2 * rate * (curvature + decay)))


def gap_given_strengths(
    d: Array,
    sources: Array,
    *,
    rate: float,
    curvature: Array,
    window: int,
    decay: float = 0.0,
    form: Form = "published",
) -> Array:
    """The published gap flow with the true strengths put into its first and third term; only g is integrated.

    The kindest reading of the theorem: everything but g is taken from the run. The terms are linear between the given
    times, so strengths have to vary little from one to the next. Arguments as `solve_gap_pub`, but

    Args:
        d: true strengths at times 0, 1, ... [T, N, 2], u.
        sources: squared gradients at those times [T, N, 2].
        rate: learning rate.
        curvature: h of the pair [2].
        window: W.
        decay: omega.
        form: see `gap_rate_pub`.

    Returns:
        g at those times [T, N], u.
    """
    known = curvature_asymmetry(d, rate=rate, curvature=curvature)
    known = known + _DRIVING[form](d, rate=rate, window=window, source=sources)

    def right(time: float, gap: Array) -> Array:
        return _between(known, time) + damping(gap, rate=rate, curvature=curvature, decay=decay)

    return _solve(right, d[0, :, 0] - d[0, :, 1], len(d), floor=None)


def _between(values: Array, time: float) -> Array:
    """Linear interpolation along the first axis, given at unit times."""
    low = min(int(time), len(values) - 2)
    share = time - low
    return (1 - share) * values[low] + share * values[low + 1]


def _solve(
    right: Callable[[float, Array], Array], start: Array, count: int, *, floor: Callable[[Array], float] | None
) -> Array:
    """Integrates to times 0, 1, ..., and stops where `floor` of the state has sunk to the solver's tolerance."""
    times = np.arange(count, dtype=np.float64)
    scale = float(np.abs(start).max())

    def flat(time: float, state: Array) -> Array:
        return right(time, state.reshape(start.shape)).ravel()

    def sunk(_: float, state: Array) -> float:
        return 1.0 if floor is None else floor(state.reshape(start.shape)) - 1e-8 * scale

    sunk.terminal = True  # type: ignore[attr-defined]
    found = solve_ivp(
        flat, (0.0, times[-1]), start.ravel(), t_eval=times, events=sunk, method="LSODA", rtol=1e-8, atol=1e-10 * scale
    )
    if found.status != 0:
        raise InputError(
            "gap flow",
            expected="strengths above the solver's tolerance up to the last time",
            found=f"less at time {found.t[-1] if len(found.t) else 0:g}",
            remedy="use strengths_pub, which integrates squares, or matrix_flow; neither has a singular point",
        )
    return found.y.T.reshape(count, *start.shape)
