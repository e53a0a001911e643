"""A planted direction in noise: when a window of updates shows it, and when its direction can be read.

Named after Baik, Ben Arous and Peche, whose transition separates the two sides. Windows are drawn as Gram matrices, so
a hundred million parameters cost no more than a thousand.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError
from spectral_edge.theory.detection import (
    d_crit_pub,
    detection_ratio_limit,
    detection_ratio_pub,
    detection_threshold,
    direction_threshold,
    left_overlap,
    phase_diagram,
    right_overlap,
    sample_sigma,
)
from spectral_edge.theory.signals import Modes
from spectral_edge.theory.streams import Stream, direction_overlaps

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bbp:
    """Sweep of a planted strength through both thresholds.

    Attributes:
        parameters: number P of parameters.
        window: rows W in a window.
        noise: standard deviation nu of each parameter's noise in a row.
        exponent: a of the noise covariance's eigenvalues k^-a; 0 is isotropic noise.
        overlap: squared cosine from which a direction counts as recovered.
        low: smallest planted strength, over the detection threshold.
        high: largest planted strength, over that at which the direction is recovered.
        points: strengths in the sweep.
        draws: windows drawn at each strength.
        seed: of the random numbers.
    """

    parameters: int = 1_000_000
    window: int = 10
    noise: float = 1.0
    exponent: float = 0.0
    overlap: float = 0.5
    low: float = 0.25
    high: float = 8.0
    points: int = 33
    draws: int = 400
    seed: int = 0

    def __post_init__(self) -> None:
        bounds = (
            ("parameters", 3 <= self.window < self.parameters, "more than the rows, of which there are at least 3"),
            ("noise", 0 < self.noise < math.inf, "a positive number"),
            ("exponent", 0 <= self.exponent < math.inf, "a number >= 0"),
            ("overlap", 0 < self.overlap < 1, "a number between 0 and 1"),
            ("low", self.low > 0 and self.high > 0, "positive ends of the sweep, low and high"),
            ("points", self.points >= 2, "at least 2"),
            ("draws", self.draws >= 2, "at least 2"),
        )
        for name, good, expected in bounds:
            if not good:
                raise InputError(
                    f"{name} of the sweep", expected=expected, found=repr(getattr(self, name)), remedy="change it"
                )

    def run(self) -> "BbpResult":
        """Draws the windows and compares them with the formulas."""
        return _run(self)


@dataclass(frozen=True, slots=True)
class BbpResult:
    """What the sweep showed; arrays over strengths have the length `points`.

    Attributes:
        settings: of the sweep.
        noise_energy: E = nu^2 P, expected squared norm of a noise row.
        chance: squared cosine of a time course without signal, 1 / W.
        effective_dimension: of the noise.
        detection: strength from which the window shows the direction.
        direction: strength from which the wanted squared cosine of the direction is reached.
        thresholds_over_noise: the same two, over sqrt(E).
        signal: planted strengths d.
        signal_over_noise: d over the norm sqrt(E) of a noise row.
        sigma: mean largest singular value, over the same.
        sigma_theory: its formula.
        gap_ratio: mean sigma_1 / sigma_2.
        left: mean squared cosine of planted and found time course.
        left_error: two standard errors of it.
        left_theory: its formula.
        right: mean squared cosine of planted and found parameter direction.
        right_error: two standard errors of it.
        right_theory: its formula.
        curve: a finer sweep of strengths, for the formulas alone.
        curve_left: formula of the time course on it.
        curve_right: formula of the parameter direction on it.
        d_crit_pub: mean published critical strength.
        ratio_pub: mean published ratio sigma_W / d_crit.
        ratio_limit: the most that the published ratio can be.
        dimensions: of the phase diagram, its columns.
        strengths: d over sqrt(E), its rows.
        phase: 0 undetectable, 1 detected with its direction lost, 2 direction recovered [strengths, dimensions].
        detection_line: detection threshold over sqrt(E) at each dimension.
        direction_line: direction threshold over sqrt(E) at each dimension.
        sentences: the findings.
    """

    settings: Bbp
    noise_energy: float
    chance: float
    effective_dimension: float
    detection: float
    direction: float
    thresholds_over_noise: tuple[float, float]
    signal: Array
    signal_over_noise: Array
    sigma: Array
    sigma_theory: Array
    gap_ratio: Array
    left: Array
    left_error: Array
    left_theory: Array
    right: Array
    right_error: Array
    right_theory: Array
    curve: Array
    curve_left: Array
    curve_right: Array
    d_crit_pub: Array
    ratio_pub: Array
    ratio_limit: float
    dimensions: Array
    strengths: Array
    phase: NDArray[np.int64]
    detection_line: Array
    direction_line: Array
    sentences: tuple[str, ...]


def _run(settings: Bbp) -> BbpResult:
    rng = np.random.default_rng(settings.seed)
    energy = settings.noise**2 * settings.parameters
    noise = Stream(parameters=settings.parameters, noise_energy=energy, exponent=settings.exponent)
    dimension = noise.effective_dimension
    detection = float(detection_threshold(width=settings.window, dimension=dimension, noise_energy=energy))
    direction = float(
        direction_threshold(overlap=settings.overlap, width=settings.window, dimension=dimension, noise_energy=energy)
    )
    signal = np.geomspace(settings.low * detection, settings.high * direction, settings.points)
    seen = [_windows(settings, energy, float(strength), rng) for strength in signal]
    mean = {name: np.array([float(window[name].mean()) for window in seen]) for name in seen[0]}
    error = {name: np.array([2 * _error(window[name]) for window in seen]) for name in ("left", "right")}
    left = left_overlap(signal, width=settings.window, dimension=dimension, noise_energy=energy)
    right = right_overlap(signal, width=settings.window, dimension=dimension, noise_energy=energy)
    curve = np.geomspace(signal[0], signal[-1], 400)
    limit = float(detection_ratio_limit(parameters=settings.parameters, width=settings.window))
    dimensions, strengths = np.geomspace(1e1, 1e9, 81), np.geomspace(3e-3, 10.0, 91)
    diagram = phase_diagram(
        strengths[:, None], width=settings.window, dimension=dimensions, noise_energy=1.0, overlap=settings.overlap
    )
    return BbpResult(
        settings=settings,
        noise_energy=energy,
        chance=1 / settings.window,
        effective_dimension=dimension,
        detection=detection,
        direction=direction,
        thresholds_over_noise=(detection / energy**0.5, direction / energy**0.5),
        signal=signal,
        signal_over_noise=signal / np.sqrt(energy),
        sigma=mean["sigma"] / np.sqrt(energy),
        sigma_theory=sample_sigma(signal, width=settings.window, dimension=dimension, noise_energy=energy)
        / np.sqrt(energy),
        gap_ratio=mean["gap_ratio"],
        left=mean["left"],
        left_error=error["left"],
        left_theory=left,
        right=mean["right"],
        right_error=error["right"],
        right_theory=right,
        curve=curve,
        curve_left=left_overlap(curve, width=settings.window, dimension=dimension, noise_energy=energy),
        curve_right=right_overlap(curve, width=settings.window, dimension=dimension, noise_energy=energy),
        d_crit_pub=mean["d_crit_pub"],
        ratio_pub=mean["ratio_pub"],
        ratio_limit=limit,
        dimensions=dimensions,
        strengths=strengths,
        phase=diagram.phase,
        detection_line=detection_threshold(width=settings.window, dimension=dimensions, noise_energy=1.0),
        direction_line=direction_threshold(
            overlap=settings.overlap, width=settings.window, dimension=dimensions, noise_energy=1.0
        ),
        sentences=_sentences(settings, detection, signal / detection, direction / detection, mean, left, right, limit),
    )


def _windows(settings: Bbp, energy: float, strength: float, rng: np.random.Generator) -> dict[str, Array]:
    """What windows with one planted strength show, each [n]."""
    stream = Stream(
        parameters=settings.parameters,
        noise_energy=energy,
        exponent=settings.exponent,
        signals=(Modes(sigma=(strength,), window=settings.window),),
    )
    drawn = stream.grams(settings.window, settings.draws, rng)
    eigenvalues, left = np.linalg.eigh(drawn.gram)
    sigma = np.sqrt(np.maximum(eigenvalues[:, ::-1], 0.0))
    course = drawn.coordinates[:, :, 0] / strength
    return {
        "sigma": sigma[:, 0],
        "gap_ratio": sigma[:, 0] / sigma[:, 1],
        "left": (left[:, :, -1] * course).sum(axis=1) ** 2,
        "right": direction_overlaps(drawn.gram, drawn.projections)[:, 0, 0],
        "d_crit_pub": d_crit_pub(sigma, parameters=settings.parameters),
        "ratio_pub": detection_ratio_pub(sigma, parameters=settings.parameters),
    }


def _error(values: Array) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def _sentences(
    settings: Bbp,
    threshold: float,
    over: Array,
    apart: float,
    mean: dict[str, Array],
    left: Array,
    right: Array,
    limit: float,
) -> tuple[str, ...]:
    found = [
        f"A planted direction shows from d = {threshold:.4g} on, the detection threshold; {settings.overlap:.0%} of it "
        f"can be read at {apart:.3g} times that strength.",
    ]
    ratio = mean["ratio_pub"][np.isfinite(mean["ratio_pub"])]
    found.append(
        f"Whatever is planted, the published ratio sigma_W / d_crit stays between {ratio.min():.4g} and "
        f"{ratio.max():.4g}; it cannot exceed {limit:.4g} and says nothing about the signal."
        if len(ratio)
        else "The published ratio sigma_W / d_crit is undefined: the smaller half of the singular values is zero."
    )
    between = np.flatnonzero((over >= 2.0) & (over <= apart))
    if len(between):
        place = int(between[0])
        found.append(
            f"At {over[place]:.3g} times the detection threshold the time course is read with squared cosine "
            f"{mean['left'][place]:.3f} (formula {left[place]:.3f}), the direction with {mean['right'][place]:.3f} "
            f"({right[place]:.3f})."
        )
    clear = over >= 1.5
    if clear.any():
        worst = [float(np.abs(mean[name] - theory)[clear].max()) for name, theory in (("left", left), ("right", right))]
        found.append(
            f"From 1.5 times the threshold on, the formulas are off by at most {worst[0]:.3f} for the time course "
            f"and {worst[1]:.3f} for the direction."
        )
    return tuple(found)
