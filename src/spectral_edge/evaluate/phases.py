"""Rise, plateau and fall of a ratio: a broken line with two knots against a straight one, AR(1) errors in both.

The rule of theory section 11, BIC over AR(1) by ten, fires on 0 to 10 % of planted courses, as overlapping windows make
AR(1) unbeatable. So here windows do not overlap, both models have AR(1) errors, and the likelihood ratio is compared
with its own distribution under the straight line (amendment 4).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectral_edge.errors import InputError
from spectral_edge.evaluate.ar1 import ar1_draws, checked_series, lag1, matched_memory, polynomial, removed

Array = NDArray[np.float64]

PIECE = 3
"""Intervals between observations that each piece has at least."""

KNOTS = 40
"""Candidates for a knot; with more observations only so many, evenly spaced, are tried."""

MEMORIES = (-0.4, -0.2, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Correlations of neighbouring errors at which the likelihoods are compared."""


@dataclass(frozen=True, slots=True)
class Phases:
    """A broken line through ln R. Intervals are 95 %, from series drawn from the fitted broken line.

    Attributes:
        observations: windows that do not overlap.
        knots: steps at which the slope changes.
        knot_intervals: of each knot.
        slopes: of the three pieces, in ln R for each optimizer step.
        slope_intervals: of each slope.
        memory: fitted correlation of neighbouring errors about the broken line.
        memory_straight: the same about the straight one, with which the null is drawn, corrected for the fit.
        statistic: twice the difference of the logarithms of the likelihoods.
        p: share of series drawn under the straight line whose statistic is at least as large, this one among them.
    """

    observations: int
    knots: tuple[int, int]
    knot_intervals: tuple[tuple[float, float], tuple[float, float]]
    slopes: tuple[float, float, float]
    slope_intervals: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    memory: float
    memory_straight: float
    statistic: float
    p: float

    @property
    def rise_plateau_fall(self) -> bool:
        """Whether the first piece rises, the last falls, and the middle one is flatter than both."""
        first, middle, last = self.slopes
        return first > 0 > last and abs(middle) < min(first, -last)

    def accepted(self, level: float = 0.05) -> bool:
        """Whether the course is rise, plateau and fall, and the broken line is needed at this level."""
        return self.rise_plateau_fall and self.p <= level


def phases(
    ratio: ArrayLike,
    steps: ArrayLike,
    *,
    stride: int,
    null: Literal["straight", "constant"] = "straight",
    draws: int = 199,
    seed: int = 42,
) -> Phases | None:
    """Fits a continuous line with two knots to ln R, over all knots, and tests it against one without.

    Measured at 5 % on 30 windows with the straight line as null: a line with errors of memory 0, .5 and .8 is rejected
    in .05, .04 and .05 of 300 draws, and accepted as rise, plateau and fall in under .01. Rise, plateau and fall by 3,
    5, 8 and 12 standard deviations of the errors is accepted in .57, .71, .87 and 1.00 of 100 draws with memory 0, and
    in .11, .27, .73 and .97 with memory .5. Intervals hold the truth in .89 to .98 (knots) and .70 to .96 (slopes): the
    memory of the errors is underestimated, so those of the slopes are too narrow.

    Args:
        ratio: R or any positive quantity, at equally spaced windows [N].
        steps: of the windows [N].
        stride: of so many windows one is kept, counted from the last; W for windows one update apart, 1 for windows
            that do not overlap already.
        null: the line without knots has a slope or none.
        draws: series drawn under each model.
        seed: of the draws.

    Returns:
        The broken line; None with fewer than 12 windows kept, a value that is not positive, or without any variation.

    Raises:
        InputError: for a stride below 1, or series that are not finite, not aligned or not equally spaced.
    """
    if stride < 1:
        raise InputError("stride", expected="at least 1", found=str(stride), remedy="pass the window W")
    at = checked_series("steps", steps)[::-1][::stride][::-1]
    values = checked_series("ratio", ratio, len(np.asarray(steps)))[::-1][::stride][::-1]
    if len(at) < 4 * PIECE or (values <= 0).any():
        return None
    gaps = np.diff(at)
    if gaps.min() <= 0 or gaps.max() > 1.5 * gaps.min():
        raise InputError(
            "steps",
            expected="equally spaced and ascending",
            found=f"intervals from {gaps.min():g} to {gaps.max():g}",
            remedy="give a stretch without holes",
        )
    series = np.log(values)
    order = 1 if null == "straight" else 0
    line = polynomial(np.arange(len(at)), order)
    rest = removed(series, line)
    if np.linalg.norm(rest) <= 1e-10 * max(float(np.linalg.norm(series)), 1e-300):
        return None
    rng = np.random.default_rng(seed)
    memory = matched_memory(float(lag1(rest)), line)
    drawn = np.vstack([rest, ar1_draws(memory, len(at), draws, rng)])
    broken = _fit(drawn)
    ratios = 2 * (broken.likelihood - _straight(drawn, order))
    again = _fit(_redrawn(broken, series, draws, rng))
    spacing = float(gaps.mean())
    places = _design(len(at)).knots
    knots = places[broken.pair[0]]
    coefficients = _coefficients(series[None], broken.memory[:1], broken.pair[:1])
    slopes = np.cumsum(coefficients[0, 1:]) / spacing
    slopes_again = np.cumsum(_coefficients(again.values, again.memory, again.pair)[:, 1:], axis=1) / spacing
    knot_limits = np.quantile(at[places[again.pair]], [0.025, 0.975], axis=0).T
    slope_limits = np.quantile(slopes_again, [0.025, 0.975], axis=0).T
    return Phases(
        observations=len(at),
        knots=(round(float(at[knots[0]])), round(float(at[knots[1]]))),
        knot_intervals=(_pair(knot_limits[0]), _pair(knot_limits[1])),
        slopes=(float(slopes[0]), float(slopes[1]), float(slopes[2])),
        slope_intervals=(_pair(slope_limits[0]), _pair(slope_limits[1]), _pair(slope_limits[2])),
        memory=MEMORIES[broken.memory[0]],
        memory_straight=memory,
        statistic=float(ratios[0]),
        p=float((ratios >= ratios[0] - 1e-9).mean()),
    )


