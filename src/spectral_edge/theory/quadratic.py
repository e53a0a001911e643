"""Ground truth for the flows: gradient descent on quadratics, simulated, with exact second moments of its updates.

A quadratic in the eigenbasis of its (preconditioned) Hessian is a set of independent modes, so that everything the
flow equations speak of (curvature, decay, gradient, noise) is known and the window's singular values are exact.
Singular values do not depend on the basis: what is found in m mode coordinates holds in any number of parameters.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_discrete_lyapunov

from spectral_edge.errors import InputError

Array = NDArray[np.float64]


class State(NamedTuple):
    """Where an ensemble stands.

    Attributes:
        position: mode coordinates [N, m], in parameter units u.
        buffer: the optimizer's momentum [N, m], in gradient units.
    """

    position: Array
    buffer: Array


@dataclass(frozen=True, kw_only=True)
class Quadratic:
    """Preconditioned gradient descent with momentum, decoupled weight decay and gradient noise on a quadratic.

    One step with gradient g = h (y - target) + drive + noise is

        b <- beta b + gamma g,    y <- (1 - eta omega) y - eta b,

    with gamma = 1 for the heavy ball and gamma = 1 - beta for a moving average as Adam keeps it. Under a fixed
    preconditioner D the coordinates are those of D^(1/2) theta, the curvatures the eigenvalues of D^(-1/2) H D^(-1/2).

    Attributes:
        curvature: h of each mode [m]; eta h is a pure number.
        noise: covariance of the gradient noise [m, m], or variances [m] of independent modes.
        decay: weight decay omega, in units of curvature.
        momentum: beta, 0 for plain descent.
        averaging: whether the buffer is a moving average rather than a sum.

    Raises:
        InputError: if shapes differ, momentum lies outside [0, 1) or decay is negative.
    """

    curvature: Array
    noise: Array
    decay: float = 0.0
    momentum: float = 0.0
    averaging: bool = False

    def __post_init__(self) -> None:
        modes = len(self.curvature)
        if self.noise.shape not in ((modes,), (modes, modes)):
            raise InputError(
                "noise",
                expected=f"variances [{modes}] or a covariance [{modes}, {modes}]",
                found=f"shape {self.noise.shape}",
                remedy="give one entry, or one row, for each curvature",
            )
        if not 0 <= self.momentum < 1:
            raise InputError(
                "momentum", expected="0 <= momentum < 1", found=str(self.momentum), remedy="0 means plain descent"
            )
        if self.decay < 0:
            raise InputError("decay", expected="decay >= 0", found=str(self.decay), remedy="0 means no weight decay")

    @property
    def gain(self) -> float:
        """Share gamma of a gradient that enters the buffer at once."""
        return 1.0 - self.momentum if self.averaging else 1.0

    @property
    def covariance(self) -> Array:
        """Covariance of the gradient noise [m, m]."""
        return np.diag(self.noise) if self.noise.ndim == 1 else self.noise

    def transition(self, rate: float) -> Array:
        """Matrix A of one step of the state (positions, buffers) [2m, 2m], without drive and noise."""
        curvature, unit = np.diag(self.curvature), np.eye(len(self.curvature))
        kept = unit - rate * self.decay * unit - rate * self.gain * curvature
        return np.block([[kept, -rate * self.momentum * unit], [self.gain * curvature, self.momentum * unit]])

    def stationary(self, rate: float) -> Array:
        """Covariance of (positions, buffers) once the start is forgotten [2m, 2m].

        Raises:
            InputError: if descent with this rate does not settle (a mode without restoring force, or too large a rate).
        """
        step = self.transition(rate)
        radius = float(np.abs(np.linalg.eigvals(step)).max())
        if radius >= 1 - 1e-12:
            raise InputError(
                "stationary state",
                expected="every mode to contract",
                found=f"a growth factor of {radius:.6g} per step",
                remedy="use positive curvature plus decay and a smaller learning rate",
            )
        into = np.concatenate(
            [-rate * self.gain * np.eye(len(self.curvature)), self.gain * np.eye(len(self.curvature))]
        )
        solved = solve_discrete_lyapunov(step, into @ self.covariance @ into.T)
        found = np.asarray(solved, dtype=np.float64)
        return (found + found.T) / 2

    def row_covariance(self, rate: float, every: int = 1) -> Array:
        """Covariance of the update over `every` steps in the stationary state [m, m], u squared.

        With S the stationary covariance, Cov(y(t+s) - y(t)) = 2 S - A^s S - (A^s S)^T, position block. W times its
        diagonal is the expected energy of a window along each mode (this library; plain descent in closed form:
        `spectral_edge.theory.signal_flow.expected_energy`).
        """
        modes = len(self.curvature)
        both = self.stationary(rate)
        later = (np.linalg.matrix_power(self.transition(rate), every) @ both)[:modes, :modes]
        return 2 * both[:modes, :modes] - later - later.T

    def settled(self, count: int, rate: float, generator: np.random.Generator) -> State:
        """Draws `count` states of the stationary ensemble."""
        modes = len(self.curvature)
        value, vector = np.linalg.eigh(self.stationary(rate))
        root = vector * np.sqrt(np.maximum(value, 0.0))
        drawn = generator.standard_normal((count, 2 * modes)) @ root.T
        return State(drawn[:, :modes], drawn[:, modes:])

    def start(self, position: Array) -> State:
        """A state at `position` [N, m] with an empty buffer."""
        return State(np.array(position, dtype=np.float64), np.zeros(position.shape))

    def descend(
        self,
        state: State,
        *,
        steps: int,
        rate: float | Array,
        every: int = 1,
        generator: np.random.Generator | None = None,
        target: Array | None = None,
        drive: Array | None = None,
    ) -> Array:
        """Positions after every `every` steps, the start included [N, steps // every + 1, m], in u.

        Args:
            state: where to start.
            steps: number of optimizer steps.
            rate: learning rate, or one for each step [steps].
            every: steps per observation.
            generator: of the noise; None for a run without noise.
            target: minimum of the quadratic, [m], [N, m] or for each step [steps, m]; zero if left out.
            drive: gradient from elsewhere for each step [steps, m]; none if left out.
        """
        rates = np.broadcast_to(np.asarray(rate, dtype=np.float64), (steps,))
        count, modes = state.position.shape
        position, buffer = state.position.copy(), state.buffer.copy()
        kept = np.empty((count, steps // every + 1, modes))
        kept[:, 0] = position
        moving = target is not None and target.ndim == 2 and len(target) == steps and count != steps
        root = None if generator is None or not self.noise.any() else _root(self.covariance)
        for t in range(steps):
            aim = 0.0 if target is None else target[t] if moving else target
            gradient = self.curvature * (position - aim)
            if drive is not None:
                gradient += drive[t]
            if root is not None and generator is not None:
                gradient += generator.standard_normal((count, modes)) @ root.T
            buffer = self.momentum * buffer + self.gain * gradient
            position = (1 - rates[t] * self.decay) * position - rates[t] * buffer
            if (t + 1) % every == 0:
                kept[:, (t + 1) // every] = position
        return kept


def rows(positions: Array) -> Array:
    """Updates between observations, [N, T + 1, m] -> [N, T, m]."""
    return np.diff(positions, axis=-2)


def window_sigma(updates: Array, window: int) -> Array:
    """Singular values of every full window of updates by dense decomposition, largest first.

    Args:
        updates: rows [..., T, m].
        window: W.

    Returns:
        [..., T - W + 1, min(W, m)], in the updates' unit.

    Raises:
        InputError: if there are fewer rows than W.
    """
    return np.asarray(np.linalg.svd(windows(updates, window), compute_uv=False), dtype=np.float64)


def windows(updates: Array, window: int) -> Array:
    """A read-only view of every full window [..., T - W + 1, W, m] of rows [..., T, m].

    Raises:
        InputError: if there are fewer rows than W.
    """
    if updates.shape[-2] < window:
        raise InputError(
            "updates",
            expected=f"at least {window} rows",
            found=f"{updates.shape[-2]}",
            remedy="run longer or use a shorter window",
        )
    view = np.lib.stride_tricks.sliding_window_view(updates, window, axis=-2)
    return np.moveaxis(view, -1, -2)


def _root(covariance: Array) -> Array:
    """A square root of a covariance, singular ones included."""
    value, vector = np.linalg.eigh(covariance)
    return vector * np.sqrt(np.maximum(value, 0.0))
