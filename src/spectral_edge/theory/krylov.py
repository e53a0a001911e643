"""How many modes a window of deterministic updates can hold, and how strong curvature lets them be.

Descent on a quadratic multiplies the displacement along eigenvector i by 1 - kappa_i, kappa_i = eta (h_i + omega), at
every step. Over the W rows of a window, s steps each, that part of the updates follows the sequence z_i^0 .. z_i^(W-1),
z_i = (1 - kappa_i)^s. The rows span a Krylov space: its exact rank is the number of different z_i, or W if that is
less. What counts is how far the sequences differ within a window, which depends on kappa W s.
"""

from typing import Any

import numpy as np
from numpy.polynomial.legendre import legvander
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from spectral_edge.errors import InputError

Array = NDArray[np.float64]


def krylov_bound_pub(h: ArrayLike, *, rate: float, window: int) -> int:
    """The published bound on k*: how many curvatures reach 1 / (eta W) (arXiv 2603.28964, the Krylov bound).

    It takes raw curvature, counts observations as if they were steps, and leaves out the direction of drift.

    Args:
        h: curvatures [n].
        rate: learning rate eta.
        window: W, rows.
    """
    return int((np.asarray(h, dtype=np.float64) >= 1 / (rate * window)).sum())


def krylov_bound(kappa: ArrayLike, *, window: int, every: int = 1, threshold: float = 1.0) -> int:
    """One direction of drift, and one for each mode that relaxes within the window: 1 + #{kappa W s >= threshold}.

    To first order in kappa it bounds the number of singular values above `slow_residual(threshold)` of the window's
    Frobenius norm, whatever the number and the amplitudes of the modes; `rank_bound` is the exact statement. Rows with
    noise are not bound by it. Undefined and negative rates are not counted: they are no relaxation.

    Args:
        kappa: relaxation rates per step [n].
        window: W, rows.
        every: steps s per observation.
        threshold: of kappa W s; 1 is the usual reading, at which the residual is .28.
    """
    with np.errstate(invalid="ignore"):
        return 1 + int((np.asarray(kappa, dtype=np.float64) * window * every >= threshold).sum())


def slow_residual(exponent: ArrayLike, *, degree: int = 0, window: int | None = None) -> Array:
    """What is left of a decay over the window after its best polynomial in time is taken away, relative to the decay.

    For a constant (degree 0) it is sqrt(1 - tanh(x/2) / (x/2)), close to x / sqrt(12) for small x = kappa W s; this
    library.

    Args:
        exponent: x = kappa W s, of decays over the window [...].
        degree: of the polynomial.
        window: W, for decay sampled at W rows; None for a continuous window, which never leaves less (degree 0 only).

    Raises:
        InputError: for a degree above 0 without a number of rows, or outside 0 to W - 1.
    """
    x = np.asarray(exponent, dtype=np.float64)
    if window is None:
        if degree != 0:
            raise InputError(
                "window", expected="a number of rows for degrees above 0", found="None", remedy="pass window=W"
            )
        half = np.where(x > 0, x, 1.0) / 2
        exact = 1 - np.tanh(half) / half
        # The difference cancels for small x; the series' next term is x^4 / 120.
        return np.where(x > 1e-2, np.sqrt(np.maximum(exact, 0.0)), x / np.sqrt(12.0))
    if not 0 <= degree < window:
        raise InputError("degree", expected=f"0 to {window - 1}", found=str(degree), remedy="use a lower degree")
    time = np.arange(window) / window
    basis, _ = np.linalg.qr(legvander(2 * time - 1, degree))
    decay = np.exp(-x[..., None] * time)
    left = decay - (decay @ basis) @ basis.T
    return np.linalg.norm(left, axis=-1) / np.linalg.norm(decay, axis=-1)


def slow_threshold(tolerance: float, *, degree: int = 0, window: int) -> float:
    """The inverse of `slow_residual`: below which kappa W s a decay is a polynomial in time to a relative tolerance.

    Args:
        tolerance: between 0 and 1.
        degree: of the polynomial.
        window: W, rows.

    Returns:
        x; infinite where no decay leaves as much.

    Raises:
        InputError: for a tolerance outside 0 to 1.
    """
    if not 0 < tolerance < 1:
        raise InputError("tolerance", expected="between 0 and 1", found=str(tolerance), remedy="use for instance 1e-2")

    def excess(log_exponent: float) -> float:
        return float(slow_residual(np.exp(log_exponent), degree=degree, window=window)) - tolerance

    # Beyond e^6.2 = 500 only the first row is left, and nothing changes any more.
    low, high = np.log(1e-12), 6.2
    if degree == window - 1 or excess(high) < 0:
        return float("inf")
    found: Any = brentq(excess, low, high, xtol=1e-12)
    return float(np.exp(found))


