"""Deep linear networks: the simplest nets whose modes are learned one after another, with a closed form for two layers.

With whitened inputs the loss is |target - W_L ... W_1|^2 / 2. From small balanced weights aligned with the target each
singular value u of the product obeys du/dt = L u^(2 - 2/L) (s - u), a sigmoid: strong modes first. Every step moves
all layers, so the update's row space is known and the window's spectrum is exact.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from spectral_edge.errors import InputError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LinearPath:
    """A trajectory of a deep linear network.

    Attributes:
        steps: optimizer steps at the observations [T + 1].
        weights: all layers flattened and joined [T + 1, P], u.
        singular_values: of the product of the layers [T + 1, min(in, out)], largest first.
        loss: at the observations [T + 1].
    """

    steps: NDArray[np.intp]
    weights: Array
    singular_values: Array
    loss: Array

    @property
    def rows(self) -> Array:
        """Updates between observations [T, P], u."""
        return np.diff(self.weights, axis=0)


@dataclass(frozen=True, kw_only=True)
class LinearNetwork:
    """A linear network of equal hidden widths that learns a linear map from whitened inputs.

    Attributes:
        target: the map to learn [out, in].
        depth: number of layers L >= 2.
        width: of the hidden layers; min(in, out) if left out.

    Raises:
        InputError: if the depth is below 2 or the width below 1.
    """

    target: Array
    depth: int = 2
    width: int | None = None

    def __post_init__(self) -> None:
        if self.depth < 2 or (self.width is not None and self.width < 1):
            raise InputError(
                "linear network",
                expected="depth >= 2 and width >= 1",
                found=f"depth {self.depth}, width {self.width}",
                remedy="one layer is a quadratic: use spectral_edge.theory.quadratic",
            )

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Shape of each layer, first layer first."""
        outputs, inputs = self.target.shape
        hidden = min(self.target.shape) if self.width is None else self.width
        sizes = [inputs, *[hidden] * (self.depth - 1), outputs]
        return [(sizes[k + 1], sizes[k]) for k in range(self.depth)]

    def random_start(self, scale: float, generator: np.random.Generator) -> list[Array]:
        """Independent normal weights with this standard deviation."""
        return [scale * generator.standard_normal(shape) for shape in self.shapes]

    def aligned_start(self, strength: float | Array) -> list[Array]:
        """Balanced weights aligned with the target, whose product has these singular values (Saxe et al. 2014).

        Args:
            strength: u(0), one number or one for each mode [min(in, out)].

        Raises:
            InputError: if the hidden layers are too narrow to hold every mode of the target.
        """
        modes = min(self.target.shape)
        if self.shapes[0][0] < modes:
            raise InputError(
                "width",
                expected=f"at least {modes}",
                found=str(self.shapes[0][0]),
                remedy="widen the hidden layers or start from random weights",
            )
        left, _, right = np.linalg.svd(self.target, full_matrices=False)
        root = np.broadcast_to(np.asarray(strength, dtype=np.float64), (modes,)) ** (1 / self.depth)
        layers = [np.zeros(shape) for shape in self.shapes]
        for layer in layers[1:-1]:
            layer[np.arange(modes), np.arange(modes)] = root
        layers[0][:modes] = root[:, None] * right
        layers[-1][:, :modes] = left * root
        return layers

    def product(self, layers: list[Array]) -> Array:
        """The map that the network computes [out, in]."""
        found = layers[0]
        for layer in layers[1:]:
            found = layer @ found
        return found

    def gradients(self, layers: list[Array]) -> list[Array]:
        """Gradient of the loss in each layer."""
        before = [np.eye(self.target.shape[1])]
        for layer in layers[:-1]:
            before.append(layer @ before[-1])
        error = layers[-1] @ before[-1] - self.target
        found: list[Array] = []
        for layer, passed in zip(reversed(layers), reversed(before), strict=True):
            found.append(error @ passed.T)
            error = layer.T @ error
        return found[::-1]

    def descend(
        self,
        start: list[Array],
        *,
        rate: float,
        steps: int,
        every: int = 1,
        decay: float = 0.0,
        noise: float = 0.0,
        generator: np.random.Generator | None = None,
    ) -> LinearPath:
        """Gradient descent with decoupled weight decay and, with a generator, white gradient noise.

        Args:
            start: the layers.
            rate: learning rate.
            steps: number of steps.
            every: steps per observation.
            decay: omega.
            noise: standard deviation of the noise in every gradient entry.
            generator: of the noise.
        """
        layers = [layer.copy() for layer in start]
        kept = [self._joined(layers)]
        for step in range(1, steps + 1):
            for layer, gradient in zip(layers, self.gradients(layers), strict=True):
                if generator is not None and noise > 0:
                    gradient += noise * generator.standard_normal(gradient.shape)
                layer *= 1 - rate * decay
                layer -= rate * gradient
            if step % every == 0:
                kept.append(self._joined(layers))
        return self._path(np.arange(len(kept)) * every, np.array(kept))

    def flow(self, start: list[Array], times: Array, *, decay: float = 0.0) -> LinearPath:
        """Gradient flow at the given times, the limit of small learning rates; `steps` numbers the times.

        Args:
            start: the layers at the first time.
            times: increasing [T + 1], in learning rate times steps.
            decay: omega.
        """

        def right(_: float, joined: Array) -> Array:
            layers = self._split(joined)
            return -self._joined(self.gradients(layers)) - decay * joined

        first = self._joined(start)
        found = solve_ivp(right, (times[0], times[-1]), first, t_eval=times, method="DOP853", rtol=1e-9, atol=1e-12)
        return self._path(np.arange(len(times)), found.y.T)

    def _joined(self, layers: list[Array]) -> Array:
        return np.concatenate([layer.ravel() for layer in layers])

    def _split(self, joined: Array) -> list[Array]:
        ends = np.cumsum([rows * columns for rows, columns in self.shapes])[:-1]
        return [part.reshape(shape) for part, shape in zip(np.split(joined, ends), self.shapes, strict=True)]

    def _path(self, steps: NDArray[np.intp], weights: Array) -> LinearPath:
        maps = np.array([self.product(self._split(joined)) for joined in weights])
        loss = ((maps - self.target) ** 2).sum(axis=(-1, -2)) / 2
        strengths = np.asarray(np.linalg.svd(maps, compute_uv=False), dtype=np.float64)
        return LinearPath(steps, weights, strengths, loss)