@dataclass(frozen=True, slots=True)
class _Design:
    """Knots [pairs, 2], columns [pairs, n, 4], and by memory an orthonormal base of them whitened [pairs, n, 4]."""

    knots: NDArray[np.int64]
    columns: Array
    bases: tuple[Array, ...]


@dataclass(frozen=True, slots=True)
class _Fit:
    """The best broken line of each series: the series [m, n], likelihood [m], places of memory and pair [m]."""

    values: Array
    likelihood: Array
    memory: NDArray[np.int64]
    pair: NDArray[np.int64]


def _whitened(values: Array, memory: float) -> Array:
    """AR(1) errors along the last axis made independent and of equal variance."""
    out = values.copy()
    out[..., 1:] -= memory * values[..., :-1]
    out[..., 0] *= np.sqrt(1 - memory**2)
    return out


@lru_cache(maxsize=2)
def _design(length: int) -> _Design:
    inside = np.arange(PIECE, length - PIECE)
    if len(inside) > KNOTS:
        inside = inside[np.round(np.linspace(0, len(inside) - 1, KNOTS)).astype(np.int64)]
    first, second = np.meshgrid(inside, inside, indexing="ij")
    knots = np.stack([first, second], axis=-1)[second - first >= PIECE]
    at = np.arange(length, dtype=np.float64)
    ones = np.broadcast_to(np.ones(length), (len(knots), length))
    after = np.maximum(at - knots[:, :, None], 0.0)
    columns = np.stack([ones, np.broadcast_to(at, ones.shape), after[:, 0], after[:, 1]], axis=1)
    bases = tuple(np.linalg.qr(_whitened(columns, memory).swapaxes(1, 2))[0] for memory in MEMORIES)
    return _Design(knots, columns.swapaxes(1, 2), bases)


def _likelihood(square: Array, length: int, memory: float) -> Array:
    """Logarithm of the Gaussian likelihood at the best variance, without its constant."""
    return 0.5 * np.log(1 - memory**2) - 0.5 * length * np.log(np.maximum(square, 1e-300))


def _fit(values: Array) -> _Fit:
    """The best broken line of each series [m, n], over memories and pairs of knots."""
    count, length = values.shape
    best = np.full(count, -np.inf)
    memories, pairs = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    for place, (memory, base) in enumerate(zip(MEMORIES, _design(length).bases, strict=True)):
        white = _whitened(values, memory)
        along = base.swapaxes(1, 2).reshape(-1, length) @ white.T
        explained = (along.reshape(len(base), 4, count) ** 2).sum(axis=1)
        pair = explained.argmax(axis=0)
        square = (white**2).sum(axis=1) - explained[pair, np.arange(count)]
        found = _likelihood(square, length, memory)
        better = found > best
        best, memories, pairs = (
            np.where(better, found, best),
            np.where(better, place, memories),
            np.where(better, pair, pairs),
        )
    return _Fit(values, best, memories, pairs)


def _straight(values: Array, order: int) -> Array:
    """Largest logarithm of the likelihood of a line without knots, for each series [m]."""
    columns = np.vander(np.arange(values.shape[1], dtype=np.float64), order + 1, increasing=True)
    found: list[Array] = []
    for memory in MEMORIES:
        base = np.linalg.qr(_whitened(columns.T, memory).T)[0]
        square = (removed(_whitened(values, memory), base) ** 2).sum(axis=1)
        found.append(_likelihood(square, values.shape[1], memory))
    return np.max(found, axis=0)


def _coefficients(values: Array, memories: NDArray[np.int64], pairs: NDArray[np.int64]) -> Array:
    """Generalized least squares at chosen memories and knots, one for each series [m, 4]."""
    columns = _design(values.shape[1]).columns
    found: list[Array] = []
    for row, place, pair in zip(values, memories, pairs, strict=True):
        memory = MEMORIES[int(place)]
        white = _whitened(columns[pair].T, memory).T
        found.append(np.asarray(np.linalg.lstsq(white, _whitened(row, memory), rcond=None)[0], dtype=np.float64))
    return np.stack(found)


def _redrawn(fit: _Fit, series: Array, draws: int, rng: np.random.Generator) -> Array:
    """Series drawn from the broken line that was fitted to the first of the series [draws, n]."""
    memory = MEMORIES[fit.memory[0]]
    course = _design(len(series)).columns[fit.pair[0]] @ _coefficients(series[None], fit.memory[:1], fit.pair[:1])[0]
    square = float((_whitened(series - course, memory) ** 2).sum())
    spread = np.sqrt(square / max(len(series) - 4, 1) / (1 - memory**2))
    return course + spread * ar1_draws(memory, len(series), draws, rng)


def _pair(limits: Array) -> tuple[float, float]:
    return float(limits[0]), float(limits[1])
