"""Update streams with planted truth: what a measurement of updates should find is known beforehand.

A `Stream` adds orthonormal planted signals to Gaussian noise with a chosen covariance over parameters, a chosen
memory over rows, and a chosen scale of each row. It gives rows of updates, or, for any number of parameters, the
Gram matrices of windows of rows without the rows.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from spectral_edge.errors import InputError
from spectral_edge.theory.signals import Signal
from spectral_edge.theory.temporal import WHITE, Temporal, White, factor
from spectral_edge.theory.wishart import power_sum, wishart

Array = NDArray[np.float64]

HEAD = 256
"""Eigenvalues of an uneven covariance that Gram matrices draw one by one; the others as one Wishart matrix."""
_CHUNK = 256
"""Gram matrices drawn at a time, which bounds the memory."""


@dataclass(frozen=True, slots=True)
class Planted:
    """Rows of updates and what was planted in them.

    Attributes:
        rows: updates [T, P].
        directions: orthonormal planted directions [K, P], in the order of the stream's signals.
        coordinates: coordinates of the planted part [T, K], scaled as the rows are: rows = coordinates directions
            + noise.
        times: rows at which planted structure changes.
    """

    rows: Array
    directions: Array
    coordinates: Array
    times: tuple[int, ...]

    def sigma(self, *, first: int, width: int) -> Array:
        """Singular values of the planted part of one window, largest first [min(W, K)].

        Args:
            first: its first row, counted from zero.
            width: number W of rows.
        """
        return np.linalg.svd(self.coordinates[first : first + width], compute_uv=False).astype(np.float64)


@dataclass(frozen=True, slots=True)
class PlantedGrams:
    """Gram matrices of windows and what was planted in them.

    Attributes:
        gram: [n, T, T].
        projections: inner products of rows and planted directions, noise included [n, T, K].
        coordinates: coordinates of the planted part [n, T, K].
    """

    gram: Array
    projections: Array
    coordinates: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Specification of an update stream; everything random comes from the generator that is given later.

    Attributes:
        parameters: number P of parameters.
        noise_energy: E, expected squared norm of a noise row.
        exponent: a of the noise covariance's eigenvalues k^-a, k = 1..P; 0 is isotropic noise.
        covariance: relative eigenvalues of the noise covariance instead of a power law; missing ones are zero.
        rotated: whether rows show the covariance in a mixed basis rather than parameter by parameter. Only rows can
            tell: Gram matrices do not depend on the basis.
        memory: how noise rows depend on one another.
        norm_spread: standard deviation of the logarithm of each row's scale (lognormal norms); its mean square is one.
        norm_factor: what the scale is multiplied by from row to row.
        signals: planted structure; all directions are drawn uniformly and orthonormal to one another.
    """

    parameters: int
    noise_energy: float = 1.0
    exponent: float = 0.0
    covariance: tuple[float, ...] | None = None
    rotated: bool = False
    memory: Temporal = WHITE
    norm_spread: float = 0.0
    norm_factor: float = 1.0
    signals: tuple[Signal, ...] = ()

    def __post_init__(self) -> None:
        planted = sum(signal.directions for signal in self.signals)
        _require(self.parameters >= max(planted, 1), "parameters", f"at least {max(planted, 1)}", self.parameters)
        for name in ("noise_energy", "exponent", "norm_spread"):
            value = getattr(self, name)
            _require(value >= 0 and math.isfinite(value), name, "a finite number >= 0", value)
        _require(self.norm_factor > 0, "norm_factor", "a positive number", self.norm_factor)
        if self.covariance is not None:
            fits = 0 < len(self.covariance) <= self.parameters
            valid = fits and min(self.covariance) >= 0 and sum(self.covariance) > 0
            _require(valid, "covariance", "one to P eigenvalues >= 0, not all zero", self.covariance)

    @property
    def directions(self) -> int:
        """Number K of planted directions."""
        return sum(signal.directions for signal in self.signals)

    @property
    def times(self) -> tuple[int, ...]:
        """Rows at which planted structure changes, in order."""
        return tuple(sorted({time for signal in self.signals for time in signal.times}))

    @property
    def effective_dimension(self) -> float:
        """(tr S)^2 / tr S^2 of the noise covariance."""
        if self.covariance is not None:
            given = np.asarray(self.covariance, dtype=np.float64)
            return float(given.sum() ** 2 / (given**2).sum())
        return power_sum(self.exponent, 1, self.parameters) ** 2 / power_sum(2 * self.exponent, 1, self.parameters)

    def rows(self, count: int, generator: np.random.Generator) -> Array:
        """Rows of updates [T, P].

        Args:
            count: number T of rows.
            generator: source of randomness.
        """
        return self.planted(count, generator).rows

    def planted(self, count: int, generator: np.random.Generator) -> Planted:
        """Rows of updates with their planted truth.

        Args:
            count: number T of rows.
            generator: source of randomness.
        """
        noise = generator.standard_normal((count, self.parameters)) * np.sqrt(self._eigenvalues(self.parameters))
        if self.rotated:
            for _ in range(2):
                signs = generator.choice(np.array([-1.0, 1.0]), size=self.parameters)
                noise = np.asarray(fft.dct(noise * signs, axis=1, norm="ortho"), dtype=np.float64)
        if not isinstance(self.memory, White):
            noise = factor(self.memory, count) @ noise
        coordinates = self._coordinates(count, 1, generator)[0]
        frame = np.linalg.qr(generator.standard_normal((self.parameters, self.directions)))[0].T
        scale = self._scale(count, 1, generator)[0][:, None]
        coordinates = scale * coordinates
        return Planted(scale * noise + coordinates @ frame, frame, coordinates, self.times)

    def grams(self, count: int, draws: int, generator: np.random.Generator) -> PlantedGrams:
        """Gram matrices of the first T rows of independent streams, without the rows.

        Exact for isotropic noise and for at most 256 eigenvalues. Beyond that the smaller eigenvalues enter as
        one Wishart matrix with their first two moments.

        Args:
            count: number T of rows.
            draws: number n of streams.
            generator: source of randomness.
        """
        parts = [self._grams(count, min(_CHUNK, draws - done), generator) for done in range(0, draws, _CHUNK)]
        return PlantedGrams(
            np.concatenate([part.gram for part in parts]),
            np.concatenate([part.projections for part in parts]),
            np.concatenate([part.coordinates for part in parts]),
        )

    def _grams(self, count: int, draws: int, generator: np.random.Generator) -> PlantedGrams:
        planted, head = self.directions, self._head(count)
        tail = self.parameters - head
        deviation = np.sqrt(self._eigenvalues(head))
        if tail:
            # Of a tail direction only its mean variance is known: one coordinate for each planted direction's share.
            mean = self._moment(1, head) / tail
            deviation = np.append(deviation, np.full(planted, math.sqrt(mean)))
            rest = self._moment(1, head) - planted * mean, self._moment(2, head) - planted * mean**2
        else:
            rest = 0.0, 0.0
        frame = self._frame(head, tail, draws, generator)
        lower = factor(self.memory, count)
        noise = lower @ (generator.standard_normal((draws, count, len(deviation))) * deviation)
        coordinates = self._coordinates(count, draws, generator)
        known = noise + coordinates @ frame.transpose(0, 2, 1)
        gram = known @ known.transpose(0, 2, 1)
        if rest[1] > 0:
            freedom = rest[0] ** 2 / rest[1]
            gram += rest[0] / freedom * (lower @ wishart(count, freedom, draws, generator) @ lower.T)
        scale = self._scale(count, draws, generator)[:, :, None]
        return PlantedGrams(scale * gram * scale.transpose(0, 2, 1), scale * (known @ frame), scale * coordinates)

    def _head(self, count: int) -> int:
        """How many eigenvalues are drawn one by one; with few parameters all of them."""
        wanted = 0 if self.exponent == 0 and self.covariance is None else HEAD
        enough = wanted + self.directions + count
        return self.parameters if self.parameters <= enough else wanted

    def _frame(self, head: int, tail: int, draws: int, generator: np.random.Generator) -> Array:
        """Planted directions in the coordinates that are drawn one by one [n, h + K, K], uniformly distributed."""
        planted = self.directions
        blocks = generator.standard_normal((draws, head, planted))
        if tail:
            share = np.linalg.cholesky(wishart(planted, tail, draws, generator)) if planted else np.zeros((draws, 0, 0))
            blocks = np.concatenate([blocks, share.transpose(0, 2, 1)], axis=1)
        return np.linalg.qr(blocks)[0]

    def _coordinates(self, count: int, draws: int, generator: np.random.Generator) -> Array:
        drawn = np.zeros((draws, count, self.directions))
        place = 0
        for signal in self.signals:
            inside = slice(place, place + signal.directions)
            for draw in range(draws):
                drawn[draw, :, inside] = signal.coordinates(count, generator)
            place += signal.directions
        return drawn

    def _scale(self, count: int, draws: int, generator: np.random.Generator) -> Array:
        trend = np.tile(self.norm_factor ** np.arange(count, dtype=np.float64), (draws, 1))
        if self.norm_spread == 0:
            return trend
        spread = self.norm_spread
        return trend * np.exp(spread * generator.standard_normal((draws, count)) - spread**2)

    def _eigenvalues(self, count: int) -> Array:
        """The leading eigenvalues of the noise covariance."""
        if self.covariance is None:
            shape = np.arange(1, count + 1, dtype=np.float64) ** -self.exponent
            return shape * (self.noise_energy / power_sum(self.exponent, 1, self.parameters))
        given = np.sort(np.asarray(self.covariance, dtype=np.float64))[::-1]
        padded = np.append(given, np.zeros(max(count - len(given), 0)))[:count]
        return padded * (self.noise_energy / given.sum())

    def _moment(self, power: int, skip: int) -> float:
        """Sum of a power of the eigenvalues beyond the first `skip`."""
        if self.covariance is not None:
            return float((self._eigenvalues(len(self.covariance))[skip:] ** power).sum())
        scale = self.noise_energy / power_sum(self.exponent, 1, self.parameters)
        return scale**power * power_sum(power * self.exponent, skip + 1, self.parameters)


def direction_overlaps(gram: Array, projections: Array) -> Array:
    """Squared cosines of right singular and planted directions, [n, W, W], [n, W, K] -> [n, W, K].

    <v_j, p> = u_j^T (X p) / sigma_j, so no parameter-sized vector is needed. Rows of the result follow the singular
    values, largest first; NaN where one is zero.

    Args:
        gram: X X^T of each window.
        projections: X p, inner products of rows and planted directions.
    """
    eigenvalues, left = np.linalg.eigh(gram)
    eigenvalues, left = eigenvalues[:, ::-1], left[:, :, ::-1]
    product = (left.transpose(0, 2, 1) @ projections) ** 2
    squares = np.broadcast_to(eigenvalues[:, :, None], product.shape)
    return np.divide(product, squares, out=np.full_like(product, np.nan), where=squares > 0)


def _require(good: bool, name: str, expected: str, found: object) -> None:
    if not good:
        raise InputError(f"{name} of a stream", expected=expected, found=repr(found), remedy="change the specification")
