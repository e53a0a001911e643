"""Energy of a window along fixed directions: the published flow, its fixed point, and what holds instead.

For a direction v held fixed, d^2 is the sum of <v, delta>^2 over the rows of the window. Nothing relaxes in it: a row
stays until it is dropped. Curvature and weight decay act on the updates, through the gradient, never on d^2 itself.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectral_edge.errors import InputError
from spectral_edge.theory.terms import injection, injection_pub, relaxation_pub, window_loss

Array = NDArray[np.float64]


def signal_rate_pub(
    energy: ArrayLike, *, rate: float, curvature: ArrayLike, window: int, source: ArrayLike, decay: float = 0.0
) -> Array:
    """Published rate of d^2, the sum of its two terms: u^2 per step (arXiv 2603.28964, Eq. 38).

    Args:
        energy: d^2 [..., m].
        rate: learning rate.
        curvature: h [..., m].
        window: W.
        source: S + 2 G N [..., m].
        decay: omega.
    """
    relaxation = relaxation_pub(energy, rate=rate, curvature=curvature, decay=decay)
    return relaxation + injection_pub(rate=rate, window=window, source=source)


def steady_energy_pub(
    *, rate: float, curvature: ArrayLike, window: int, source: ArrayLike, decay: float = 0.0
) -> Array:
    """Fixed point of the published signal flow, eta W S / (2 (h + omega)): u^2 (arXiv 2603.28964, Eq. 38, Prop. 5.1).

    Its root is the published inverted hierarchy d ~ |G| / sqrt(h + omega). NaN where h + omega <= 0, where the flow has
    no fixed point. Arguments as `signal_rate_pub`.
    """
    stiffness = np.asarray(curvature, dtype=np.float64) + decay
    found = np.full(np.broadcast_shapes(stiffness.shape, np.shape(source)), np.nan)
    top = np.broadcast_to(rate * window * np.asarray(source, dtype=np.float64), found.shape)
    np.divide(top, 2 * stiffness, out=found, where=np.broadcast_to(stiffness > 0, found.shape))
    return found


def signal_flow_pub(
    start: Array, sources: Array, *, rate: float, curvature: Array, window: int, decay: float = 0.0
) -> Array:
    """The published signal flow, integrated exactly for a source that is linear between its given values.

    Args:
        start: d^2 at the first time [..., m].
        sources: S + 2 G N at times 0, 1, 2, ... steps [..., T, m].
        rate: learning rate.
        curvature: h [m].
        window: W.
        decay: omega.

    Returns:
        d^2 at those times [..., T, m], u^2.
    """
    loss = 2 * rate * (curvature + decay)
    return linear_flow(start, rate**2 * window * sources, loss=loss)


def linear_flow(start: Array, sources: Array, *, loss: ArrayLike) -> Array:
    """dE/dt = -loss E + source, exactly, for a source that is linear between unit times.

    Args:
        start: E(0) [..., m].
        sources: values at times 0, 1, ... [..., T, m].
        loss: rates [m] or a number, per unit time, of any sign.

    Returns:
        E at those times [..., T, m].
    """
    lost = np.broadcast_to(np.asarray(loss, dtype=np.float64), sources.shape[-1:])
    kept, first, second = np.exp(-lost), _phi1(lost), _phi2(lost)
    found = np.empty(np.broadcast_shapes(start[..., None, :].shape, sources.shape))
    found[..., 0, :] = start
    for t in range(sources.shape[-2] - 1):
        here, there = sources[..., t, :], sources[..., t + 1, :]
        found[..., t + 1, :] = kept * found[..., t, :] + first * here + second * (there - here)
    return found


def expected_energy(
    *,
    rate: float,
    curvature: ArrayLike,
    window: int,
    noise: ArrayLike,
    every: int = 1,
    decay: float = 0.0,
    drift: ArrayLike = 0.0,
) -> Array:
    """Expected energy of a window along a settled mode of plain descent, for every kappa s: u^2 (this library).

    With kappa = eta (h + omega) and gradient noise of variance sigma^2 the mode is an autoregression, and

        E d^2 = 2 W eta^2 sigma^2 (1 - (1 - kappa)^s) / (2 kappa - kappa^2) + W drift^2.

    For kappa s << 1 this is W s eta^2 sigma^2, whatever the curvature; for kappa s >> 1 and small kappa it is
    W eta sigma^2 / (h + omega), twice the published fixed point.

    Args:
        rate: learning rate eta.
        curvature: h [...].
        window: W.
        noise: variance sigma^2 of the gradient noise [...], (l/u)^2.
        every: steps s per observation.
        decay: omega.
        drift: mean update per observation [...], u; -s eta times the mean net gradient while that is constant.

    Raises:
        InputError: if kappa lies outside [0, 2), where the mode does not settle.
    """
    kappa = rate * (np.asarray(curvature, dtype=np.float64) + decay)
    if np.any(kappa < 0) or np.any(kappa >= 2):
        raise InputError(
            "rate times (curvature + decay)",
            expected="0 <= kappa < 2",
            found=f"{kappa.min():.6g} to {kappa.max():.6g}",
            remedy="the mode grows without bound: use a smaller rate or positive curvature",
        )
    small = kappa < 0.5
    # 1 - (1 - kappa)^s loses its digits as kappa vanishes, unless it is formed by expm1.
    gentle = -np.expm1(every * np.log1p(-np.where(small, kappa, 0.0)))
    forgotten = np.where(small, gentle, 1 - (1 - kappa) ** every)
    share = np.where(kappa > 0, forgotten / np.where(kappa > 0, 2 * kappa - kappa**2, 1.0), every / 2)
    return window * (2 * rate**2 * np.asarray(noise) * share + np.square(np.asarray(drift, dtype=np.float64)))


def rolling_energy(rows: Array, *, window: int) -> Array:
    """Energy of every full window along fixed axes, [..., T, m] -> [..., T - W + 1, m], u^2.

    Obeys the add/drop identity d^2(k+1) - d^2(k) = <v, delta_new>^2 - <v, delta_old>^2 exactly (this library).

    Args:
        rows: update components along the axes.
        window: W.
    """
    view = np.lib.stride_tricks.sliding_window_view(np.square(rows), window, axis=-2)
    return view.sum(axis=-1)


def leaky_energy(start: Array, rows: Array, *, window: int, memory: float | None = None) -> Array:
    """Energy of a leaky window, d(d^2)/dt = -d^2/T + (W/T) row^2 per observation (this library).

    Args:
        start: d^2 before the first of `rows` [..., m].
        rows: update components [..., n, m]; each acts at a constant rate during its observation.
        window: W.
        memory: T; W if left out. W/2 gives rows the mean age that they have in the box window.

    Returns:
        d^2 after each row [..., n, m], u^2.
    """
    memory = float(window) if memory is None else memory
    kept = float(np.exp(-1 / memory))
    gained = window * -np.expm1(-1 / memory) * injection(rows)
    found = np.empty_like(gained)
    now = start
    for t in range(rows.shape[-2]):
        now = kept * now + gained[..., t, :]
        found[..., t, :] = now
    return found


def leaky_rate(energy: ArrayLike, row: ArrayLike, *, window: int) -> Array:
    """Corrected rate of d^2, the sum of its two terms: u^2 per observation (this library).

    Args:
        energy: d^2 [..., m].
        row: update components along the modes [..., m].
        window: W.
    """
    return window_loss(energy, window=window) + injection(row)


def _phi1(z: Array) -> Array:
    """(1 - e^-z) / z, with its limit 1 at zero."""
    tiny = np.abs(z) < 1e-8
    safe = np.where(tiny, 1.0, z)
    return np.where(tiny, 1 - z / 2, -np.expm1(-safe) / safe)


def _phi2(z: Array) -> Array:
    """(z - 1 + e^-z) / z^2, with its limit 1/2 at zero; a series where the closed form cancels."""
    series = 1 / 2 - z / 6 + z**2 / 24 - z**3 / 120 + z**4 / 720 - z**5 / 5040
    small = np.abs(z) < 1e-2
    safe = np.where(small, 1.0, z)
    return np.where(small, series, (1 - _phi1(safe)) / safe)
