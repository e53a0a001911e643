"""Runs in which nothing happens but what is planted: the lag rows of a recorded run, with other updates in their place.

The updates keep the norms of the run's own, group by group and step by step; directions are those of noise with a given
memory, by default in so many independent dimensions that the noise itself makes no gap. So a statistic that merely
follows the norms, the window or the optimizer's momentum shows the same on them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from spectral_edge.analysis import Trace
from spectral_edge.measure import NO_MEMORY, known_memory

Array = NDArray[np.float64]

DIMENSION = 1_000
"""Independent directions of the noise: of the order that published dispersions imply (theory section 2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What takes the place of the updates.

    Attributes:
        memory: correlation of neighbouring rows, as AR(1); None takes that of the run's optimizer.
        drift: energy of one fixed direction over that of the noise, in every row.
        turn: step from which a second fixed direction carries `turn_energy` of a row; None never does.
        turn_energy: energy of that direction over the rest of the row.
        dimension: independent directions of the noise; with few of them it makes gaps by itself.
    """

    memory: float | None = None
    drift: float = 0.0
    turn: int | None = None
    turn_energy: float = 0.0
    dimension: int = DIMENSION


MOST_MEMORY, MOST_DRIFT = 0.99, 0.95
"""Correlations above these are taken for these."""

OPTIMIZER_NOISE = Recipe()
"""Independent gradients through the run's optimizer: the class of controls called surrogates."""


def surrogate(trace: Trace, *, seed: int, recipe: Recipe = OPTIMIZER_NOISE) -> Trace:
    """A trace like a recorded one, whose updates are noise of the same norms.

    Args:
        trace: the recorded run.
        seed: of the draws.
        recipe: what else is in them.

    Returns:
        A trace with the steps, groups and metadata of the run; rows of a ladder follow from the same draws. It has no
        probes: what noise would have been multiplied with is not there.
    """
    steps = trace.steps
    chain = [_Rows(np.array(segment.rows), np.array(segment.ladder)) for segment in trace.segments]
    factor = np.linalg.cholesky(_correlations(trace, recipe)).astype(np.float64)
    draws = np.random.default_rng(seed)
    for entry in range(len(trace.segments[-1].entries)):
        norms = np.sqrt(np.concatenate([part.rows["lags"][:, entry, 0] for part in chain]))
        table = _summed(_updates(norms, steps, factor, recipe, draws))
        for part in chain:
            ends = np.searchsorted(steps, part.rows["step"])
            part.rows["lags"][:, entry] = _lag_rows(table, ends, part.rows["lags"][:, entry], stride=1)
            for stride in np.unique(part.ladder["stride"]).tolist():
                of = part.ladder["stride"] == stride
                ends = np.searchsorted(steps, part.ladder["step"][of])
                part.ladder["lags"][of, entry] = _lag_rows(table, ends, part.ladder["lags"][of, entry], stride=stride)
    made = zip(trace.segments, chain, strict=True)
    return Trace(
        [
            replace(
                segment,
                rows=part.rows,
                ladder=part.ladder,
                probes=segment.probes[:0],
                products=segment.products[:0],
            )
            for segment, part in made
        ]
    )


def remembering(rows: Array) -> Recipe:
    """AR(1) noise with the median cosine of neighbouring updates.

    Args:
        rows: lag rows of the run [T, L].
    """
    return Recipe(memory=float(np.clip(_cosine(rows, range(1, 2)), 0.0, MOST_MEMORY)))


def drifting(rows: Array) -> Recipe:
    """A fixed direction in independent noise, with the median cosine of updates at least half the horizon apart.

    Args:
        rows: lag rows of the run [T, L].
    """
    cosine = float(np.clip(_cosine(rows, range(rows.shape[1] // 2, rows.shape[1])), 0.0, MOST_DRIFT))
    return Recipe(memory=0.0, drift=cosine / (1.0 - cosine))


def few_directions(rows: Array, groups: Sequence[Array]) -> Recipe:
    """AR(1) noise with the median cosine of neighbouring updates, in as many directions as the run seems to have.

    Unit vectors drawn independently in D dimensions have cosines of variance 1 / D. So D is one over the median square
    of the cosines' distance from their median, over its expectation for a normal one of variance 1, between updates at
    least half the horizon apart; the median over the groups, of which each is drawn by itself.

    Args:
        rows: lag rows of the run [T, L].
        groups: lag rows of each group [T, L].
    """
    found: list[float] = []
    for each in groups:
        cosines = _cosines(each, range(each.shape[1] // 2, each.shape[1]))
        if len(cosines):
            found.append(float(np.median((cosines - np.median(cosines)) ** 2)) / float(chi2.median(1)))
    variance = float(np.median(found)) if found else 0.0
    dimension = int(np.clip(np.rint(1.0 / variance), 2, DIMENSION)) if variance > 0 else DIMENSION
    return replace(remembering(rows), dimension=dimension)


def _cosine(rows: Array, lags: range) -> float:
    """Median over the run of the cosine at these lags; 0 where no update is so far from another."""
    values = _cosines(rows, lags)
    return float(np.median(values)) if len(values) else 0.0


def _cosines(rows: Array, lags: range) -> Array:
    """Every known cosine at these lags."""
    norms = np.sqrt(rows[:, 0])
    found = [rows[lag:, lag] / (norms[lag:] * norms[: len(norms) - lag]) for lag in lags if lag < len(rows)]
    values = np.concatenate([np.empty(0), *found])
    return values[np.isfinite(values)]


@dataclass(frozen=True)
class _Rows:
    rows: NDArray[np.void]
    ladder: NDArray[np.void]


def _updates(
    norms: Array, steps: NDArray[np.int64], factor: Array, recipe: Recipe, draws: np.random.Generator
) -> Array:
    """Updates [T, recipe.dimension] of these norms."""
    noise = factor @ draws.standard_normal((len(norms), recipe.dimension)) / np.sqrt(recipe.dimension)
    fixed = draws.standard_normal((2, recipe.dimension))
    fixed /= np.linalg.norm(fixed, axis=1, keepdims=True)
    noise += np.sqrt(recipe.drift) * fixed[0]
    if recipe.turn is not None:
        noise[steps >= recipe.turn] += np.sqrt(recipe.turn_energy) * fixed[1]
    return noise * (norms / np.linalg.norm(noise, axis=1))[:, None]


def _summed(updates: Array) -> Array:
    """Products of sums of updates [T + 1, T + 1]: at [i, j] that of the first i with the first j."""
    table = np.zeros((len(updates) + 1, len(updates) + 1))
    table[1:, 1:] = (updates @ updates.T).cumsum(axis=0).cumsum(axis=1)
    return table


def _lag_rows(table: Array, ends: NDArray[np.intp], recorded: Array, *, stride: int) -> Array:
    """Products of sums of `stride` updates that end at `ends` with those before; undefined where the record's are."""
    rows = np.full_like(recorded, np.nan)
    for lag in range(recorded.shape[1]):
        known = ends + 1 - (lag + 1) * stride >= 0
        last = ends[known] + 1
        first, before, begin = last - stride, last - lag * stride, last - (lag + 1) * stride
        rows[known, lag] = table[last, before] - table[first, before] - table[last, begin] + table[first, begin]
    return np.where(np.isfinite(recorded), rows, np.nan)


def _correlations(trace: Trace, recipe: Recipe) -> Array:
    """Correlations of the noise's rows [T, T]."""
    size = len(trace.steps)
    if recipe.memory is not None:
        return recipe.memory ** np.abs(np.arange(size)[:, None] - np.arange(size)[None, :]).astype(np.float64)
    watched = trace.metadata.get("monitor", {})
    memory = known_memory(watched.get("momentum"), trace.steps, every=watched.get("every"))
    return (memory or NO_MEMORY).matrix(size)
