"""Two modes of a quadratic, driven together or in turn: what the window shows against what each flow predicts."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError
from spectral_edge.theory.gap_flow import strengths_pub
from spectral_edge.theory.matrix_flow import leaky_moment, moment_sigma, noise_moment, rolling_moment
from spectral_edge.theory.quadratic import rows, window_sigma
from spectral_edge.theory.signal_flow import leaky_energy, rolling_energy
from spectral_edge.theory.terms import (
    curvature_asymmetry,
    damping,
    driving,
    driving_consistent,
    driving_pub,
    gap_window_loss,
)

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Descent on a two-mode quadratic whose minimum jumps once, followed by every form of the flow.

    Attributes:
        curvature: curvatures h of the two modes.
        gradient: sizes of the gradients at the start along the two modes.
        jump: sizes of the gradients that the jump of the minimum adds.
        jump_step: step of the jump; 0 for none.
        drive: `together` for both modes at every step, `in_turn` for one mode per observation.
        learning_rate: eta.
        weight_decay: decoupled weight decay omega, which pulls to zero, the minimum of the start.
        noise: standard deviation of the gradient noise along each mode.
        window: rows W of the window.
        every: steps s per observation.
        steps: optimizer steps.
        memory: memory T of the leaky window in observations; 0 for W.
        seed: of the noise.
    """

    curvature: tuple[float, ...] = (1.0, 5.0)
    gradient: tuple[float, ...] = (1.0, 3.0)
    jump: tuple[float, ...] = (2.0, 0.5)
    jump_step: int = 700
    drive: Literal["together", "in_turn"] = "together"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    noise: float = 0.0
    window: int = 10
    every: int = 1
    steps: int = 1400
    memory: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("curvature", "gradient", "jump"):
            if len(getattr(self, name)) != 2:
                raise InputError(
                    name, expected="two numbers", found=str(getattr(self, name)), remedy="give one for each mode"
                )
        if min(self.curvature) + self.weight_decay <= 0 or min(self.curvature) == 0:
            raise InputError(
                "curvature",
                expected="non-zero values above -omega",
                found=f"{self.curvature} with omega {self.weight_decay}",
                remedy="the published flow has no state otherwise",
            )
        if self.every < 1 or self.window < 2 or self.steps // self.every < self.window + 2:
            raise InputError(
                "steps",
                expected="W >= 2, every >= 1 and at least W + 2 observations",
                found=f"W = {self.window}, every = {self.every}, steps = {self.steps}",
                remedy="run longer or observe more often",
            )
        if self.drive not in ("together", "in_turn"):
            raise InputError(
                "drive", expected="together or in_turn", found=str(self.drive), remedy="choose how the modes are driven"
            )
        for name in ("memory", "weight_decay", "noise", "jump_step"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(name, expected="a number >= 0", found=f"{getattr(self, name)}", remedy="0 for none")
        if not 0 < self.learning_rate < 2 / (max(self.curvature) + self.weight_decay):
            raise InputError(
                "learning_rate",
                expected=f"above 0 and below 2 / (h + omega) = {2 / (max(self.curvature) + self.weight_decay):g}",
                found=f"{self.learning_rate}",
                remedy="descent diverges otherwise",
            )
        if not (any(self.gradient) or (any(self.jump) and 0 < self.jump_step < self.steps) or self.noise):
            raise InputError(
                "gradient", expected="something that moves", found="zeros", remedy="give a gradient or noise"
            )

    def run(self) -> "FlowResult":
        """Simulates descent, decomposes every window, and follows it with every flow from the first full window.

        All flows are told the same: the curvatures, the gradients of the noise-free path, and the noise's variance.
        """
        h, first = np.array(self.curvature), self.window - 1
        true = self._path(np.random.default_rng(self.seed) if self.noise > 0 else None)
        mean = self._path(None)
        updates, predicted, variance = rows(true.positions), rows(mean.positions), self._variance()
        moments = rolling_moment(predicted, window=self.window, variance=variance)
        # Strengths of what the published flows call modes: energies along the axes, the larger one first at the start.
        expected = np.diagonal(moments, axis1=-2, axis2=-1)
        order = np.argsort(-expected[0], kind="stable")
        start = expected[0, order]
        source = (mean.gradients**2 + self.noise**2 * mean.active)[:, order]
        times = (self.window + np.arange(len(moments))) * self.every
        published, consistent = (
            strengths_pub(
                np.sqrt(start),
                source[times[0] :],
                rate=self.learning_rate,
                window=self.window,
                curvature=h[order],
                decay=self.weight_decay,
                form=form,
            )[:: self.every]
            for form in ("published", "consistent")
        )
        memory = self.memory or float(self.window)
        later, more = predicted[self.window :], variance[self.window :]
        along = leaky_energy(start, np.sqrt(later**2 + more)[:, order], window=self.window, memory=memory)
        leaky = leaky_moment(moments[0], later, window=self.window, memory=memory, variance=more)
        strengths = {
            "true": window_sigma(updates, self.window),
            "axes_true": np.sqrt(rolling_energy(updates, window=self.window))[:, order],
            "published": published,
            "consistent": consistent,
            "axes": np.sqrt(np.concatenate([start[None], along])),
            "leaky": moment_sigma(np.concatenate([moments[:1], leaky])),
            "rolling": moment_sigma(moments),
        }
        terms = self._terms(strengths["axes_true"], h[order], updates[first:, order], source[times])
        return _result(self, times, strengths, terms)

    def _path(self, generator: np.random.Generator | None) -> "_Path":
        h, pair = np.array(self.curvature), np.arange(2)
        target = np.zeros((self.steps, 2))
        if self.jump_step:
            target[self.jump_step :] = -np.array(self.jump) / h
        position = np.array(self.gradient) / h
        positions, gradients, active = [position], np.zeros((self.steps + 1, 2)), np.ones((self.steps + 1, 2))
        for t in range(self.steps):
            gradient = h * (position - target[t])
            if generator is not None:
                gradient = gradient + self.noise * generator.standard_normal(2)
            if self.drive == "in_turn":
                active[t] = pair == (t // self.every) % 2
            gradients[t] = gradient * active[t]
            position = position - self.learning_rate * active[t] * (gradient + self.weight_decay * position)
            if (t + 1) % self.every == 0:
                positions.append(position)
        gradients[-1], active[-1] = gradients[-2], active[-2]
        return _Path(np.array(positions), gradients, active)

    def _variance(self) -> Array:
        """Energy that noise adds to each update [T, 2]; a mode that rests ages by its own steps only."""
        count = self.steps // self.every
        own = noise_moment(
            rate=self.learning_rate,
            curvature=np.array(self.curvature),
            every=self.every,
            count=count,
            noise=np.full(2, self.noise**2),
            decay=self.weight_decay,
        )
        if self.drive == "together":
            return own
        found = np.zeros_like(own)
        for mode in range(2):
            turns = len(found[mode::2])
            found[mode::2, mode] = own[:turns, mode]
        return found

    def _terms(self, d: Array, curvature: Array, updates: Array, source: Array) -> dict[str, Array]:
        rate, window, every, gap = self.learning_rate, self.window, self.every, d[:, 0] - d[:, 1]
        return {
            "curvature_asymmetry": every * curvature_asymmetry(d, rate=rate, curvature=curvature),
            "damping": every * damping(gap, rate=rate, curvature=curvature, decay=self.weight_decay),
            "driving_pub": every * driving_pub(d, rate=rate, window=window, source=source),
            "driving_consistent": every * driving_consistent(d, rate=rate, window=window, source=source),
            "driving": driving(d, row=updates),
            "window_loss": gap_window_loss(gap, window=window),
            "measured": np.gradient(gap),
        }


@dataclass(frozen=True)
class _Path:
    positions: Array
    gradients: Array
    active: Array


@dataclass(frozen=True)
class FlowResult:
    """True singular values of every window, those of each flow, and the terms; strengths in parameter units.

    The names are `true` for the window's singular values; `axes_true` for the roots of its energies along the modes'
    axes, the stronger mode of the start first; `published` and `consistent` for the gap flow as printed and with the
    driving term that Eq. 38 implies; `axes` for the corrected flow of energies along fixed axes; `leaky` and `rolling`
    for the matrix flows.

    Attributes:
        settings: what was simulated.
        steps: step of each window's last update [T].
        strengths: the two strengths, by name [T, 2].
        gap: difference of the larger and the smaller strength, by name [T].
        ratio: their ratio R, by name [T]; NaN where the smaller one is not resolved.
        terms: of the gap flows along the true energies, by name [T]; u per observation, driving_pub as printed.
        gap_error: root mean square error of g over that of the true g, by name.
        sigma_error: largest relative error of the leading singular value after two windows, by name; NaN without such.
        ratio_error: median of |ln(R / true R)|, by name.
        sentences: the findings in words.
    """

    settings: Flow
    steps: NDArray[np.intp]
    strengths: dict[str, Array]
    gap: dict[str, Array]
    ratio: dict[str, Array]
    terms: dict[str, Array]
    gap_error: dict[str, float]
    sigma_error: dict[str, float]
    ratio_error: dict[str, float]
    sentences: tuple[str, ...]


def _result(
    settings: Flow, steps: NDArray[np.intp], strengths: dict[str, Array], terms: dict[str, Array]
) -> FlowResult:
    # A gap has no sign once singular values are sorted, so the flows' strengths are sorted too.
    ranked = {name: np.sort(value, axis=-1)[:, ::-1] for name, value in strengths.items()}
    gap = {name: value[:, 0] - value[:, 1] for name, value in ranked.items()}
    ratio = {name: _ratio(value) for name, value in ranked.items()}
    size = float(np.sqrt(np.mean(gap["true"] ** 2)))
    gap_error = {name: float(np.sqrt(np.mean((value - gap["true"]) ** 2))) / size for name, value in gap.items()}
    late, top = slice(2 * settings.window, None), ranked["true"][:, 0]
    sigma_error = {
        name: float(np.abs(value[late, 0] / top[late] - 1).max()) if len(top[late]) else math.nan
        for name, value in ranked.items()
    }
    ratio_error = {name: _log_error(value, ratio["true"]) for name, value in ratio.items()}
    sentences = _sentences(gap_error, ratio)
    return FlowResult(settings, steps, strengths, gap, ratio, terms, gap_error, sigma_error, ratio_error, sentences)


def _sentences(gap_error: dict[str, float], ratio: dict[str, Array]) -> tuple[str, ...]:
    middle = {name: float(np.nanmedian(value)) for name, value in ratio.items()}
    return (
        f"Error of the gap relative to the true one: {gap_error['published']:.3g} as printed, "
        f"{gap_error['consistent']:.3g} with the prefactor of Eq. 38, {gap_error['axes']:.2g} for energies along axes, "
        f"{gap_error['leaky']:.2g} for the leaky matrix flow, {gap_error['rolling']:.1e} for the rolling one.",
        f"Median R: {middle['true']:.4g} in truth, {middle['published']:.4g} as printed, {middle['axes']:.4g} for "
        f"energies along axes, {middle['leaky']:.4g} for the leaky matrix flow, {middle['rolling']:.4g} for the "
        "rolling one.",
    )


def _ratio(ranked: Array) -> Array:
    found = np.full(len(ranked), np.nan)
    # Second moments hold no singular value below about 1e-8 of the largest.
    np.divide(ranked[:, 0], ranked[:, 1], out=found, where=ranked[:, 1] > 1e-7 * ranked[:, 0])
    return found


def _log_error(value: Array, true: Array) -> float:
    both = np.isfinite(value) & np.isfinite(true)
    return float(np.median(np.abs(np.log(value[both] / true[both])))) if both.any() else float("nan")
