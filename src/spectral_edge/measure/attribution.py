"""Which modes of a window a change of the loss, or a part of an update, runs along: products alone, no direction.

Let a window's updates be the rows of X = sum_j sigma_j u_j v_j^T, and p = X g the inner products of some vector g with
them, oldest first. Then <v_j, g> = u_j . p / sigma_j and <v_j, d_i> = sigma_j u_ij, so that their product needs no
division: the share of mode j in <g, d_i> is u_ij (u_j . p). Everything here is batched over N windows.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError
from spectral_edge.measure.spectrum import Spectrum

Array = NDArray[np.float64]

GAUSS_NODES = (0.5 - 0.5 / np.sqrt(3.0), 0.5 + 0.5 / np.sqrt(3.0))
"""Where on the chord from 0 to 1 the two-point Gauss rule wants the gradient; both weigh one half."""


def mode_gradients(spectrum: Spectrum, products: Array) -> Array:
    """G_j = <v_j, g>, the components of a vector along the modes (thesis: projected gradients) [N, W].

    Args:
        spectrum: of N windows.
        products: inner products of the vector with the windows' updates, oldest first [N, W]; in u times its unit.

    Returns:
        In the vector's unit; NaN below the rank floor.
    """
    return _divided(_along(spectrum, products), spectrum.sigma, spectrum.resolved)


def mode_steps(spectrum: Spectrum, *, row: int = -1) -> Array:
    """<v_j, d_row> = sigma_j u_row,j, the components of one of the window's own updates [N, W].

    Args:
        spectrum: of N windows.
        row: which update, oldest first; the newest by default.

    Returns:
        In the parameters' unit; NaN below the rank floor.
    """
    return np.where(spectrum.resolved, spectrum.sigma * spectrum.left[:, row, :], np.nan)


def mode_terms(spectrum: Spectrum, products: Array, *, row: int = -1) -> Array:
    """<g, v_j><v_j, d_row>, the signed part of each mode in <g, d_row>, for an update inside the window [N, W].

    Over a full set of modes they sum to <g, d_row>, whatever the updates: so would the parts along any orthonormal
    basis whose span contains the update. The sum therefore checks the arithmetic and nothing about modes.

    Args:
        spectrum: of N windows.
        products: inner products of the vector with the windows' updates, oldest first [N, W].
        row: which update, oldest first; the newest by default.

    Returns:
        In the unit of the product; NaN below the rank floor.
    """
    terms = spectrum.left[:, row, :] * _along(spectrum, products)
    return np.where(spectrum.resolved, terms, np.nan)


def span_terms(spectrum: Spectrum, products: Array, following: Array) -> Array:
    """<g, v_j><v_j, d>, the part of each mode in <g, d> for an update d that the window does not contain [N, W].

    They sum to <g, P d> with P the projection on the window's span, not to <g, d>.

    Args:
        spectrum: of N windows.
        products: inner products of the vector with the windows' updates, oldest first [N, W].
        following: inner products of the update with the windows' updates, oldest first [N, W].

    Returns:
        In the unit of <g, d>; NaN below the rank floor.
    """
    return _divided(_along(spectrum, products) * _along(spectrum, following), spectrum.eigenvalues, spectrum.resolved)


def captured_fraction(spectrum: Spectrum, following: Array, square: Array) -> Array:
    """|P d|^2 / |d|^2, the share of a later update's energy inside the window's span [N].

    Args:
        spectrum: of N windows.
        following: inner products of the update with the windows' updates, oldest first [N, W].
        square: |d|^2 [N].

    Returns:
        Between 0 and 1 up to rounding; NaN where the update is zero or the window does not move.
    """
    inside = np.nansum(span_terms(spectrum, following, following), axis=-1)
    return np.where(spectrum.rank > 0, ratio(inside, square), np.nan)


def drift_terms(spectrum: Spectrum, products: Array) -> Array:
    """<g, v_j><v_j, m> with m the window's mean update: the part of each mode in a forecast by persistence [N, W].

    <v_j, m> = sigma_j (1 . u_j) / W: a mode carries the model only as far as u_j overlaps the constant vector, so a
    large sigma_j alone contributes nothing. Without weights the terms sum to <g, m>.

    Args:
        spectrum: of N windows.
        products: inner products of the gradient with the windows' updates, oldest first [N, W].

    Returns:
        In the loss's unit; NaN below the rank floor.
    """
    return np.where(spectrum.resolved, spectrum.left.mean(axis=-2) * _along(spectrum, products), np.nan)


def discounted(terms: Array, alpha: Array) -> Array:
    """sum_j alpha_j c_j over the modes that are defined [N].

    Meant for forecasts, whose directions come from earlier rows. Inside the window it destroys the identity.

    Args:
        terms: parts by mode [N, W]; NaN where dropped.
        alpha: stability coefficients [N, W].

    Returns:
        NaN where no mode is defined, or alpha is unknown for one that is.
    """
    defined = ~np.isnan(terms)
    total = np.where(defined, alpha * np.where(defined, terms, 0.0), 0.0).sum(axis=-1)
    return np.where(defined.any(axis=-1), total, np.nan)


def total(terms: Array, count: int | None = None) -> Array:
    """Signed sum over the leading modes [N, W] -> [N]; NaN where none is defined.

    Args:
        terms: parts by mode; NaN where dropped.
        count: number of leading modes; all by default.
    """
    leading = terms[:, :count]
    return np.where(np.isnan(leading).all(axis=-1), np.nan, np.nansum(leading, axis=-1))


def signed_shares(terms: Array) -> Array:
    """c_j / sum_k c_k [N, W]: they sum to one, may exceed one and may be negative, since modes can cancel.

    Args:
        terms: parts by mode; NaN where dropped.
    """
    whole = total(terms)[:, None]
    return ratio(terms, np.broadcast_to(whole, terms.shape))


def residual(change: Array, predicted: Array) -> Array:
    """What a prediction misses, rho = |change - predicted| / |change| [N]; NaN where nothing changed.

    Args:
        change: measured change of the loss.
        predicted: what the parts sum to.
    """
    return ratio(np.abs(change - predicted), np.abs(change))


def trapezoid_products(start: Array, end: Array) -> Array:
    """Inner products of the chord's mean gradient by the trapezoid rule, from the gradients at its two ends.

    Off by O(|d|^3) in the change of the loss.

    Args:
        start: products of the gradient at the chord's start [N, W].
        end: products of the gradient at its end [N, W].
    """
    return 0.5 * (start + end)


def gauss_products(points: Sequence[Array]) -> Array:
    """Inner products of the chord's mean gradient by the two-point Gauss rule, off by O(|d|^5) in the loss's change.

    Args:
        points: products of the gradients at `GAUSS_NODES` [N, W] each.

    Raises:
        InputError: unless there are two.
    """
    if len(points) != len(GAUSS_NODES):
        raise InputError(
            "points", expected="gradients at two points", found=str(len(points)), remedy="evaluate at GAUSS_NODES"
        )
    return 0.5 * (points[0] + points[1])


def loss_change_pub(alpha_pub: Array, gradient_train: Array, gradient_val: Array, learning_rate: Array) -> Array:
    """-eta alpha_j G_j^train G_j^val by mode, the published decomposition of the validation loss's change [N, W].

    Verbatim. It assumes an update of -eta times the training gradient, which holds for plain SGD at one step an
    observation on that very batch, and then weights an identity by alpha, which ends it.

    Args:
        alpha_pub: published stability coefficients [N, W]; ones give `-eta G_j^train G_j^val`.
        gradient_train: components of the training gradient along the modes [N, W].
        gradient_val: components of the validation gradient along the modes [N, W].
        learning_rate: eta [N].
    """
    return -learning_rate[:, None] * alpha_pub * gradient_train * gradient_val


def gradient_share(gradient: Array, decay: Array) -> Array:
    """E_g / (E_g + E_w), the share of the gradient in an update's energy along a mode (arXiv 2604.07380).

    E_g and E_w are squares of the two parts' components, so what the parts take from one another is left out.

    Args:
        gradient: components of the update's gradient part.
        decay: components of its weight-decay part.

    Returns:
        Between 0 and 1; NaN where there is no decay part to compare with.
    """
    return np.where(decay == 0.0, np.nan, ratio(gradient**2, gradient**2 + decay**2))


def net_share(gradient: Array, decay: Array) -> Array:
    """Signed share g / (g + w) of the gradient in an update's motion along a mode (this library).

    Above 1 where decay pulls back, negative where decay wins; the energy share hides both.

    Args:
        gradient: components of the update's gradient part.
        decay: components of its weight-decay part.

    Returns:
        NaN where there is no decay part, or no motion.
    """
    return np.where(decay == 0.0, np.nan, ratio(gradient, gradient + decay))


def ratio(numerator: Array, denominator: Array) -> Array:
    """Quotient where the denominator is not zero, else NaN.

    Args:
        numerator: of any shape.
        denominator: of the same shape.
    """
    defined = denominator != 0.0
    return np.where(defined, numerator / np.where(defined, denominator, 1.0), np.nan)


def _along(spectrum: Spectrum, products: Array) -> Array:
    """u_j . p [N, W]."""
    return np.einsum("nij,ni->nj", spectrum.left, products)


def _divided(numerator: Array, denominator: Array, resolved: NDArray[np.bool_]) -> Array:
    return np.where(resolved, numerator / np.where(resolved, denominator, 1.0), np.nan)
