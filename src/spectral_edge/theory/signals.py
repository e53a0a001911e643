"""Planted structure for update streams: paths of known coordinates along unit directions of their own.

A signal with K directions has coordinates [T, K]; the stream turns them into rows by K orthonormal directions in
parameter space. So the singular values of the planted part of any window are those of a [W, K] matrix, exactly.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError
from spectral_edge.theory.temporal import WHITE, Temporal, factor

Array = NDArray[np.float64]


class Signal(Protocol):
    """What a stream asks of a signal."""

    @property
    def directions(self) -> int:
        """Number K of orthonormal directions that it moves in."""
        ...

    @property
    def times(self) -> tuple[int, ...]:
        """Rows, counted from zero, at which its structure changes; empty where it never does."""
        ...

    def coordinates(self, count: int, generator: np.random.Generator) -> Array:
        """Coordinates of T rows along its directions [T, K].

        Args:
            count: number T of rows.
            generator: source of randomness.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """The same update in every row.

    Attributes:
        energy: squared norm of the drift in each row.
    """

    energy: float

    def __post_init__(self) -> None:
        _not_negative("energy of a drift", self.energy)

    @property
    def directions(self) -> int:
        """One."""
        return 1

    @property
    def times(self) -> tuple[int, ...]:
        """None."""
        return ()

    def coordinates(self, count: int, generator: np.random.Generator) -> Array:
        """sqrt(energy) throughout [T, 1].

        Args:
            count: number T of rows.
            generator: not used.
        """
        return np.full((count, 1), math.sqrt(self.energy))


