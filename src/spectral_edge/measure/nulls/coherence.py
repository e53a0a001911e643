"""The sign-flip test of coherence: do the updates of a window point the same way more than chance allows?

Structureless innovations have no preferred sign, whatever their covariance, so flipping the sign of rows leaves
their distribution alone. The mean cosine between rows is compared with its value under all flips. Without memory
this is exact. With memory the rows have to be whitened first, which is exact on the rows as they are if the scale of
the updates is steady, and nearly so on their cosines whatever the scale (up to 24 % at a nominal 1 % on steep
covariances with strong memory). Where the effective dimension is low enough for that to matter, the larger p value
of the two is given.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from spectral_edge.measure.nulls.memory import Memory, normalised, whitened

_ALL_FLIPS_TO = 13
"""Largest window for which all 2^(W-1) flips are taken."""
_SAMPLED_FLIPS = 4096
_SEED = 20_260_328
_EVEN_NORMS = 2e-3
"""Below this mean squared cosine, 500 effective dimensions, innovations have norms so even that scaling them changes
nothing, and the cosines alone are tested."""
_CHUNK = 256
"""Windows per matrix product, so that 4096 flips stay within 10 MB."""


@lru_cache(maxsize=32)
def _flips(size: int) -> NDArray[np.float64]:
    """[W (W-1)/2, F] products s_i s_j of the flips' signs, the identity first; read-only."""
    if size <= _ALL_FLIPS_TO:
        codes = np.arange(2 ** (size - 1))
        bits = (codes[:, None] >> np.arange(size - 1)[None, :]) & 1
    else:
        bits = np.random.default_rng(_SEED).integers(0, 2, size=(_SAMPLED_FLIPS, size - 1))
        bits[0] = 0
    # a flip and its negative are the same, so the last row keeps its sign
    signs = np.concatenate([1.0 - 2.0 * bits, np.ones((len(bits), 1))], axis=1)
    above = np.triu_indices(size, 1)
    products = np.ascontiguousarray((signs[:, above[0]] * signs[:, above[1]]).T)
    products.flags.writeable = False
    return products


@lru_cache(maxsize=32)
def _above(size: int) -> NDArray[np.intp]:
    """Positions of the entries above the diagonal in a flattened matrix."""
    rows, columns = np.triu_indices(size, 1)
    return rows * size + columns


def pairs(matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Entries above the diagonal, [N, W, W] to [N, W (W-1)/2], contiguous so that sums over them have one order."""
    count, size = matrices.shape[0], matrices.shape[-1]
    return np.ascontiguousarray(matrices.reshape(count, size * size).take(_above(size), axis=1))


def coherence_p(grams: NDArray[np.float64], memory: Memory) -> NDArray[np.float64]:
    """One-sided p value of the mean off-diagonal cosine under sign flips of the whitened rows.

    All 2^(W-1) flips are taken up to W = 13, else 4096 from a fixed seed, the identity among them. The smallest
    possible value is one over their number: 1/16 at W = 5, so a window that short can never be called coherent at
    1 %.

    Args:
        grams: [N, W, W] Gram matrices of the windows, or their cosines.
        memory: the optimizer's memory.

    Returns:
        [N] p values in (0, 1]; NaN where an entry is NaN or W < 2.
    """
    p_values, m2 = _flip_p(normalised(grams), memory)
    if memory.beta == 0.0:
        return p_values
    strict, _ = _flip_p(grams, memory)
    return np.where(m2 < _EVEN_NORMS, p_values, np.maximum(p_values, strict))


def _flip_p(matrices: NDArray[np.float64], memory: Memory) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The p values of windows whitened as they are [N, W, W] -> [N], and their mean squared whitened cosine [N]."""
    count, size = matrices.shape[0], matrices.shape[-1]
    p_values = np.full(count, np.nan)
    if size < 2:
        return p_values, p_values
    products = _flips(size)
    white = pairs(whitened(matrices, memory))
    # sums that are equal but for rounding count as ties
    slack = 1e-12 * size * size
    for start in range(0, count, _CHUNK):
        part = white[start : start + _CHUNK, None, :]
        sums = (part @ products)[:, 0, :]
        reached = (sums >= sums[:, :1] - slack).sum(axis=-1)
        p_values[start : start + _CHUNK] = reached / products.shape[1]
    p_values[np.isnan(white).any(axis=-1)] = np.nan
    return p_values, (white * white).sum(axis=-1) / white.shape[-1]
