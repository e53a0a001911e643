"""How far a window's right singular directions turn from one window to another, from Gram matrices alone.

For windows a and b inside one extended Gram matrix, <v_i^a, v_j^b> = u_i^a^T (X_a X_b^T) u_j^b / (sigma_i sigma_j).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from spectral_edge.measure.spectrum import Spectrum

Array = NDArray[np.float64]


def overlaps(older: Spectrum, newer: Spectrum, cross: Array) -> Array:
    """Inner products of right directions [N, W, W], older modes in rows, newer in columns.

    Args:
        older: eigenpairs of the older windows.
        newer: eigenpairs of the newer windows.
        cross: X_older X_newer^T [N, W, W].

    Returns:
        Overlaps, clipped to [-1, 1]; NaN where a mode lies below the rank floor.
    """
    product = np.swapaxes(older.left, -1, -2) @ cross @ newer.left
    with np.errstate(divide="ignore", invalid="ignore"):
        value = product / (older.sigma[:, :, None] * newer.sigma[:, None, :])
    defined = older.resolved[:, :, None] & newer.resolved[:, None, :]
    return np.where(defined, np.clip(value, -1.0, 1.0), np.nan)


def matched(overlap: Array) -> Array:
    """Squared overlap of each newer mode with its counterpart by largest total overlap, [N, W, W] -> [N, W]."""
    squared = overlap**2
    out = np.full(squared.shape[:-2] + squared.shape[-1:], np.nan)
    for n, block in enumerate(squared):
        rows = np.flatnonzero(~np.isnan(block).all(axis=1))
        columns = np.flatnonzero(~np.isnan(block).all(axis=0))
        if len(rows) == 0 or len(columns) == 0:
            continue
        i, j = linear_sum_assignment(block[np.ix_(rows, columns)], maximize=True)
        out[n, columns[j]] = block[rows[i], columns[j]]
    return out


def subspace_overlap(overlap: Array, position: NDArray[np.intp]) -> Array:
    """|V_k^T V_k'|_F^2 / k of the leading k = position[n] directions [N]; NaN where k is 0 or a mode is undefined."""
    width = overlap.shape[-1]
    inside = np.arange(width) < position[:, None]
    block = np.where(inside[:, :, None] & inside[:, None, :], overlap**2, 0.0)
    total = block.sum(axis=-1).sum(axis=-1)
    return np.where(position > 0, total / np.maximum(position, 1), np.nan)


def moment_change(gained: Array, dropped: Array, cross: Array) -> Array:
    """|dM|_F [N] for M = X^T X when the window slides by m rows.

    Args:
        gained: Gram matrix of the m gained rows [N, m, m].
        dropped: Gram matrix of the m dropped rows [N, m, m].
        cross: inner products of gained and dropped rows [N, m, m].
    """
    square = _square(gained) + _square(dropped) - 2 * _square(cross)
    return np.sqrt(np.maximum(square, 0.0))


def moment_change_operator(gained: Array, dropped: Array, cross: Array) -> Array:
    """|dM|_op [N] for M = X^T X when the window slides by m rows, from matrices of order 2m.

    With Y the gained over the dropped rows, K = Y Y^T and J = diag(1, -1) block by block, dM = Y^T J Y has the nonzero
    eigenvalues of K^(1/2) J K^(1/2). Inner products keep half the digits of what nearly parallel rows differ in.

    Args:
        gained: Gram matrix of the m gained rows [N, m, m].
        dropped: Gram matrix of the m dropped rows [N, m, m].
        cross: inner products of gained and dropped rows [N, m, m].
    """
    size = gained.shape[-1]
    both = np.concatenate(
        [np.concatenate([gained, cross], axis=-1), np.concatenate([np.swapaxes(cross, -1, -2), dropped], axis=-1)],
        axis=-2,
    )
    value, vector = np.linalg.eigh(both)
    root = (vector * np.sqrt(np.maximum(value, 0.0))[:, None, :]) @ np.swapaxes(vector, -1, -2)
    sign = np.repeat([1.0, -1.0], size)
    return np.abs(np.linalg.eigvalsh((root * sign) @ root)).max(axis=-1)


def frobenius(matrix: Array) -> Array:
    """Frobenius norms [N, m, m] -> [N]."""
    return np.sqrt(_square(matrix))


def neighbour_gaps(eigenvalues: Array, *, null_space: bool) -> Array:
    """Distance of each eigenvalue to its nearest neighbour [N, W] -> [N, W].

    Args:
        eigenvalues: lambda, largest first.
        null_space: whether lambda_{W+1} = 0 counts as a neighbour of the last (M has a null space; G has not).
    """
    step = eigenvalues[:, :-1] - eigenvalues[:, 1:]
    edge = np.full((len(eigenvalues), 1), np.inf)
    above = np.concatenate([edge, step], axis=-1)
    below = np.concatenate([step, eigenvalues[:, -1:] if null_space else edge], axis=-1)
    return np.minimum(above, below)


def stability(change: Array, gap: Array) -> Array:
    """max(0, 1 - change^2 / gap^2) [N], [N, W] -> [N, W]; NaN where the gap is zero and nothing changed."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.maximum(0.0, 1.0 - (change[:, None] / gap) ** 2)


def _square(matrix: Array) -> Array:
    return (matrix * matrix).sum(axis=-1).sum(axis=-1)