@dataclass(frozen=True, slots=True, kw_only=True)
class Modes:
    """Modes that have exactly these singular values in every window of `window` rows.

    The time courses are the columns of a random orthonormal [W, K] matrix, repeated with period W, so that each window
    holds the same matrix with its rows turned around.

    Attributes:
        sigma: planted singular values.
        window: number W of rows.
    """

    sigma: tuple[float, ...]
    window: int

    def __post_init__(self) -> None:
        for value in self.sigma:
            _not_negative("planted singular value", value)
        if not 1 <= len(self.sigma) <= self.window:
            raise InputError(
                "planted modes",
                expected=f"one to {self.window} singular values, as the window has {self.window} rows",
                found=str(len(self.sigma)),
                remedy="plant fewer modes or use a longer window",
            )

    @property
    def directions(self) -> int:
        """One for each singular value."""
        return len(self.sigma)

    @property
    def times(self) -> tuple[int, ...]:
        """None."""
        return ()

    def coordinates(self, count: int, generator: np.random.Generator) -> Array:
        """Repeated orthonormal time courses times sigma [T, K].

        Args:
            count: number T of rows.
            generator: draws the time courses.
        """
        return _courses(self.window, self.directions, count, generator) * np.asarray(self.sigma)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """A direction that turns by a fixed angle in a plane from row to row.

    Attributes:
        energy: squared norm in each row.
        angle: phi, in radians a row.
    """

    energy: float
    angle: float

    def __post_init__(self) -> None:
        _not_negative("energy of a rotating direction", self.energy)

    @property
    def directions(self) -> int:
        """Two."""
        return 2

    @property
    def times(self) -> tuple[int, ...]:
        """None."""
        return ()

    def coordinates(self, count: int, generator: np.random.Generator) -> Array:
        """sqrt(energy) (cos phi t, sin phi t) [T, 2].

        Args:
            count: number T of rows.
            generator: not used.
        """
        turned = self.angle * np.arange(count)
        return math.sqrt(self.energy) * np.stack([np.cos(turned), np.sin(turned)], axis=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Oscillation:
    """A direction in which updates go to and fro without getting anywhere.

    Attributes:
        energy: squared norm of a row, averaged over a period.
        period: rows per period, at least 2; 2 changes sign in every row.
    """

    energy: float
    period: int = 2

    def __post_init__(self) -> None:
        _not_negative("energy of an oscillation", self.energy)
        if self.period < 2:
            raise InputError(
                "period of an oscillation",
                expected="at least 2 rows",
                found=repr(self.period),
                remedy="use a drift for what does not oscillate",
            )

    @property
    def directions(self) -> int:
        """One."""
        return 1

    @property
    def times(self) -> tuple[int, ...]:
        """None."""
        return ()

    def coordinates(self, count: int, generator: np.random.Generator) -> Array:
        """A cosine with mean square `energy` over a period [T, 1].

        Args:
            count: number T of rows.
            generator: not used.
        """
        wave = np.cos(2.0 * np.pi * np.arange(count) / self.period)[:, None]
        mean_square = 1.0 if self.period == 2 else 0.5
        return math.sqrt(self.energy / mean_square) * wave


@dataclass(frozen=True, slots=True, kw_only=True)
class CovarianceSpike:
    """A fixed direction in which updates jitter about zero: energy without progress.

    Attributes:
        energy: expected squared norm in a row.
        memory: how the jitter depends on its past.
    """

    energy: float
    memory: Temporal = WHITE

    def __post_init__(self) -> None:
        _not_negative("energy of a covariance spike", self.energy)

    @property
    def directions(self) -> int:
        """One."""
        return 1

    @property
    def times(self) -> tuple[int, ...]:
        """None."""
        return ()

    def coordinates(self, count: int, generator: np.random.Generator) -> Array:
        """Gaussian, of mean zero [T, 1].

        Args:
            count: number T of rows.
            generator: draws the jitter.
        """
        return math.sqrt(self.energy) * factor(self.memory, count) @ generator.standard_normal((count, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A gap that opens, stays and collapses at known rows.

    Two modes share the window; the second keeps the singular value `low`, the first rises from it to `high` and
    comes back. A window that lies in one stretch of constant strength has exactly these singular values; in between
    the strength is linear in time.

    Attributes:
        low: singular value of both modes where the gap is closed.
        high: singular value of the first mode where the gap is open.
        opens: row at which the first mode starts to rise.
        risen: row at which it has arrived.
        collapses: row at which it starts to fall.
        closed: row at which it is back.
        window: number W of rows, at least 2.
    """

    low: float
    high: float
    opens: int
    risen: int
    collapses: int
    closed: int
    window: int

    def __post_init__(self) -> None:
        if not 0.0 <= self.low <= self.high:
            raise InputError(
                "singular values of a transition",
                expected="0 <= low <= high",
                found=f"low {self.low}, high {self.high}",
                remedy="exchange them, or plant modes of constant strength",
            )
        if not (0 <= self.opens < self.risen <= self.collapses < self.closed and self.window >= 2):
            raise InputError(
                "times of a transition",
                expected="0 <= opens < risen <= collapses < closed, and a window of at least 2 rows",
                found=f"{self.times}, window {self.window}",
                remedy="give the rows in order",
            )

    @property
    def directions(self) -> int:
        """Two."""
        return 2

    @property
    def times(self) -> tuple[int, ...]:
        """Rows at which the first mode starts to rise, has risen, starts to fall, has fallen."""
        return self.opens, self.risen, self.collapses, self.closed

    def strength(self, count: int) -> Array:
        """Strength of the first mode at each row, in the unit of a singular value [T].

        Args:
            count: number T of rows.
        """
        levels = (self.low, self.high, self.high, self.low)
        return np.interp(np.arange(count), self.times, levels).astype(np.float64)

    def coordinates(self, count: int, generator: np.random.Generator) -> Array:
        """Repeated orthonormal time courses times the strengths [T, 2].

        Args:
            count: number T of rows.
            generator: draws the time courses.
        """
        strengths = np.stack([self.strength(count), np.full(count, self.low)], axis=1)
        return _courses(self.window, 2, count, generator) * strengths


def _courses(window: int, modes: int, count: int, generator: np.random.Generator) -> Array:
    """Columns of a Haar-distributed orthonormal matrix, repeated with its period [T, K]."""
    basis, triangle = np.linalg.qr(generator.standard_normal((window, modes)))
    # QR is unique only up to signs, which would else depend on LAPACK.
    basis = basis * np.where(np.diagonal(triangle) < 0, -1.0, 1.0)
    return basis[np.arange(count) % window]


def _not_negative(subject: str, value: float) -> None:
    if not (value >= 0.0 and math.isfinite(value)):
        raise InputError(subject, expected="a finite number >= 0", found=repr(value), remedy="choose another value")