def mode_strength(times: Array, *, target: Array, start: Array) -> Array:
    """Strength of each mode of a two-layer network under gradient flow, in closed form (Saxe et al. 2014).

    u(t) = s e^(2 s t) / (e^(2 s t) - 1 + s / u(0)), for balanced weights aligned with the target.

    Args:
        times: learning rate times steps [T].
        target: singular values s > 0 of the target [m].
        start: u(0) > 0 [m].

    Returns:
        [T, m].
    """
    # Divided through by e^(2 s t), which overflows first.
    faded = np.exp(-2 * np.asarray(times)[:, None] * target)
    return target / (1 + (target / start - 1) * faded)


def mode_flow(times: Array, *, target: Array, start: Array, depth: int, decay: float = 0.0) -> Array:
    """Strength of each mode at any depth, du/dt = L u^(2 - 2/L) (s - u) - L omega u, integrated (Saxe et al. 2014).

    Args:
        times: learning rate times steps [T], increasing.
        target: singular values s of the target [m].
        start: u(0) > 0 [m].
        depth: number of layers L.
        decay: weight decay omega of every layer.

    Returns:
        [T, m].
    """

    def right(_: float, strength: Array) -> Array:
        held = np.maximum(strength, 0.0)
        return depth * (held ** (2 - 2 / depth) * (target - held) - decay * held)

    found = solve_ivp(right, (times[0], times[-1]), start, t_eval=times, method="DOP853", rtol=1e-10, atol=1e-13)
    return found.y.T
