"""What an optimizer alone makes successive updates remember, and how to take it out of a window.

Momentum turns independent gradients into correlated updates, so neighbouring rows of a window point the same way
even where nothing is being learned. The correlation is known from the optimizer's settings and is never fitted to
the window under test: a fit would absorb the very signal that is looked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError

_DEGENERATE = 1e-12
"""A whitened squared row norm below this, in units of the row's own, is rounding error and has no direction."""


@dataclass(frozen=True, slots=True)
class Memory:
    """The correlation that momentum gives to rows of updates driven by white gradient noise.

    Attributes:
        beta: momentum coefficient (Adam's beta1, the momentum of SGD or Muon), in [0, 1); 0 is none.
        interval: optimizer steps per row (s), at least 1. A mean over uneven rows may be fractional.
    """

    beta: float
    interval: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.beta < 1.0:
            raise InputError(
                "momentum coefficient beta",
                expected="a number in [0, 1)",
                found=repr(self.beta),
                remedy="give the optimizer's beta1 or momentum, or 0 where it has none",
            )
        if not 1.0 <= self.interval < np.inf:
            raise InputError(
                "optimizer steps per row",
                expected="a finite number that is at least 1",
                found=repr(self.interval),
                remedy="give how many optimizer steps one observed update spans",
            )

    @property
    def neighbour(self) -> float:
        """Correlation rho_1 of neighbouring rows.

        A row sums s steps of m_t = beta m_(t-1) + g_t. With the autocovariance beta^|k| of m, the sum has variance
        s (1+beta)/(1-beta) - 2 beta (1-beta^s)/(1-beta)^2 and covariance beta (1-beta^s)^2/(1-beta)^2 with the next.
        """
        if self.interval == 1.0:
            return self.beta  # the closed form, without its cancellation
        decayed = 1.0 - self.beta**self.interval
        variance = self.interval * (1.0 - self.beta**2) - 2.0 * self.beta * decayed
        return self.beta * decayed**2 / variance

    def matrix(self, size: int) -> NDArray[np.float64]:
        """Correlation matrix T of `size` consecutive rows: 1, then rho_1 (beta^s)^(l-1) at lag l.

        Args:
            size: number of rows.

        Returns:
            [size, size] symmetric positive definite Toeplitz matrix.
        """
        lags = np.abs(np.arange(size)[:, None] - np.arange(size)[None, :])
        decay = self.beta**self.interval
        # 0**0 is 1 here, so that no momentum leaves the identity
        later = self.neighbour * decay ** np.maximum(lags - 1, 0).astype(np.float64)
        return np.where(lags == 0, 1.0, later)


NO_MEMORY = Memory(0.0, 1.0)
"""Updates that remember nothing."""


@lru_cache(maxsize=256)
def factor(memory: Memory, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower Cholesky factor B of T and its inverse, both [size, size] and read-only."""
    lower = np.linalg.cholesky(memory.matrix(size)).astype(np.float64)
    inverse = np.linalg.solve(lower, np.eye(size)).astype(np.float64)
    lower.flags.writeable = False
    inverse.flags.writeable = False
    return lower, inverse


def normalised(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosines of the rows behind Gram matrices; NaN throughout a window that has a row without direction.

    Args:
        gram: [N, W, W] Gram matrices.

    Returns:
        [N, W, W] with a unit diagonal.
    """
    squares = np.diagonal(gram, axis1=-2, axis2=-1)
    scale = 1.0 / np.sqrt(np.where(squares > 0.0, squares, np.nan))
    cosines = gram * scale[:, :, None] * scale[:, None, :]
    undefined = np.isnan(scale).any(axis=-1)
    if undefined.any():
        cosines[undefined] = np.nan
    return cosines


def whitened(cosines: NDArray[np.float64], memory: Memory) -> NDArray[np.float64]:
    """Cosines of the rows' innovations: B^-1 C B^-T with B B^T = T, renormalised to a unit diagonal.

    Args:
        cosines: [N, W, W] cosines of the rows.
        memory: the optimizer's memory.

    Returns:
        [N, W, W]; a window with NaN, or whose innovations vanish to rounding, is NaN throughout.
    """
    if memory.beta == 0.0:
        return normalised(cosines)
    _, inverse = factor(memory, cosines.shape[-1])
    gram = inverse @ cosines @ inverse.T
    squares = np.diagonal(gram, axis1=-2, axis2=-1)
    vanished = (squares < _DEGENERATE).any(axis=-1)
    if vanished.any():
        gram[vanished] = np.nan
    return normalised(gram)


SHIPPED_INTERVALS = (1.0, 2.0, 5.0, 10.0, 20.0, 25.0, 50.0, 100.0, 200.0)
"""Intervals for which band tables are shipped."""


def known_memory(
    momentum: float | None, steps: Sequence[int] | NDArray[Any], *, every: float | None, stride: int = 1
) -> Memory | None:
    """The memory of a window from what is recorded of its optimizer and its steps.

    Args:
        momentum: the optimizer's, None where unknown.
        steps: steps of the window's observations.
        every: the interval that the monitor was given, None where it varied.
        stride: observations that one row sums.

    Returns:
        The memory; None where momentum or interval are unknown. An interval that is not the given one is rounded to
        one for which a table is shipped, so that an uneven schedule does not draw a table for each window.
    """
    typical = float(np.median(np.diff(steps))) if len(steps) > 1 else every
    if momentum is None or typical is None:
        return None
    if typical == every:
        return Memory(momentum, typical * stride)
    distance = np.abs(np.log(np.array(SHIPPED_INTERVALS) / typical))
    return Memory(momentum, SHIPPED_INTERVALS[int(np.argmin(distance))] * stride)
