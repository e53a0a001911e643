"""How far eigenvalues of the window's second moment move when one row replaces another, to second order.

M = X^T X changes by dM = n n^T - o o^T: n the row gained, o the row dropped. Second-order perturbation theory has the
familiar repulsion in it, E_jk^2 / (lambda_j - lambda_k), and is good while dM is small against the spacing of the
eigenvalues. A swap of whole rows is small only for modes that many rows built up. Where a gap closes, it never is.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError

Array = NDArray[np.float64]

RANK_FLOOR = 1e-10
"""Eigenvalues at or below this share of the largest carry no direction, so no perturbation theory either."""


@dataclass(frozen=True)
class Repulsion:
    """Change of a window's eigenvalues over one observation, predicted and true.

    Attributes:
        eigenvalues: of the old window, largest first [..., W], u^2.
        injection: first order, what the new row adds along v_j itself, <v_j, n>^2 [..., W], u^2.
        window_loss: first order, what the old row takes away, -<v_j, o>^2 [..., W], u^2.
        within: second order in the window's span, sum over k of E_jk^2 / (lambda_j - lambda_k) [..., W], u^2.
        outside: second order against the direction that the new row adds, |n_perp|^2 <v_j, n>^2 / lambda_j, likewise.
        true: the new window's eigenvalues less the old one's, both in order of size [..., W], u^2.
        smallness: largest |E_jk / (lambda_j - lambda_k)| over the couplings of j, the outside one included [..., W].
    """

    eigenvalues: Array
    injection: Array
    window_loss: Array
    within: Array
    outside: Array
    true: Array
    smallness: Array

    @property
    def repulsion(self) -> Array:
        """All of the second order [..., W], u^2."""
        return self.within + self.outside

    @property
    def predicted(self) -> Array:
        """First and second order together [..., W], u^2; NaN below the rank floor."""
        return self.injection + self.window_loss + self.repulsion

    @property
    def error(self) -> Array:
        """Predicted less true [..., W], u^2."""
        return self.predicted - self.true


def repulsion(gram: Array) -> Repulsion:
    """Second-order change of the eigenvalues for a swap of rows, beside the true one (this library).

    Args:
        gram: products of W + 1 successive rows [..., W + 1, W + 1], u^2, oldest first: the first W are the old window,
            the last W the new one.

    Raises:
        InputError: if the matrix is not square or has fewer than three rows.
    """
    size = gram.shape[-1]
    if gram.ndim < 2 or gram.shape[-2] != size or size < 3:
        raise InputError(
            "gram",
            expected="products of W + 1 >= 3 rows [..., W + 1, W + 1]",
            found=f"shape {gram.shape}",
            remedy="give the Gram matrix of the old window and the row that follows it",
        )
    value, left = np.linalg.eigh(gram[..., :-1, :-1])
    value, left = np.maximum(value[..., ::-1], 0.0), left[..., ::-1]
    after: Array = np.asarray(np.linalg.eigvalsh(gram[..., 1:, 1:])[..., ::-1], dtype=np.float64)
    live = value > RANK_FLOOR * value[..., :1]
    sigma = np.where(live, np.sqrt(value), np.nan)
    old = sigma * left[..., 0, :]
    new = (np.swapaxes(left, -1, -2) @ gram[..., :-1, -1, None])[..., 0] / sigma
    beyond = np.maximum(gram[..., -1, -1] - np.nansum(new**2, axis=-1), 0.0)[..., None]
    change = new[..., :, None] * new[..., None, :] - old[..., :, None] * old[..., None, :]
    distance = value[..., :, None] - value[..., None, :]
    apart = distance + np.where(np.eye(size - 1, dtype=bool), np.inf, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mixing = np.abs(change / apart)
        outer = np.sqrt(beyond) * np.abs(new) / value
        within = np.nansum(np.where(np.isinf(apart), 0.0, change**2 / apart), axis=-1)
        outside = beyond * new**2 / value
    return Repulsion(
        eigenvalues=value,
        injection=np.where(live, new**2, np.nan),
        window_loss=np.where(live, -(old**2), np.nan),
        within=np.where(live, within, np.nan),
        outside=np.where(live, outside, np.nan),
        true=after - value,
        smallness=np.where(live, np.maximum(np.where(np.isnan(mixing), 0.0, mixing).max(axis=-1), outer), np.nan),
    )
