"""What every engine offers, and which one suits a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from spectral_edge.errors import InputError
from spectral_edge.observe.ring import Embedded, ExactRing, Held, Push

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

    def push(self, held: Held | None, header: Array | None = None) -> Push:
        """Takes the difference to the last snapshot as the newest update; to be called by all ranks."""
        ...

    def forget(self) -> None:
        """Empties the ring; the last snapshot stays the baseline of the next update."""
        ...

    def embed(self, vectors: Held) -> Embedded:
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

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """Continues from the states of the ranks that saved them."""
        ...


@dataclass(frozen=True, slots=True)
class Choice:
    """Which engine a model gets.

    Attributes:
        name: "exact" or "sketch".
        ring_dtype: dtype of the exact engine's ring; None is the parameters' own.
        why: the reason, as a clause.
    """

    name: str
    ring_dtype: torch.dtype | None
    why: str


def choose_engine(
    engine: str, watched: int, cells: int, *, ring_dtype: torch.dtype | None = None, share: int | None = None
) -> Choice:
    """The engine for a model of this size.

    Args:
        engine: a name of `ENGINES`.
        watched: number of watched parameters of all ranks.
        cells: cells of a sketch.
        ring_dtype: what the user asked for.
        share: most parameters that one of several ranks counts; None for one process.
    """
    limit = EXACT_BELOW * cells
    if engine != "auto":
        return Choice(engine, ring_dtype, f"as asked for by engine={engine!r}")
    if watched < limit:
        return Choice("exact", ring_dtype, f"fewer than {EXACT_BELOW} parameters a cell ({limit:,})")
    if share is not None and share < limit:
        why = f"no rank counts more than {share:,} parameters, so that a ring in bfloat16 costs next to nothing"
        return Choice("exact", ring_dtype or torch.bfloat16, why)
    return Choice("sketch", None, f"at least {EXACT_BELOW} parameters a cell ({limit:,})")


def exact_engine(held: Held, horizon: int, *, dtype: torch.dtype | None, **options: Any) -> ExactRing:
    """A ring of updates.

    Raises:
        InputError: if there is no room for it, or no such device.
    """
    try:
        return ExactRing(held, horizon, dtype=dtype, **options)
    except (RuntimeError, MemoryError, AssertionError) as error:  # torch asserts that a device is there
        values = sum(shard.length for shard in held if shard is not None)
        width = 4 if dtype is None else dtype.itemsize
        needed = (4 + horizon * (1 + options.get("ladder", 0)) * width) * values / 2**30
        raise InputError(
            "ring of updates",
            expected=f"a device with room for about {needed:.1f} GiB",
            found=str(error).splitlines()[0][:100],
            remedy="use engine='sketch', a shorter horizon, ring_dtype=torch.bfloat16 or ring_device='cpu'",
        ) from error
