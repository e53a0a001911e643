"""The published test of gap damping, which reads the two ends of a series and nothing between, and one that works.

The published test correlates a gap with its own centred difference. Summed over a series that product telescopes:
what is left are the first and the last pair. So the test asks whether the series ends further from its mean than it
began. It cannot see damping in a stationary run, where the ends differ by chance; of a decline it sees only the shape,
negative for one that slows down, positive for one that speeds up, zero on average for a straight line with noise.
"""

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError

Array = NDArray[np.float64]


def damping_test_pub(gap: Array) -> Array:
    """Correlation of a gap with its centred difference, [..., T] -> [...], no unit (scripts of arXiv 2603.28964).

    Damped or not: its covariance (`damping_ends`) is zero in expectation for every stationary process, the correlation
    for every one that looks the same backwards in time, and within O(1/T) of zero for others. Negative for a transient
    that dies out, positive for one that builds up, whichever way it points. NaN for fewer than four values, and where
    the gap or its difference does not vary beyond rounding, as on an exact straight line.
    """
    if gap.shape[-1] < 4:
        return np.full(gap.shape[:-1], np.nan)
    here, slope = gap[..., 1:-1], (gap[..., 2:] - gap[..., :-2]) / 2
    here = here - here.mean(axis=-1, keepdims=True)
    slope = slope - slope.mean(axis=-1, keepdims=True)
    squares = np.stack([(here**2).sum(axis=-1), (slope**2).sum(axis=-1)])
    rounding = here.shape[-1] * (8 * np.finfo(np.float64).eps * np.abs(gap).max(axis=-1)) ** 2
    product = np.where((squares > rounding).all(axis=0), squares[0] * squares[1], 0.0)
    return _ratio((here * slope).sum(axis=-1), np.sqrt(product))


def damping_ends(gap: Array) -> Array:
    """The published test's covariance from the two ends of the series alone, [..., T] -> [...] (this library).

    With x the gap less its mean over the inner points, the sum over them of x_t (x_(t+1) - x_(t-1)) / 2 is
    (x_(T-1) x_(T-2) - x_1 x_0) / 2, whatever lies between.
    """
    x = gap - gap[..., 1:-1].mean(axis=-1, keepdims=True)
    return (x[..., -1] * x[..., -2] - x[..., 1] * x[..., 0]) / 2


def damping_rate(gap: Array, *, stride: int = 1) -> Array:
    """Relaxation rate of a stationary gap from its autocorrelation, [..., T] -> [...], per sample (this library).

    -ln(rho) / stride with rho the correlation at that lag, pooled over all pairs. Windows that share rows are
    correlated by construction, so use a stride of at least W samples. NaN where rho <= 0: nothing left at that lag.

    Args:
        gap: a series without trend.
        stride: lag in samples, at least 1 and below the length of the series.

    Raises:
        InputError: for another stride.
    """
    if not 1 <= stride < gap.shape[-1]:
        raise InputError(
            "stride",
            expected=f"1 to {gap.shape[-1] - 1} samples",
            found=str(stride),
            remedy="use a lag within the series",
        )
    x = gap - gap.mean(axis=-1, keepdims=True)
    rho = _ratio((x[..., stride:] * x[..., :-stride]).mean(axis=-1), (x**2).mean(axis=-1))
    return np.where(rho > 0, -np.log(np.where(rho > 0, rho, 1.0)) / stride, np.nan)


def _ratio(top: Array, below: Array) -> Array:
    found = np.full(np.shape(top), np.nan)
    np.divide(top, below, out=found, where=below > 0)
    return found
