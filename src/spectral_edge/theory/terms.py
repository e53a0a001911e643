"""The terms of the signal flow and of the gap flow by name, as published and corrected.

Units: u of a parameter, l of the loss, so a learning rate is in u^2/l, a gradient in l/u, a curvature in l/u^2 and
eta h a pure number. Published terms are rates per optimizer step; corrected ones are changes per observation, since a
window forgets by observations. Pairs are [..., 2]: position k* first, k* + 1 second.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def relaxation_pub(energy: ArrayLike, *, rate: float, curvature: ArrayLike, decay: float = 0.0) -> Array:
    """First term of the published signal flow, -2 eta (h + omega) d^2: u^2 per step (arXiv 2603.28964, Eq. 38).

    Args:
        energy: d^2 [..., m] in u^2.
        rate: learning rate eta.
        curvature: h [..., m].
        decay: omega.
    """
    return -2 * rate * (np.asarray(curvature, dtype=np.float64) + decay) * np.asarray(energy)


def injection_pub(*, rate: float, window: int, source: ArrayLike) -> Array:
    """Second term of the published signal flow, eta^2 W (S + 2 G N): u^2 per step (arXiv 2603.28964, Eq. 38).

    Args:
        rate: learning rate eta.
        window: W.
        source: S + 2 G N [..., m] in (l/u)^2. The paper does not define S and N; we read S as the squared gradient
            along the mode.
    """
    return rate**2 * window * np.asarray(source, dtype=np.float64)


def window_loss(energy: ArrayLike, *, window: float) -> Array:
    """What a leaky window forgets, -d^2 / W: u^2 per observation (this library).

    Args:
        energy: d^2 [..., m] in u^2.
        window: W, or another memory in observations.
    """
    return -np.asarray(energy, dtype=np.float64) / window


def injection(row: ArrayLike) -> Array:
    """What one observation adds to the energy along a fixed axis, <v, delta>^2: u^2 per observation (this library).

    Args:
        row: the update's components along the modes [..., m] in u; -eta G for plain descent observed at every step.
    """
    return np.square(np.asarray(row, dtype=np.float64))


def curvature_asymmetry(d: Array, *, rate: float, curvature: Array) -> Array:
    """First term of the published gap flow, -eta (h_a - h_b) (d_a + d_b) / 2: u per step (arXiv 2603.28964, Thm 14.2).

    Said to close the gap. It opens it wherever h_a < h_b, which is the paper's own ordering (Prop. 5.1).

    Args:
        d: signal strengths of the pair [..., 2] in u.
        rate: learning rate eta.
        curvature: h of the pair [..., 2].
    """
    return -rate * (curvature[..., 0] - curvature[..., 1]) * d.mean(axis=-1)


def damping(gap: ArrayLike, *, rate: float, curvature: Array, decay: float = 0.0) -> Array:
    """Second term of the published gap flow, -eta (h_mean + omega) g: u per step (arXiv 2603.28964, Thm 14.2).

    Args:
        gap: g = d_a - d_b [...] in u.
        rate: learning rate eta.
        curvature: h of the pair [..., 2].
        decay: omega.
    """
    return -rate * (curvature.mean(axis=-1) + decay) * np.asarray(gap, dtype=np.float64)


def driving_pub(d: Array, *, rate: float, window: int, source: Array) -> Array:
    """Third term of the gap flow as printed, eta W (S_a/d_a - S_b/d_b): l/u (arXiv 2603.28964, Thm 14.2).

    Not a change of g, which is in u: the printed prefactor exceeds the one that follows from the paper's own signal
    flow by 2/eta, see `driving_consistent`.

    Args:
        d: signal strengths of the pair [..., 2] in u; the term is undefined (NaN) where one is zero.
        rate: learning rate eta.
        window: W.
        source: squared gradients of the pair [..., 2] in (l/u)^2.
    """
    return rate * window * _contrast(source, d)


def driving_consistent(d: Array, *, rate: float, window: int, source: Array) -> Array:
    """Third term of the gap flow as Eq. 38 implies it, (eta^2 W / 2) (S_a/d_a - S_b/d_b): u per step (this library).

    Follows from d(d)/dt = d(d^2)/dt / (2 d). Arguments as `driving_pub`.
    """
    return rate**2 * window / 2 * _contrast(source, d)


def driving(d: Array, *, row: Array) -> Array:
    """Driving of a gap between energies along axes, (r_a^2/d_a - r_b^2/d_b) / 2: u per observation (this library).

    Args:
        d: signal strengths of the pair [..., 2] in u; undefined (NaN) where one is zero.
        row: the update's components along the two modes [..., 2] in u.
    """
    return _contrast(np.square(row), d) / 2


def gap_window_loss(gap: ArrayLike, *, window: float) -> Array:
    """What a leaky window forgets of a gap, -g / (2 W): u per observation (this library).

    Args:
        gap: g [...] in u.
        window: W, or another memory in observations.
    """
    return -np.asarray(gap, dtype=np.float64) / (2 * window)


def _contrast(source: Array, d: Array) -> Array:
    share = np.full(np.broadcast_shapes(source.shape, d.shape), np.nan)
    np.divide(source, d, out=share, where=np.broadcast_to(d != 0, share.shape))
    return share[..., 0] - share[..., 1]
