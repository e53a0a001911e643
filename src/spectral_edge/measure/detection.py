"""The published detection threshold, which pure noise passes too (theory section 2, finding F1)."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def detection_ratio_pub(sigma: Array, parameters: int) -> Array:
    """sigma_W / d_crit as published, [N, W] -> [N].

    d_crit = nu (P (W-1))^(1/4) with nu^2 the mean of the smaller half of the eigenvalues over P. Whatever the data,
    the ratio is at most (P / (W-1))^(1/4) times sigma_W over the root mean square of that half, so "much larger than
    one" holds for pure noise; it is kept because it was published.

    Args:
        sigma: singular values, largest first.
        parameters: number P of tracked parameters.
    """
    width = sigma.shape[-1]
    noise = (sigma[..., width // 2 :] ** 2).mean(axis=-1) / parameters
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = sigma[..., -1] / (np.sqrt(noise) * (parameters * (width - 1)) ** 0.25)
    return np.where(np.isfinite(ratio), ratio, np.nan)
