"""Singular values of a noise matrix as a diffusion: paths that repel, the drift, the spacings, and a rolling window."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError
from spectral_edge.theory.dyson import Dyson as Diffusion
from spectral_edge.theory.dyson import integrate, sigma_drift
from spectral_edge.theory.laguerre import expected_symmetric, transition_sample
from spectral_edge.theory.residual import matched_diffusion, past_neighbours
from spectral_edge.theory.spacings import LEAST_WINDOWS, BetaEstimate, estimate_beta, spacing_density

Array = NDArray[np.float64]

_BINS = 24
_WIDEST = 3.0
_BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class DysonResult:
    """What the simulation found.

    Attributes:
        settings: that gave it.
        time: of the path [T + 1].
        path: one path of the singular values [T + 1, W].
        closest: smallest distance of two neighbouring levels in its second half.
        growth_error: relative error of the integrator's mean of |X|_F^2 at the end, over the exact one.
        growth_standard_error: of the same.
        state: singular values at which the drift is measured [W].
        drift_predicted: (R1) there [W].
        drift_measured: mean rate over short exact moves of the matrix [W]; NaN for beta other than 1 and 2.
        drift_error: its standard error [W].
        drift_deviation: largest difference of the two, in standard errors.
        spacing: middle of each bin, in units of the mean spacing of that pair of levels.
        density: measured density of spacings.
        surmise: Wigner's surmise at the given beta.
        estimate: beta from the spacings.
        lag: observations.
        window_memory: autocorrelation of |X|_F^2 in a rolling window of i.i.d. rows, at each lag.
        diffusion_memory: the same in the diffusion matched to that window.
        window_past: share of observations in which a level of the window passes a neighbour's old place.
        diffusion_past: the same in the diffusion.
        sentences: the findings in words.
    """

    settings: "Dyson"
    time: Array
    path: Array
    closest: float
    growth_error: float
    growth_standard_error: float
    state: Array
    drift_predicted: Array
    drift_measured: Array
    drift_error: Array
    drift_deviation: float
    spacing: Array
    density: Array
    surmise: Array
    estimate: BetaEstimate
    lag: Array
    window_memory: Array
    diffusion_memory: Array
    window_past: float
    diffusion_past: float
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dyson:
    """Dyson's diffusion of singular values.

    Attributes:
        window: number W of rows, so of singular values.
        parameters: number P of columns, more than W.
        beta: 1 for real entries, 2 for complex; any value from 1 moves the paths.
        duration: time that passes from the zero matrix.
        steps: number of steps of the integrator.
        paths: independent paths, at the end of which spacings are read.
        draws: exact short moves of the matrix that measure the drift.
        observations: length of the rolling window's stream.
        seed: of the random numbers.
    """

    window: int = 8
    parameters: int = 40
    beta: float = 1.0
    duration: float = 1.0
    steps: int = 200
    paths: int = 1000
    draws: int = 40_000
    observations: int = 6000
    seed: int = 0

    def __post_init__(self) -> None:
        counts = {
            "window": (self.window, 3),
            "steps": (self.steps, 2),
            "paths": (self.paths, 20),
            "draws": (self.draws, 100),
            "observations": (self.observations, 20 * self.window),
        }
        for name, (value, least) in counts.items():
            if value < least:
                raise InputError(name, expected=f"at least {least}", found=f"{value}", remedy=f"raise {name}")
        if not self.duration > 0:
            raise InputError(
                "duration", expected="a positive time", found=f"{self.duration}", remedy="give a longer duration"
            )
        if self.parameters <= self.window:
            raise InputError(
                "parameters",
                expected=f"more than the {self.window} rows",
                found=f"{self.parameters}",
                remedy="raise parameters",
            )
        self.law.wall_strength(self.window)

    @property
    def law(self) -> Diffusion:
        """The diffusion that the settings name."""
        return Diffusion(parameters=self.parameters, beta=self.beta)

    def run(self) -> DysonResult:
        """Simulates paths, drift, spacings and a rolling window."""
        rng = np.random.default_rng(self.seed)
        step = self.duration / self.steps
        noise = np.sqrt(step) * rng.standard_normal((self.steps, self.paths, self.window))
        paths = integrate(np.zeros((self.paths, self.window)), noise, step, self.law)
        end = paths[-1]
        energy = (end**2).sum(axis=-1)
        exact = float(expected_symmetric(np.zeros(self.window), self.duration, self.law)[1])
        state: Array = end.mean(axis=0)
        predicted = sigma_drift(state, self.law)
        measured, error = self._drift(state, rng)
        settled = paths[self.steps // 2 :, 0]
        spacing = (end[:, :-1] - end[:, 1:]) / (end[:, :-1] - end[:, 1:]).mean(axis=0)
        count, edges = np.histogram(spacing, bins=_BINS, range=(0, _WIDEST))
        middle: Array = (edges[1:] + edges[:-1]) / 2
        memories, past = self._window(rng)
        result = DysonResult(
            settings=self,
            time=np.linspace(0, self.duration, self.steps + 1),
            path=paths[:, 0],
            closest=float((settled[:, :-1] - settled[:, 1:]).min()),
            growth_error=float(energy.mean() / exact - 1),
            growth_standard_error=float(energy.std() / np.sqrt(self.paths) / exact),
            state=state,
            drift_predicted=predicted,
            drift_measured=measured,
            drift_error=error,
            drift_deviation=float(np.max(np.abs(measured - predicted) / error)),
            spacing=middle,
            density=count / (spacing.size * _WIDEST / _BINS),
            surmise=spacing_density(middle, self.beta),
            estimate=estimate_beta(end),
            lag=np.arange(2 * self.window + 1, dtype=np.float64),
            window_memory=memories[0],
            diffusion_memory=memories[1],
            window_past=past[0],
            diffusion_past=past[1],
            sentences=(),
        )
        return replace(result, sentences=_sentences(result))

    def _drift(self, state: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        """Mean rate of short exact moves of the matrix, with standard errors."""
        if self.beta not in (1, 2):
            return np.full(self.window, np.nan), np.full(self.window, np.nan)
        # Short against the time in which the closest pair drifts by its own distance.
        time = 0.01 * float(np.min(np.append(state[:-1] - state[1:], state[-1:]))) ** 2
        moves: Array = np.concatenate(
            [
                transition_sample(state[None], time, self.law, draws=min(_BATCH, self.draws - first), generator=rng)[0]
                for first in range(0, self.draws, _BATCH)
            ]
        )
        return (moves.mean(axis=0) - state) / time, moves.std(axis=0) / np.sqrt(self.draws) / time

    def _window(self, rng: np.random.Generator) -> tuple[tuple[Array, Array], tuple[float, float]]:
        """Memory of the energy, and how often levels pass a neighbour's old place: window, then diffusion."""
        width, count = self.window, self.observations
        rows = rng.standard_normal((count + width, self.parameters))
        place = np.arange(count + 1)[:, None] + np.arange(width)
        blocks = np.array_split(place, 1 + count // _BATCH)
        levels = [np.linalg.svd(rows[block], compute_uv=False) for block in blocks]
        window: Array = np.concatenate(levels).astype(np.float64)
        law, scale = matched_diffusion(width, self.parameters)
        following: Array = np.concatenate(
            [
                transition_sample(block, 1.0, law, draws=1, generator=rng)[:, 0]
                for block in np.array_split(scale * window[:-1], 1 + count // _BATCH)
            ]
        )
        lags = np.arange(2 * width + 1)
        past = float(past_neighbours(window[:-1], window[1:]).mean())
        passed = float(past_neighbours(scale * window[:-1], following).mean())
        # The energy of the damped matrix has the autocorrelation exp(-2 kappa m) exactly.
        memory = _autocorrelation((window**2).sum(axis=-1), 2 * width)
        return (memory, np.exp(-2 * law.damping * lags)), (past, passed)


def _sentences(found: DysonResult) -> tuple[str, ...]:
    settings, estimate, width = found.settings, found.estimate, found.settings.window
    ordered = bool((np.diff(found.path[1:], axis=-1) < 0).all())
    drift = (
        f"The drift of the matrix is the predicted one within {found.drift_deviation:.1f} standard errors at each of"
        f" {width} levels ({settings.draws:,} moves)."
        if np.isfinite(found.drift_deviation)
        else f"No matrix is known at beta = {settings.beta:g}, so the drift has nothing to be compared with."
    )
    return (
        f"Over {settings.steps} steps the {width} singular values {'kept' if ordered else 'lost'} their order;"
        f" in the second half the closest two came to {found.closest:.2g}.",
        f"The integrator's mean of |X|^2 is off by {found.growth_error:+.2%} (standard error"
        f" {found.growth_standard_error:.2%}).",
        drift,
        f"The spacings say beta = {estimate.beta:.2f} ({estimate.low:.2f} to {estimate.high:.2f}) against"
        f" {settings.beta:g}, from {estimate.windows:,} independent matrices"
        + ("." if estimate.sufficient else f", fewer than the {LEAST_WINDOWS:,} that two digits need."),
        f"A rolling window of i.i.d. rows is not this diffusion: in {found.window_past:.0%} of observations a level"
        f" passes a neighbour's old place, against {found.diffusion_past:.0%}, and {width + 1} observations later"
        f" its energy correlates at {found.window_memory[width + 1]:.2f}, against"
        f" {found.diffusion_memory[width + 1]:.2f}.",
    )


def _autocorrelation(series: Array, longest: int) -> Array:
    """Autocorrelation at lags 0 to `longest`."""
    centred = series - series.mean()
    products = [float(centred[: len(centred) - m] @ centred[m:]) / (len(centred) - m) for m in range(longest + 1)]
    return np.array(products) / products[0]
