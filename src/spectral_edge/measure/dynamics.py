"""What one observation does to a window's energies: the row that comes, the row that goes, and what turning adds.

When a window slides, M = X^T X changes by the new row's outer product minus the old one's. To first order lambda_j
changes by <v_j, d_new>^2 - <v_j, d_old>^2, exactly so if v_j stays (this library's reading of the gap flow of arXiv
2603.28964); the second order is the repulsion of levels. Everything follows from the Gram matrix of W + 1 updates.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectral_edge.measure.spectrum import Spectrum, spectrum

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Swap:
    """The change of N windows' eigenvalues when each slides by one row, by cause.

    Attributes:
        older: eigenpairs of the windows before.
        injection: <v_j, d_new>^2 [N, W], in u^2.
        window_loss: -<v_j, d_old>^2 [N, W], in u^2.
        repulsion: second-order change from the other modes and from the part of the new row that lies outside them
            [N, W], in u^2.
        measured: lambda_j after minus lambda_j before, by position [N, W], in u^2.
    """

    older: Spectrum
    injection: Array
    window_loss: Array
    repulsion: Array
    measured: Array


def swap(extended: Array) -> Swap:
    """Splits the change of eigenvalues over one observation.

    Second-order perturbation theory holds while the terms are small against the distances of the eigenvalues; a swap of
    rows is not small near a closing gap, which is where `repulsion` grows without bound.

    Args:
        extended: Gram matrices of W + 1 updates, oldest first [N, W + 1, W + 1]; every entry must be finite.

    Returns:
        The terms; NaN for modes below the rank floor.
    """
    older, newer = spectrum(extended[:, :-1, :-1]), spectrum(extended[:, 1:, 1:])
    gained = project(older, extended[:, :-1, -1])
    lost = project(older, extended[:, :-1, 0])
    value = older.eigenvalues
    change = gained[:, :, None] * gained[:, None, :] - lost[:, :, None] * lost[:, None, :]
    distance = value[:, :, None] - value[:, None, :]
    defined = older.resolved[:, :, None] & older.resolved[:, None, :] & ~np.eye(value.shape[1], dtype=bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        turned = np.where(defined, change**2 / distance, 0.0).sum(axis=-1)
        outside = np.maximum(extended[:, -1, -1] - np.nansum(gained**2, axis=-1), 0.0)
        escaped = outside[:, None] * gained**2 / value
    repulsion = np.where(older.resolved, turned + escaped, np.nan)
    return Swap(older, gained**2, -(lost**2), repulsion, newer.eigenvalues - value)


def project(window: Spectrum, products: Array) -> Array:
    """Inner products of the right directions with a vector, <v_j, x> = sum_i u_ij <d_i, x> / sigma_j.

    Args:
        window: eigenpairs of N windows.
        products: <d_i, x> for the windows' updates, oldest first [N, W].

    Returns:
        Projections [N, W]; NaN for modes below the rank floor.
    """
    product = np.squeeze(products[:, None, :] @ window.left, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(window.resolved, product / window.sigma, np.nan)


def persistence(window: Spectrum) -> Array:
    """How much of a mode's projection the next update keeps, by least squares over neighbouring updates [N, W].

    The projections of the window's updates on v_j are sigma_j u_ij, so this is sum_i u_{i+1,j} u_ij / sum_i u_ij^2 over
    neighbours: 1 for a constant drive, 0 for noise, -1 for an oscillation of period two.
    """
    before, after = window.left[:, :-1, :], window.left[:, 1:, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        kept = (before * after).sum(axis=1) / (before**2).sum(axis=1)
    return np.where(window.resolved, kept, np.nan)
