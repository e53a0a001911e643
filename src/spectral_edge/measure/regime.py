"""Thresholds that sort `adiabatic_emp` into plateau, transition and forgetting (theory section 10).

Both thresholds are 5th percentiles under noise: *plateau* lies below that of noise with the optimizer's own memory
(so persistence that momentum alone gives is not a plateau), *forgetting* above that of noise without memory.
In the limit of many dimensions the first is a closed form of the memory matrix; the finite number of dimensions adds
a fluctuation of variance 1/P_eff to every overlap, so that k times the squared subspace overlap times P_eff is
noncentral chi-squared with k^2 degrees of freedom, whose upper quantile Patnaik's two-moment form approximates.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

Array = NDArray[np.float64]

_LEAST_VARIANCE = 1e-16
"""Of cosines: no float32 or float64 updates resolve less, and it keeps the formulas finite."""


def effective_dimension(cross_cosine: Array) -> Array:
    """1 / variance of the cosines between two windows that share no row [N, W, W] -> [N].

    The mean is left out, so that a drift does not count as few dimensions; memory and rotation do, which only
    lowers the estimate and widens the transition.
    """
    flat = cross_cosine.reshape(len(cross_cosine), -1)
    return 1.0 / np.maximum(flat.var(axis=-1), _LEAST_VARIANCE)


def noise_overlap(memory: Array) -> Array:
    """Sum of squared overlaps of the leading k directions of successive windows of noise, for k = 1..W [W].

    Args:
        memory: correlation matrix of 2W rows [2W, 2W], in the limit of infinitely many dimensions.
    """
    width = len(memory) // 2
    value, vector = np.linalg.eigh(memory[:width, :width])
    value, vector = value[::-1], vector[:, ::-1]
    overlap = (vector.T @ memory[:width, width:] @ vector) / np.sqrt(np.outer(value, value))
    return np.array([np.sum(overlap[:k, :k] ** 2) for k in range(1, width + 1)])


def thresholds(position: NDArray[np.intp], dimension: Array, memory: Array) -> tuple[Array, Array]:
    """Upper limit of plateau and lower limit of forgetting for `adiabatic_emp`, each [N].

    Args:
        position: k* [N], 0 where undefined.
        dimension: effective noise dimension [N].
        memory: correlation matrix of 2W rows that the optimizer alone causes [2W, 2W].
    """
    k = np.maximum(position, 1)
    remembered = noise_overlap(memory)[k - 1]
    plateau = 1 - _upper_quantile(k**2, remembered * dimension) / (k * dimension)
    forgetting = 1 - _upper_quantile(k**2, np.zeros_like(dimension)) / (k * dimension)
    return np.minimum(plateau, forgetting), forgetting


def _upper_quantile(degrees: NDArray[np.intp], noncentrality: Array) -> Array:
    mean = degrees + noncentrality
    spread = (degrees + 2 * noncentrality) / mean
    return spread * chdtri(mean / spread, 0.05)
