"""Series with a memory of one observation: drawing them, and estimating the memory of a short detrended one."""

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import matmul_toeplitz
from scipy.signal import lfilter

from spectral_edge.errors import InputError

Array = NDArray[np.float64]

CANDIDATES = np.concatenate([np.linspace(-0.9, 0.85, 36), np.linspace(0.875, 0.975, 5), [0.985, 0.995]])
"""Memories that `matched_memory` interpolates between; none is estimated above or below them."""


def checked_series(name: str, values: ArrayLike, length: int | None = None) -> Array:
    """A series in float64 [N], or an error that names it.

    Args:
        name: of the argument.
        values: the series.
        length: what it has to be as long as.

    Raises:
        InputError: if it is no finite series of that length.
    """
    series = np.asarray(values, dtype=np.float64)
    if series.ndim != 1 or (length is not None and len(series) != length):
        expected = "one dimension" if length is None else f"one dimension of {length} observations"
        raise InputError(name, expected=expected, found=f"shape {series.shape}", remedy="give aligned series")
    if not np.isfinite(series).all():
        raise InputError(
            name,
            expected="finite values",
            found=f"{int((~np.isfinite(series)).sum())} that are not",
            remedy="give a stretch in which every series is known",
        )
    return series


def polynomial(steps: ArrayLike, degree: int | None) -> Array:
    """Orthonormal polynomials in step up to a degree, the constant included [N, degree + 1]; none leaves the constant.

    Args:
        steps: of the observations [N].
        degree: of the highest; None is 0.
    """
    at = np.asarray(steps, dtype=np.float64)
    span = float(np.ptp(at)) if len(at) else 0.0
    unit = 2 * (at - at.min()) / span - 1 if span > 0 else np.zeros_like(at)
    columns = np.polynomial.legendre.legvander(unit, min(degree or 0, max(len(at) - 1, 0)))
    return np.linalg.qr(columns)[0]


def removed(values: Array, basis: Array) -> Array:
    """What orthonormal columns [N, p] leave of series [..., N]."""
    return values - (values @ basis) @ basis.T


def lag1(values: Array) -> Array:
    """Lag-1 autocorrelation of centred series [..., N]: NaN for one that is zero throughout."""
    square = (values**2).sum(axis=-1)
    product = (values[..., 1:] * values[..., :-1]).sum(axis=-1)
    return np.divide(product, square, out=np.full(square.shape, np.nan), where=square > 0)


def ar1_draws(memory: float, length: int, count: int, rng: np.random.Generator) -> Array:
    """Stationary Gaussian series of unit variance [count, length] with correlation `memory` between neighbours."""
    noise = rng.standard_normal((count, length))
    noise[:, 1:] *= np.sqrt(1 - memory**2)
    return np.asarray(lfilter([1.0], [1.0, -memory], noise, axis=1), dtype=np.float64)


def matched_memory(estimate: float, basis: Array) -> float:
    """The memory of an AR(1) whose lag-1 autocorrelation, after the same detrending, is the one that was found.

    Detrending lowers the lag-1 autocorrelation of a short series: a cubic leaves about .6 of .9 with 36 observations.

    Args:
        estimate: lag-1 autocorrelation of what the basis left of a series.
        basis: orthonormal columns that were removed [N, p].

    Returns:
        The memory at which the expected product of neighbours over the expected square is the estimate; the nearest of
        `CANDIDATES` where none is.
    """
    return float(np.interp(estimate, _after(basis.tobytes(), basis.shape[1]), CANDIDATES))


@lru_cache(maxsize=32)
def _after(content: bytes, columns: int) -> Array:
    """Expected lag-1 autocorrelation for each of `CANDIDATES`, once the columns are removed."""
    basis = np.frombuffer(content, dtype=np.float64).reshape(-1, columns)
    return np.maximum.accumulate([_expected_lag1(float(memory), basis) for memory in CANDIDATES])


def _expected_lag1(memory: float, basis: Array) -> float:
    """Expected product of neighbours over expected square of (I - QQ^T) x, with x of covariance memory^|i-j|."""
    length = len(basis)
    column = memory ** np.arange(length)
    moved = np.asarray(matmul_toeplitz(column, basis), dtype=np.float64)  # [N, p]
    inner = basis.T @ moved
    square = length - float(np.trace(inner))
    product = (length - 1) * memory - float((basis[1:] * moved[:-1]).sum() + (moved[1:] * basis[:-1]).sum())
    product += float(((basis[1:] @ inner) * basis[:-1]).sum())
    return product / square if square > 0 else 0.0