def rank_bound(kappa: ArrayLike, *, window: int, every: int = 1, tolerance: float = 1e-2) -> int:
    """An upper bound on the numerical rank of a window of deterministic updates (this library).

    Slow modes together are a polynomial of degree m - 1 in time up to the tolerance and take m directions, each of the
    other modes one: at most m + #{kappa W s >= x_m}, for every m. The least of these is given. At m = 1 it is
    `krylov_bound` with the threshold that belongs to the tolerance. Where modes are not orthogonal (under a
    preconditioner, outside its inner product) the tolerance grows by the root of the preconditioner's condition number.

    Args:
        kappa: relaxation rates per step [n]; a rate of 0 is constant drift.
        window: W, rows.
        every: steps s per observation.
        tolerance: singular values up to this share of the window's Frobenius norm do not count.

    Returns:
        At most W.

    Raises:
        InputError: for a rate that is negative or not finite, or a tolerance outside 0 to 1.
    """
    x = decay_exponents(kappa, window=window, every=every)
    fast = [int((x >= slow_threshold(tolerance, degree=m - 1, window=window)).sum()) for m in range(1, window)]
    return min([window, *(m + more for m, more in enumerate(fast, 1))])


def decay_exponents(kappa: ArrayLike, *, window: int, every: int = 1) -> Array:
    """Decay exponents over a window, -W s ln(1 - kappa) [n], close to kappa W s; infinite for modes that change sign.

    A mode with kappa > 1 changes sign at every step; it is counted as no slow decay however long it lasts.

    Args:
        kappa: relaxation rates per step [n].
        window: W, rows.
        every: steps s per observation.

    Raises:
        InputError: for a rate that is negative or not finite.
    """
    kappa = np.asarray(kappa, dtype=np.float64)
    if not (np.isfinite(kappa) & (kappa >= 0)).all():
        raise InputError(
            "kappa", expected="finite rates of at least 0", found="others", remedy="leave out undefined modes"
        )
    with np.errstate(divide="ignore"):
        return np.where(kappa < 1, -window * every * np.log1p(-np.minimum(kappa, 1.0)), np.inf)


def krylov_rows(kappa: ArrayLike, displacement: ArrayLike, *, window: int, every: int = 1) -> Array:
    """The updates of descent on a quadratic [W, n], in the basis of its eigenvectors.

    Args:
        kappa: relaxation rates per step [n].
        displacement: from the minimum, before the first update [n].
        window: W, rows.
        every: steps s per observation.
    """
    z = (1 - np.asarray(kappa, dtype=np.float64)) ** every
    powers = z ** np.arange(window)[:, None]
    return powers * ((z - 1) * np.asarray(displacement, dtype=np.float64))


def numerical_rank(rows: ArrayLike, *, tolerance: float = 1e-2) -> int:
    """How many singular values exceed a share of the rows' Frobenius norm.

    Args:
        rows: [W, n].
        tolerance: the share.
    """
    sigma = np.linalg.svd(np.asarray(rows, dtype=np.float64), compute_uv=False)
    return int((sigma > tolerance * np.linalg.norm(sigma)).sum())


# strength of a mode against its curvature ---------------------------------------------------------------------------


def inverted_hierarchy_pub(gradient: ArrayLike, h: ArrayLike, *, decay: float = 0.0) -> Array:
    """The published strength of a mode up to a factor, |G| / sqrt(h + omega) (arXiv 2603.28964, Prop. 5.1).

    `signal_flow.steady_energy_pub` has the factor; `signal_flow.expected_energy` is what a settled mode shows.

    Args:
        gradient: projected gradients [n].
        h: curvatures [n].
        decay: decoupled weight decay omega.

    Returns:
        NaN where h + omega is not positive.
    """
    return _over_root(gradient, np.asarray(h, dtype=np.float64) + decay)


def inverted_hierarchy_code_pub(gradient: ArrayLike, h: ArrayLike, *, window: int) -> Array:
    """The strength as the published code has it, sqrt(W / h) |G|, in units of the square root of a loss.

    Args:
        gradient: projected gradients [n].
        h: curvatures [n].
        window: W, rows.

    Returns:
        NaN where h is not positive.
    """
    return np.sqrt(window) * _over_root(gradient, np.asarray(h, dtype=np.float64))


def _over_root(gradient: ArrayLike, stiffness: Array) -> Array:
    positive = stiffness > 0
    return np.where(positive, np.abs(np.asarray(gradient)) / np.sqrt(np.where(positive, stiffness, 1.0)), np.nan)
