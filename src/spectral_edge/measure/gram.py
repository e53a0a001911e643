"""From lag rows to the Gram matrix of any window and stride.

A lag row holds r_t[l] = <d_t, d_{t-l}> for l = 0..L-1, so the Gram matrix of the last n updates is a block of the
banded matrix that the rows make, and the Gram matrix of sums of s successive updates is S G S^T with a 0/1 matrix S.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError

Array = NDArray[np.float64]


def grams(rows: Array, ends: NDArray[np.intp], *, size: int, stride: int = 1) -> Array:
    """Gram matrices of `size` successive strided updates, the newest in the last row and column.

    Args:
        rows: lag rows [..., T, L]; NaN where an inner product is unknown.
        ends: indices [N] into T of each block's newest update.
        size: number of strided updates in a block.
        stride: number of observations that one strided update sums.

    Returns:
        Symmetric blocks [..., N, size, size]; NaN where they reach behind the first row or an unknown product.

    Raises:
        InputError: if the block reaches beyond the recorded horizon.
    """
    total, horizon = rows.shape[-2:]
    span = size * stride
    if span > horizon:
        raise InputError(
            f"a window of {size} updates at stride {stride}",
            expected=f"at most {horizon} recorded lags",
            found=f"{span} needed",
            remedy="record with a longer horizon, or use a smaller window or stride",
        )
    position = np.arange(span)
    newer = np.maximum(position[:, None], position[None, :])
    lag = np.abs(position[:, None] - position[None, :])
    time = ends[:, None, None] - (span - 1) + newer
    blocks = np.where(time >= 0, rows[..., np.clip(time, 0, total - 1), lag], np.nan)
    # Sums run in an order that depends on the layout; one layout for one group and for many keeps them identical.
    blocks = np.ascontiguousarray(blocks)
    if stride == 1:
        return blocks
    split = blocks.reshape(*blocks.shape[:-2], size, stride, size, stride)
    return np.ascontiguousarray(split.sum(axis=-1).sum(axis=-2))


def group_rows(lags: Array, members: Sequence[int]) -> Array:
    """Lag rows of a group of stored entries [..., n, L] -> [..., L]: rows of disjoint coordinates add."""
    return np.ascontiguousarray(lags[..., list(members), :]).sum(axis=-2)


def window_ends(total: int, *, stride: int) -> NDArray[np.intp]:
    """Indices of one window every `stride` observations, aligned to the newest of `total` rows."""
    return np.arange(total - 1, -1, -stride)[::-1]


def cosines(gram: Array) -> Array:
    """Row-normalised Gram matrices [..., W, W]; NaN in the rows and columns of zero updates."""
    norm = np.sqrt(np.diagonal(gram, axis1=-2, axis2=-1))
    norm = np.where(norm > 0, norm, np.nan)
    return gram / (norm[..., :, None] * norm[..., None, :])


def sketch_error(energies: Array, errors: Array) -> Array:
    """Relative standard error of an isolated singular value of a union of sketched groups [..., n] -> [...].

    Args:
        energies: squared norm of the newest update by stored entry [..., n].
        errors: each entry's own relative standard error [n]; 0 where it is kept exactly.
    """
    total = energies.sum(axis=-1)
    spread = np.sqrt(((energies * errors) ** 2).sum(axis=-1))
    largest = errors.max(initial=0.0)
    return np.where(total > 0, spread / np.where(total > 0, total, 1.0), largest)
