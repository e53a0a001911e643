"""Energy of a window along a mode of a quadratic against its curvature: exact, simulated and as published."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError
from spectral_edge.theory.quadratic import Quadratic, rows
from spectral_edge.theory.signal_flow import steady_energy_pub

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class QuadraticModel:
    """The published inverted hierarchy d ~ |G| / sqrt(h + omega), judged on settled descent with gradient noise.

    Attributes:
        curvature: curvatures h of the modes, at least two.
        every: steps s per observation, one curve for each.
        learning_rate: eta.
        noise: standard deviation of the gradient noise along every mode.
        weight_decay: decoupled weight decay omega.
        momentum: coefficient beta, 0 for plain descent.
        averaging: momentum as a moving average, as Adam keeps it, instead of a sum.
        window: rows W of the window.
        runs: independent runs in the ensemble.
        seed: of the random numbers.
    """

    curvature: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
    every: tuple[int, ...] = (1, 10, 100, 1000)
    learning_rate: float = 0.01
    noise: float = 1.0
    weight_decay: float = 0.0
    momentum: float = 0.0
    averaging: bool = False
    window: int = 10
    runs: int = 300
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.curvature) < 2 or len(set(self.curvature)) < len(self.curvature):
            raise InputError(
                "curvature",
                expected="at least two different values",
                found=str(self.curvature),
                remedy="a hierarchy needs modes to compare",
            )
        if not self.every or min(self.every) < 1:
            raise InputError(
                "every", expected="steps of at least 1", found=str(self.every), remedy="give for instance 1 100"
            )
        for name, least in (("learning_rate", 0.0), ("noise", 0.0), ("window", 0), ("runs", 1)):
            if getattr(self, name) <= least:
                raise InputError(name, expected=f"more than {least}", found=str(getattr(self, name)), remedy="raise it")

    def run(self) -> "QuadraticResult":
        """Simulates the ensemble and compares it with both formulas.

        Raises:
            InputError: if a mode does not settle at this learning rate.
        """
        curvature = np.array(self.curvature)
        model = Quadratic(
            curvature=curvature,
            noise=np.full(len(curvature), self.noise**2),
            decay=self.weight_decay,
            momentum=self.momentum,
            averaging=self.averaging,
        )
        generator = np.random.default_rng(self.seed)
        state = model.settled(self.runs, self.learning_rate, generator)
        # One path serves every interval s: its first W s steps are the window of that interval.
        finest = int(np.gcd.reduce(self.every))
        path = model.descend(
            state,
            steps=self.window * max(self.every),
            rate=self.learning_rate,
            every=finest,
            generator=generator,
        )
        windows = [rows(path[:, : self.window * s // finest + 1 : s // finest]) for s in self.every]
        energy = np.array([(window**2).sum(axis=1) for window in windows])
        exact = [self.window * np.diag(model.row_covariance(self.learning_rate, s)) for s in self.every]
        published = steady_energy_pub(
            rate=self.learning_rate,
            curvature=curvature,
            window=self.window,
            source=np.full(len(curvature), self.noise**2),
            decay=self.weight_decay,
        )
        error = energy.std(axis=1, ddof=1) / np.sqrt(self.runs)
        return _result(self, energy.mean(axis=1), error, np.array(exact), published)


@dataclass(frozen=True)
class QuadraticResult:
    """What the simulation found; energies are E d^2 along fixed axes, in squared parameter units.

    Attributes:
        settings: what was simulated.
        curvature: h [m].
        relaxation: kappa s = eta (h + omega) s of each interval and mode [S, m].
        energy: simulated mean energy of a window [S, m].
        standard_error: of that mean [S, m].
        exact: the exact expectation [S, m].
        published: the published fixed point, the same at every interval [m].
        slope: of ln d on ln h by least squares, for each interval [S].
        slope_pub: the same of the published form.
        worst: largest distance of simulation and exact value, in standard errors.
        published_over_exact: their ratio in d^2 [S, m].
        sentences: the findings in words.
    """

    settings: QuadraticModel
    curvature: Array
    relaxation: Array
    energy: Array
    standard_error: Array
    exact: Array
    published: Array
    slope: Array
    slope_pub: float
    worst: float
    published_over_exact: Array
    sentences: tuple[str, ...]


def _result(settings: QuadraticModel, energy: Array, error: Array, exact: Array, published: Array) -> QuadraticResult:
    curvature = np.array(settings.curvature)
    every = np.array(settings.every, dtype=np.float64)
    relaxation = settings.learning_rate * (curvature + settings.weight_decay) * every[:, None]
    slope = np.array([_slope(curvature, np.sqrt(row)) for row in exact])
    slope_pub = _slope(curvature, np.sqrt(published))
    ratio = published / exact
    worst = float(np.abs((energy - exact) / error).max())
    low, high = int(np.argmin(every)), int(np.argmax(every))
    sentences = (
        f"Simulated and exact energies differ by at most {worst:.1f} standard errors over {exact.size} cases.",
        f"Over h = {curvature.min():g} to {curvature.max():g} the slope of ln d on ln h is {slope[low]:+.3f} at s = "
        f"{settings.every[low]} and {slope[high]:+.3f} at s = {settings.every[high]}; published: {slope_pub:+.3f}.",
        f"The published d² is {np.nanmin(ratio[low]):.2g} to {np.nanmax(ratio[low]):.2g} times the true one at s = "
        f"{settings.every[low]}, {np.nanmin(ratio[high]):.2g} to {np.nanmax(ratio[high]):.2g} times at s = "
        f"{settings.every[high]}.",
    )
    return QuadraticResult(
        settings, curvature, relaxation, energy, error, exact, published, slope, slope_pub, worst, ratio, sentences
    )


def _slope(curvature: Array, d: Array) -> float:
    good = (curvature > 0) & (d > 0)
    if good.sum() < 2:
        return float("nan")
    return float(np.polyfit(np.log(curvature[good]), np.log(d[good]), 1)[0])
