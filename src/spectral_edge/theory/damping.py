"""The published test of gap damping, which reads the two ends of a series and nothing between, and one that works.

The published test correlates a gap with its own centred difference. Summed over a series that product telescopes:
what is left are the first and the last pair. So the test cannot see damping in a stationary run, where ends differ by
chance, and sees any decline or rise as damping or growth.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def damping_test_pub(gap: Array) -> Array:
    """Correlation of a gap with its centred difference, [..., T] -> [...], no unit (scripts of arXiv 2603.28964).

    Zero in expectation for every stationary process, damped or not; a decaying transient makes it negative and a
    growing one positive. NaN for fewer than four values or no variation.
    """
    if gap.shape[-1] < 4:
        return np.full(gap.shape[:-1], np.nan)
    here, slope = gap[..., 1:-1], (gap[..., 2:] - gap[..., :-2]) / 2
    here = here - here.mean(axis=-1, keepdims=True)
    slope = slope - slope.mean(axis=-1, keepdims=True)
    return _ratio((here * slope).sum(axis=-1), np.sqrt((here**2).sum(axis=-1) * (slope**2).sum(axis=-1)))


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
        stride: lag in samples.
    """
    x = gap - gap.mean(axis=-1, keepdims=True)
    rho = _ratio((x[..., stride:] * x[..., :-stride]).mean(axis=-1), (x**2).mean(axis=-1))
    return np.where(rho > 0, -np.log(np.where(rho > 0, rho, 1.0)) / stride, np.nan)


def _ratio(top: Array, below: Array) -> Array:
    found = np.full(np.shape(top), np.nan)
    np.divide(top, below, out=found, where=below > 0)
    return found
