"""Power-law covariances lambda_k = k^-a, k = 1..K, addressed by the moments that cosines can estimate.

With p2 = sum l^2/(sum l)^2 and p3 = sum l^3/(sum l)^3, independent rows have E c_ij^2 = p2 (one over the
effective dimension) and E c_ij c_jk c_ki = p3, up to the normalisation of rows. The shape g = p3/p2^1.5 runs from
sqrt(p2) (flat) to the value at K = infinity, the heaviest head that a power law with that p2 can have.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import exprel

_HEAD = 96
"""Eigenvalues that are summed one by one; the midpoint rule takes the rest, to a relative 5e-6 a^2."""
_LOG_ENDLESS = 1e9
"""log K that stands for infinity: beyond it nothing changes for any a that the table reaches."""
_STEEPEST = 40.0
_HALVINGS = 46
_Elementwise = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """A batch of power laws.

    Attributes:
        exponent: [n] a >= 0.
        log_size: [n] natural logarithm of K, which is real: the last eigenvalue has a fractional weight.
    """

    exponent: NDArray[np.float64]
    log_size: NDArray[np.float64]

    def weights(self, count: int) -> NDArray[np.float64]:
        """[n, count] leading eigenvalues, not normalised; 0 beyond K."""
        index = np.arange(1, count + 1, dtype=np.float64)
        size = np.exp(np.minimum(self.log_size, 50.0))[:, None]
        return index[None, :] ** -self.exponent[:, None] * np.clip(size - index[None, :] + 1.0, 0.0, 1.0)

    def sums(self, power: int, skip: int = 0) -> NDArray[np.float64]:
        """[n] sum over k > skip of lambda_k^power."""
        steepness = power * self.exponent
        low = np.log(max(_HEAD, skip) + 0.5)
        high = np.where(self.log_size > 30.0, self.log_size, np.log(np.exp(np.minimum(self.log_size, 31.0)) + 0.5))
        span = np.maximum(high - low, 0.0)
        with np.errstate(over="ignore", invalid="ignore"):
            tail = np.exp((1.0 - steepness) * low) * span * exprel((1.0 - steepness) * span)
        head = (self.weights(max(_HEAD, skip))[:, skip:] ** power).sum(axis=-1)
        return head + np.where(span > 0.0, tail, 0.0)

    def moment(self, power: int) -> NDArray[np.float64]:
        """[n] sum of lambda^power over (sum of lambda)^power."""
        with np.errstate(over="ignore", invalid="ignore"):
            ratio = self.sums(power) / self.sums(1) ** power
        return np.nan_to_num(ratio, nan=0.0, posinf=0.0)

    @property
    def shape(self) -> NDArray[np.float64]:
        """[n] g = p3/p2^1.5, at most 1."""
        return self.moment(3) / self.moment(2) ** 1.5


def _bisect(
    low: NDArray[np.float64], high: NDArray[np.float64], rising: _Elementwise, steps: int = _HALVINGS
) -> NDArray[np.float64]:
    """Elementwise root of an increasing function's sign between two bounds."""
    low, high = low.copy(), high.copy()
    for _ in range(steps):
        middle = 0.5 * (low + high)
        above = rising(middle) > 0.0
        high = np.where(above, middle, high)
        low = np.where(above, low, middle)
    return 0.5 * (low + high)


def _sized(exponent: NDArray[np.float64], p2: NDArray[np.float64], smallest: float) -> PowerLaw:
    """The power laws with these exponents whose size, at least `smallest`, gives p2."""
    # bisect in log log K: K spans from a few to exp(1e9)
    inner = _bisect(
        np.full_like(p2, np.log(np.log(smallest))),
        np.full_like(p2, np.log(_LOG_ENDLESS)),
        lambda loglog: p2 - PowerLaw(exponent, np.exp(loglog)).moment(2),
    )
    return PowerLaw(exponent, np.exp(inner))


def solve(
    p2: NDArray[np.float64], position: NDArray[np.float64], *, smallest: float
) -> tuple[PowerLaw, NDArray[np.float64]]:
    """Power laws with given p2 and a given position between the flattest and the most headed shape.

    Args:
        p2: [n] second moments in (0, 1).
        position: [n] v in [0, 1]; the shape is g0 + v^2 (g1 - g0), finer near the flat end.
        smallest: least number of dimensions K.

    Returns:
        The power laws, and [n] their shapes g.
    """
    endless = np.full_like(p2, _LOG_ENDLESS)
    at_infinity = np.log(smallest)
    steepest = _bisect(
        np.full_like(p2, 1.0), np.full_like(p2, _STEEPEST), lambda a: PowerLaw(a, endless).moment(2) - p2
    )
    at_smallest = np.full_like(p2, at_infinity)
    flattest = _bisect(
        np.zeros_like(p2), np.full_like(p2, _STEEPEST), lambda a: PowerLaw(a, at_smallest).moment(2) - p2
    )
    flattest = np.where(p2 <= 1.0 / smallest, 0.0, flattest)
    g0 = _sized(flattest, p2, smallest).shape
    g1 = PowerLaw(steepest, endless).shape
    target = g0 + position**2 * (g1 - g0)
    exponent = _bisect(flattest, steepest, lambda a: _sized(a, p2, smallest).shape - target, steps=30)
    exponent = np.where(position <= 0.0, flattest, np.where(position >= 1.0, steepest, exponent))
    law = _sized(exponent, p2, smallest)
    log_size = np.where(position >= 1.0, endless, law.log_size)
    law = PowerLaw(exponent, log_size)
    return law, law.shape
