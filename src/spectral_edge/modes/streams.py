"""Streams of updates with planted dynamics: two states, a lag, or neither, driven by the same learning-rate cycle.

An update is eta (sqrt(E q) m + xi), with m a fixed unit direction, xi noise of unit energy that the optimizer's memory
may colour, and q the persistence of the drift. What differs is how q follows the control x, 0 at the lowest rate and 1
at the highest: in the minimal loop of arXiv 2603.28964 as this library reads it, the drift persists because it shows
in the gap; in its open-loop twins the gap is a consequence only.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from spectral_edge.errors import InputError

Array = NDArray[np.float64]

DYNAMICS: dict[str, str] = {
    "loop": "dq/dt = r (alpha - q): the gap that the drift opens keeps the drift up; two states in a range of drives",
    "lag": "dq/dt = r (q*(x) - q): persistence follows the control, late; one state",
    "none": "q = q*(x): persistence follows the control at once",
}
"""How the persistence of a planted drift can follow the control, in words."""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """A planted drift and how it follows the control.

    Attributes:
        dynamics: one of `DYNAMICS`.
        weak: drive E at the lowest learning rate: energy of the drift at q = 1 over that of the noise.
        strong: drive at the highest.
        rate: r, relaxation rate for each observation; the relaxation time is 1 / r.
        floor: persistence without any gap, so that the loop can open again after it closed.
        noise: c of alpha = g^2 / (g^2 + 2 c), with g = E W q.
        window: W in g = E W q.
    """

    dynamics: str = "loop"
    weak: float = 0.1
    strong: float = 3.0
    rate: float = 0.1
    floor: float = 0.005
    noise: float = 1.0
    window: int = 10

    def __post_init__(self) -> None:
        if self.dynamics not in DYNAMICS:
            raise _unusable("dynamics", " | ".join(DYNAMICS), repr(self.dynamics))
        if not 0 < self.weak <= self.strong:
            raise _unusable("weak and strong", "0 < weak <= strong", f"{self.weak!r} and {self.strong!r}")
        if not 0 < self.rate < 1 or not 0 <= self.floor < 1 or not self.noise > 0:
            raise _unusable("rate, floor, noise", "rates and floors below 1, noise above 0", repr(self))

    def drive(self, position: Array) -> Array:
        """E at each position of the control, straight in its logarithm."""
        return self.weak * (self.strong / self.weak) ** position

    def target(self, drive: Array | float, persistence: Array | float) -> Array:
        """What the gap alone would make of the persistence: floor + (1 - floor) alpha."""
        square = (np.asarray(drive) * self.window * persistence) ** 2
        return self.floor + (1 - self.floor) * square / (square + 2 * self.noise)

    def states(self, drive: float, points: int = 20_001) -> Array:
        """Persistences at which the loop rests under a constant drive, ascending: one or three (two at a fold)."""
        q = np.linspace(0.0, 1.0, points)
        excess = self.target(drive, q) - q
        return q[np.flatnonzero(excess[:-1] * excess[1:] <= 0)]

    def persistence(self, position: Array) -> Array:
        """The course of q along a course of the control [T].

        The twins follow the mean of the loop's outer states, so that they sweep the same range.
        """
        drive = self.drive(position)
        if self.dynamics == "loop":
            q, course = float(self.states(float(drive[0]))[0]), np.empty(len(drive))
            for t, e in enumerate(drive):
                course[t] = q
                q += self.rate * (float(self.target(e, q)) - q)
            return course
        places = np.linspace(0, 1, 201)
        outer = np.array([self.states(float(e))[[0, -1]].mean() for e in self.drive(places)])
        goal = np.interp(position, places, outer)
        if self.dynamics == "none":
            return goal
        start = [(1 - self.rate) * goal[0]]
        return np.asarray(lfilter([self.rate], [1, self.rate - 1], goal, zi=start)[0])


def stream(
    energy: Array,
    persistent: Array,
    rng: np.random.Generator,
    *,
    horizon: int,
    dimension: int = 400,
    memory: float = 0.0,
) -> Array:
    """Lag rows [T, horizon] of updates with a drift along one direction and isotropic noise, both of given energy.

    Args:
        energy: of the noise, for each update [T].
        persistent: of the drift, for each update [T].
        rng: gives the random numbers.
        horizon: number of lags.
        dimension: of the noise: its effective dimension.
        memory: correlation of the noise at lag 1, from momentum; it falls as a power of the lag.

    Raises:
        InputError: if an energy is negative, or the horizon exceeds the stream.
    """
    total = len(energy)
    if (energy < 0).any() or (persistent < 0).any():
        raise _unusable("energies", "none below zero", "a negative one")
    if not 1 <= horizon <= total or not 0 <= memory < 1:
        raise _unusable("horizon and memory", f"1 to {total} and 0 to 1", f"{horizon!r} and {memory!r}")
    noise = rng.standard_normal((total, dimension))
    if memory:
        scale = np.sqrt(1 - memory**2)
        # Started in its steady state.
        noise[1:] *= scale
        noise = np.asarray(lfilter([1.0], [1.0, -memory], noise, axis=0))
    updates = noise * np.sqrt(energy / dimension)[:, None]
    # An exogenous direction is any direction: the first axis.
    updates[:, 0] += np.sqrt(persistent)
    rows = np.full((total, horizon), np.nan)
    for lag in range(horizon):
        rows[lag:, lag] = np.einsum("td,td->t", updates[lag:], updates[: total - lag])
    return rows


def planted(
    position: Array, rates: Array, drift: Drift, rng: np.random.Generator, *, horizon: int, dimension: int = 400
) -> Array:
    """Lag rows [T, horizon] of a planted drift under a course of the learning rate.

    Args:
        position: of the control for each update [T], 0 to 1.
        rates: learning rate of each update [T].
        drift: how persistence follows.
        rng: gives the random numbers.
        horizon: number of lags.
        dimension: effective dimension of the noise.
    """
    square = rates**2
    drive = drift.drive(position) * drift.persistence(position)
    return stream(square, square * drive, rng, horizon=horizon, dimension=dimension)


@dataclass(frozen=True, slots=True)
class Twin:
    """The open-loop twin of a watched stream: energies as functions of the control alone.

    Attributes:
        position: of the control [bins], ascending.
        energy: of the noise there [bins].
        persistent: of the drift there: what the updates have in common one window or more apart.
        dimension: effective dimension of the noise.
        memory: of the noise at lag 1.
    """

    position: Array
    energy: Array
    persistent: Array
    dimension: int
    memory: float

    def draw(self, position: Array, rng: np.random.Generator, *, horizon: int) -> Array:
        """Lag rows [T, horizon] of the twin under a course of the control [T]."""
        energy, persistent = (np.interp(position, self.position, each) for each in (self.energy, self.persistent))
        return stream(energy, persistent, rng, horizon=horizon, dimension=self.dimension, memory=self.memory)


def twin(lag_rows: Array, position: Array, *, window: int, bins: int = 12, memory: float = 0.0) -> Twin:
    """Matches an exogenous stream to a watched one, both branches pooled, so that it can have no loop of its own.

    Args:
        lag_rows: of the watched stream [T, L], L above the window.
        position: of the control for each update [T].
        window: lags from here on count as persistent.
        bins: of the control.
        memory: correlation of the noise at lag 1 that the optimizer's momentum makes.

    Raises:
        InputError: if the horizon does not reach beyond the window, or a bin is empty.
    """
    if lag_rows.shape[1] <= window:
        raise _unusable("horizon", f"more than the window of {window}", str(lag_rows.shape[1]))
    square = lag_rows[:, 0]
    older = np.stack(
        [np.concatenate([np.full(lag, np.nan), square[:-lag]]) for lag in range(window, lag_rows.shape[1])]
    )
    product = lag_rows[:, window:].T
    good = np.isfinite(product) & (older > 0)
    cosine = np.where(good, product / np.sqrt(np.where(good, older * square, 1.0)), 0.0)
    count = np.maximum(good.sum(axis=0), 1)
    mean = cosine.sum(axis=0) / count
    variance = np.where(good, (cosine - mean) ** 2, 0.0).sum() / max(int(good.sum()) - len(square), 1)
    known = good.any(axis=0) & np.isfinite(square)
    column = np.minimum((position * bins).astype(np.intp), bins - 1)
    places, total, share = [], [], []
    for index in range(bins):
        chosen = known & (column == index)
        if not chosen.any():
            raise _unusable("position", f"an update in each of {bins} bins", f"none in bin {index + 1}")
        places.append(position[chosen].mean())
        total.append(square[chosen].mean())
        share.append(np.clip(mean[chosen].mean(), 0.0, 1.0))
    energy, part = np.array(total), np.array(share)
    # The noise part of a cosine between noisy rows is (1 - share)^2 / dimension, to leading order.
    dimension = int(np.clip(np.mean((1 - part) ** 2) / max(float(variance), 1e-9), 10, 5000))
    return Twin(np.array(places), energy * (1 - part), energy * part, dimension, memory)


def _unusable(subject: str, expected: str, found: str) -> InputError:
    return InputError(subject, expected=expected, found=found, remedy="see spectral_edge.modes.streams")
