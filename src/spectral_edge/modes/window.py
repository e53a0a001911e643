"""The modes of a live window as directions of parameter space, formed from the kept updates on demand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spectral_edge.errors import InputError
from spectral_edge.measure import spectrum
from spectral_edge.modes.vectors import Vector, dot
from spectral_edge.observe import Engine, ExactRing
from spectral_edge.records import Inventory

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Modes:
    """The leading modes of one window.

    Attributes:
        step: of the window's last update.
        sigma: singular values [W], largest first.
        left: u_j in the columns of [W, W]; rows are updates, oldest first.
        gram: inner products of the updates [W, W], oldest first.
        rank: number of modes above the rank floor.
        directions: v_1 to v_count, unit vectors by parameter name, in float32 or wider.
    """

    step: int
    sigma: Array
    left: Array
    gram: Array
    rank: int
    directions: tuple[Vector, ...]

    def projections(self, vector: Mapping[str, Tensor]) -> Array:
        """Inner products of the directions with a vector [count], in float64."""
        return np.array([dot(direction, vector) for direction in self.directions])


def directions_of(given: Modes | Sequence[Mapping[str, Tensor]]) -> list[Mapping[str, Tensor]]:
    """The directions that a caller handed over, as modes or as a list.

    Raises:
        InputError: if it is one direction, or holds anything but vectors by parameter name.
    """
    if isinstance(given, Modes):
        return list(given.directions)
    single = isinstance(given, Mapping) or not isinstance(given, Sequence)  # pyright: ignore[reportUnnecessaryIsInstance]
    if single or not all(isinstance(one, Mapping) for one in given):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(
            "directions",
            expected="modes, or a list of vectors by parameter name",
            found="one vector" if isinstance(given, Mapping) else type(given).__name__,
            remedy="pass monitor.modes(), or [direction] for one of them",
        )
    return list(given)


def direction_of(given: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The one direction that a caller handed over.

    Raises:
        InputError: if it is no vector by parameter name, or several.
    """
    if not isinstance(given, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(
            "direction",
            expected="one vector by parameter name",
            found=type(given).__name__,
            remedy="pass one of monitor.modes().directions",
        )
    return given


def form_modes(ring: Engine, inventory: Inventory, gram: Array, step: int, count: int | None) -> Modes:
    """The modes of the newest window, v_j = sum_i u_ij d_i / sigma_j.

    Args:
        ring: where updates are kept.
        inventory: what is watched.
        gram: inner products of the window's updates [W, W], oldest first.
        step: of its last update.
        count: how many directions; all that lie above the rank floor by default. Each takes a copy of the parameters.

    Raises:
        InputError: if updates are sketched, or fewer modes lie above the rank floor.
    """
    found = spectrum(gram[None])
    rank, sigma, left = int(found.rank[0]), found.sigma[0], found.left[0]
    count = rank if count is None else count
    if not isinstance(count, Integral) or not 1 <= count <= rank:
        raise InputError(
            "count",
            expected=f"1 to {rank}, the modes above the rank floor" if rank else "a window that moves",
            found=repr(count),
            remedy="ask for fewer modes" if isinstance(count, Integral) else "pass a whole number",
        )
    weights = (left[:, :count] / sigma[:count]).T[:, ::-1]
    vectors = tuple(_named(inventory, pieces) for pieces in _exact(ring).combine(weights))
    return Modes(step, sigma, left, gram, rank, vectors)


def newest_update(ring: Engine, inventory: Inventory) -> Vector:
    """The newest update, by parameter name.

    Args:
        ring: where updates are kept.
        inventory: what is watched.

    Raises:
        InputError: if updates are sketched, or there is none yet.
    """
    exact = _exact(ring)
    if not exact.filled:
        raise InputError(
            "the newest update", expected="an observation", found="none", remedy="call step() until it observes"
        )
    return _named(inventory, exact.combine(np.ones((1, 1)))[0])


def _exact(ring: Engine) -> ExactRing:
    if not isinstance(ring, ExactRing):
        raise InputError(
            "directions",
            expected="the exact engine, which keeps updates",
            found="a sketch, which keeps inner products only",
            remedy='construct the monitor with engine="exact"',
        )
    return ring


def _named(inventory: Inventory, pieces: list[Tensor]) -> Vector:
    return {tensor.name: piece.reshape(tensor.shape) for tensor, piece in zip(inventory.tensors, pieces, strict=True)}
