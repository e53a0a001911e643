"""How a window's updates relate to each other in time: memory, coherence, progress and displacement."""

import numpy as np
from numpy.typing import NDArray

from spectral_edge.measure.spectrum import Spectrum

Array = NDArray[np.float64]


def lag1_cosine(cosine: Array) -> Array:
    """Mean cosine of neighbouring updates [N, W, W] -> [N]."""
    return np.diagonal(cosine, offset=1, axis1=-2, axis2=-1).mean(axis=-1)


def coherence(cosine: Array) -> Array:
    """Signed mean cosine over all pairs of updates [N, W, W] -> [N]."""
    width = cosine.shape[-1]
    return (cosine.sum(axis=-1).sum(axis=-1) - width) / (width * (width - 1))


def progress_share(spectrum: Spectrum) -> Array:
    """(1^T u_j)^2 / W [N, W]: the share of mode j's left direction along constant motion; NaN below the rank floor."""
    width = spectrum.left.shape[-1]
    share = spectrum.left.sum(axis=-2) ** 2 / width
    return np.where(spectrum.resolved, share, np.nan)


def mean_square_displacement(gram: Array) -> Array:
    """Mean over the window of |theta_{i+k} - theta_i|^2 for k = 1..W [N, W, W] -> [N, W], by cumulative sums."""
    width = gram.shape[-1]
    table = np.zeros((*gram.shape[:-2], width + 1, width + 1))
    table[..., 1:, 1:] = gram.cumsum(axis=-1).cumsum(axis=-2)
    columns: list[Array] = []
    for k in range(1, width + 1):
        squares = [
            table[..., i + k, i + k] - table[..., i, i + k] - table[..., i + k, i] + table[..., i, i]
            for i in range(width - k + 1)
        ]
        columns.append(np.stack(squares, axis=-1).mean(axis=-1))
    return np.stack(columns, axis=-1)
