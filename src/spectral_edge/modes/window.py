"""The modes of a live window as directions of parameter space, formed from the kept updates on demand."""

from collections.abc import Mapping
from dataclasses import dataclass

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
    if not 1 <= count <= rank:
        raise InputError(
            "count",
            expected=f"1 to {rank}, the modes above the rank floor" if rank else "a window that moves",
            found=str(count),
            remedy="ask for fewer modes",
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
