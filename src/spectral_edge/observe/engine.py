"""What every engine offers, and which one suits a model."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spectral_edge.errors import InputError
from spectral_edge.observe.ring import Embedded, ExactRing, Push

Array = NDArray[np.float64]

ENGINES = ("auto", "exact", "sketch")
EXACT_BELOW = 16
"""The exact engine is chosen below this many parameters a cell: the sketch's fixed costs outweigh its savings there."""


class Engine(Protocol):
    """Something that turns snapshots into lag rows, by tensor or by group."""

    @property
    def filled(self) -> int:
        """Number of updates kept."""
        ...

    @property
    def ready(self) -> bool:
        """Whether there is a finite snapshot to take differences from."""
        ...

    def push(self, tensors: Sequence[Tensor]) -> Push:
        """Takes the difference to the last snapshot as the newest update."""
        ...

    def restart(self, tensors: Sequence[Tensor]) -> None:
        """Forgets all updates and takes these parameters as the new baseline."""
        ...

    def embed(self, vectors: Sequence[Tensor | None]) -> Embedded:
        """A vector of parameter space as the engine keeps it."""
        ...

    def snapshot(self) -> Embedded:
        """The parameters of the last snapshot as the engine keeps them."""
        ...

    def products(self, vectors: Embedded) -> Array:
        """Inner products of a vector with d_t, d_{t-1}, ..."""
        ...

    def inner(self, first: Embedded, second: Embedded | None = None) -> Array:
        """Inner products of a vector with another, or with the newest update."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next observation needs."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        ...


def use_sketch(engine: str, watched: int, cells: int) -> bool:
    """Whether an engine by this name sketches this many parameters."""
    return engine == "sketch" or (engine == "auto" and watched >= EXACT_BELOW * cells)


def exact_engine(
    tensors: Sequence[Tensor], horizon: int, *, dtype: torch.dtype | None, device: torch.device | str | None
) -> ExactRing:
    """A ring of updates.

    Raises:
        InputError: if there is no room for it, or no such device.
    """
    try:
        return ExactRing(tensors, horizon, dtype=dtype, device=device)
    except (RuntimeError, MemoryError) as error:
        needed = (1 + horizon) * sum(tensor.numel() for tensor in tensors) * 4 / 2**30
        raise InputError(
            "ring of updates",
            expected=f"a device with room for about {needed:.1f} GiB",
            found=str(error).splitlines()[0][:100],
            remedy="use engine='sketch', a shorter horizon, ring_dtype=torch.bfloat16 or ring_device='cpu'",
        ) from error
