"""How the rows of a noise stream depend on one another in time: covariance of rows, as closed forms.

Every model gives the covariance matrix of T successive rows, in units of the noise's energy per row. The energy of a
row of a random walk grows with its index; all other models are stationary, with a unit diagonal.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class White:
    """Rows that remember nothing."""

    def covariance(self, count: int) -> Array:
        """The identity [T, T].

        Args:
            count: number T of rows.
        """
        return np.eye(count)


WHITE = White()
"""Rows that remember nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoregressive:
    """Rows that are a first-order autoregression: correlation rho^lag.

    Attributes:
        rho: correlation of neighbouring rows, in (-1, 1).
    """

    rho: float

    def __post_init__(self) -> None:
        _require(-1.0 < self.rho < 1.0, "autoregressive coefficient rho", "a number in (-1, 1)", self.rho)

    def covariance(self, count: int) -> Array:
        """rho^|i-j| [T, T].

        Args:
            count: number T of rows.
        """
        return self.rho ** _lags(count).astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Momentum:
    """Rows that sum the steps of an optimizer with momentum, m = beta m + g, under white gradient noise.

    With the autocovariance beta^|k| / (1 - beta^2) of m, a row has variance s / (1-beta)^2 - 2 beta (1-beta^s) /
    ((1-beta)^2 (1-beta^2)) and covariance beta (1-beta^s)^2 / ((1-beta)^2 (1-beta^2)) with the next.

    Attributes:
        beta: momentum coefficient, in [0, 1).
        interval: optimizer steps s that one row sums.
    """

    beta: float
    interval: int = 1

    def __post_init__(self) -> None:
        _require(0.0 <= self.beta < 1.0, "momentum coefficient beta", "a number in [0, 1)", self.beta)
        _require(self.interval >= 1, "optimizer steps per row", "at least 1", self.interval)

    def covariance(self, count: int) -> Array:
        """1 on the diagonal, then rho_1 beta^(s (lag-1)) [T, T].

        Args:
            count: number T of rows.
        """
        decayed = 1.0 - self.beta**self.interval
        variance = self.interval * (1.0 - self.beta**2) - 2.0 * self.beta * decayed
        neighbour = self.beta * decayed**2 / variance
        lags = _lags(count)
        later = neighbour * (self.beta**self.interval) ** np.maximum(lags - 1, 0).astype(np.float64)
        return np.where(lags == 0, 1.0, later)


@dataclass(frozen=True, slots=True)
class RandomWalk:
    """Rows that are a random walk themselves: the updates accumulate white increments of unit energy."""

    def covariance(self, count: int) -> Array:
        """min(i, j) [T, T], counted from one.

        Args:
            count: number T of rows.
        """
        return 1.0 + np.minimum.outer(np.arange(count), np.arange(count)).astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Displacement:
    """Rows that are displacements of parameters which fluctuate about a rest point (Ornstein and Uhlenbeck).

    A position that relaxes by the factor r between rows has displacements with correlation -(1-r) r^(lag-1) / 2:
    what moved out moves back.

    Attributes:
        relaxation: 1 - r, the share of the way back that one row covers, in (0, 1].
    """

    relaxation: float

    def __post_init__(self) -> None:
        _require(0.0 < self.relaxation <= 1.0, "relaxation per row", "a number in (0, 1]", self.relaxation)

    def covariance(self, count: int) -> Array:
        """1 on the diagonal, then -(1-r) r^(lag-1) / 2 [T, T].

        Args:
            count: number T of rows.
        """
        lags = _lags(count)
        kept = 1.0 - self.relaxation
        later = -0.5 * self.relaxation * kept ** np.maximum(lags - 1, 0).astype(np.float64)
        return np.where(lags == 0, 1.0, later)


Temporal = White | Autoregressive | Momentum | RandomWalk | Displacement
"""Any of the models."""


def factor(model: Temporal, count: int) -> Array:
    """Lower triangular B [T, T] with B B^T the covariance of rows: B times white rows has the model's memory.

    Args:
        model: how rows depend on one another.
        count: number T of rows.
    """
    return np.linalg.cholesky(model.covariance(count)).astype(np.float64)


def _lags(count: int) -> NDArray[np.int64]:
    index = np.arange(count)
    return np.abs(index[:, None] - index[None, :])


def _require(good: bool, subject: str, expected: str, found: float) -> None:
    if not good:
        raise InputError(subject, expected=expected, found=repr(found), remedy="choose another value")
