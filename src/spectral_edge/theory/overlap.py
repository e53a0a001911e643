"""What overlap of leading directions to expect of noise, at any lag, and of a stable direction seen through noise.

Overlap here is the squared inner product of right directions of two windows, a pure number. Windows fewer than W
updates apart share rows, and noise scores high on shared rows alone.
"""

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError

Array = NDArray[np.float64]


def shared_overlap(window: int, lag: int) -> float:
    """Mean over j of the part of v_j that lies in the span of the window `lag` updates later, for noise.

    (W - lag) / W, and 0 from lag W on, in the limit of many dimensions: exactly the share of shared rows, whatever the
    order of the modes (this library).

    Args:
        window: W.
        lag: number of updates between the windows, at least 0.
    """
    _checked(window, lag)
    return max(window - lag, 0) / window


def noise_overlap(window: int, lag: int, *, draws: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Mean squared overlap of modes i and j of noise windows `lag` updates apart, and its standard error.

    Independent isotropic rows in the limit of many dimensions: Gram matrices of shifted windows are overlapping
    diagonal blocks of one Gaussian orthogonal matrix, and only shared rows count (this library).

    Args:
        window: W.
        lag: updates between the windows, at least 0; from W on nothing is shared and everything is 0.
        draws: number of pairs of windows.
        rng: source of randomness.

    Returns:
        Means and standard errors, each [W, W], older modes in rows.
    """
    _checked(window, lag)
    size = window + lag
    normal = rng.standard_normal((draws, size, size))
    symmetric = normal + normal.swapaxes(-1, -2)
    older = np.linalg.eigh(symmetric[:, :window, :window])[1][:, :, ::-1]
    newer = np.linalg.eigh(symmetric[:, lag:, lag:])[1][:, :, ::-1]
    shared = np.eye(window, window, k=-lag)
    squared = (older.swapaxes(-1, -2) @ shared @ newer) ** 2
    return squared.mean(axis=0), squared.std(axis=0, ddof=1) / np.sqrt(draws)


def memory_overlap(correlation: Array, window: int) -> Array:
    """Squared overlap of modes of the first and the last W of rows with a given correlation, many dimensions.

    Then the Gram matrix is the correlation matrix and nothing is random: momentum alone keeps a direction (this
    library).

    Args:
        correlation: of n >= W successive rows [n, n], positive definite. Neither block may have equal eigenvalues:
            there modes are not defined.
        window: W.

    Returns:
        [W, W], older modes in rows.
    """
    older, left = np.linalg.eigh(correlation[:window, :window])
    newer, right = np.linalg.eigh(correlation[-window:, -window:])
    cross = correlation[:window, -window:]
    product = left[:, ::-1].T @ cross @ right[:, ::-1]
    return product**2 / np.outer(older[::-1], newer[::-1])


def disjoint_overlap(leading: int, dimension: float) -> float:
    """Expected |V_k^T V_k'|_F^2 / k of independent subspaces in isotropic noise: k over the dimension.

    Args:
        leading: k.
        dimension: number of equally strong noise directions, at least k.

    Raises:
        InputError: where the dimension is smaller than k.
    """
    if not 1 <= leading <= dimension:
        raise InputError("dimension", expected=f"at least {leading}", found=f"{dimension:g}", remedy="lower k")
    return leading / dimension


def recovered_share(strength: Array | float, *, window: int, dimension: float) -> Array:
    """|<v, v_1>|^2 between a planted direction and the leading one, in isotropic noise, a pure number.

    1 - (c + t) / (t (t + 1)) above t = sqrt(c), else 0, with c = W / P and t the strength (Benaych-Georges and
    Nadakuditi 2012); for P >> W it is t / (t + 1).

    Args:
        strength: t = d^2 / (nu^2 P): the window's planted energy over the noise energy of one row [...].
        window: W.
        dimension: P, the number of equally strong noise directions.

    Returns:
        [...].
    """
    ratio, value = window / dimension, np.asarray(strength, dtype=np.float64)
    above = value > np.sqrt(ratio)
    safe = np.where(above, value, 1.0)
    return np.where(above, 1.0 - (ratio + safe) / (safe * (safe + 1.0)), 0.0)


def attenuated_overlap(strength: Array | float, *, window: int, dimension: float) -> Array:
    """Overlap that a perfectly stable direction shows between windows that share no row: `recovered_share` squared.

    Each window finds the direction with its own independent error, so the two errors multiply. A direction that never
    turns but holds a tenth of the energy, t near 1 at W = 10, scores about 0.25 (this library).

    Args:
        strength: planted energy of each window over the noise energy of one row [...].
        window: W.
        dimension: number of equally strong noise directions.

    Returns:
        [...].
    """
    return recovered_share(strength, window=window, dimension=dimension) ** 2


def _checked(window: int, lag: int) -> None:
    if window < 1 or lag < 0:
        raise InputError(
            "window and lag",
            expected="a window of at least 1 and a lag of at least 0",
            found=f"{window} and {lag}",
            remedy="count both in updates",
        )
