"""What one process holds of a tensor: all of it, a contiguous run of its values, or a block of a sharded one."""

import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spectral_edge.errors import InputError

RUN = 16
"""Neighbouring values that are sampled together: they share a line of the processor's cache."""

Block = tuple[tuple[int, ...], tuple[int, ...]]
"""Where a block of a tensor starts along each dimension, and how long it is there."""


class Shard:
    """A run of a tensor's values that this process holds; what a `ParameterSource` may name instead of a tensor.

    Args:
        values: the values that are held, or a function that loads them.
        shape: of the whole tensor; that of `values` by default.
        start: position of the first value held in the whole tensor, flattened in row-major order.
        dtype: of the values; needed where they are loaded.
        length: number of values held; needed where they are loaded and are not all.
        block: where the values are no contiguous run of the tensor: which block of it they are.
        done: called when loaded values are no longer needed.

    Raises:
        InputError: if the run does not lie in the tensor.
    """

    __slots__ = ("_done", "_flat", "_load", "block", "device", "dtype", "length", "shape", "start")

    def __init__(
        self,
        values: Tensor | Callable[[], Tensor],
        shape: tuple[int, ...] | None = None,
        start: int = 0,
        *,
        dtype: torch.dtype | None = None,
        length: int | None = None,
        block: Block | None = None,
        done: Callable[[], None] | None = None,
    ) -> None:
        self._flat: Tensor | None = None
        self._done = done
        if isinstance(values, Tensor):
            self.shape = tuple(values.shape) if shape is None else tuple(shape)
            self.dtype, self.device, self.length = values.dtype, values.device, values.numel()
            flat = values.detach().reshape(-1)
            if flat.data_ptr() == values.data_ptr():
                self._flat = flat  # a view, which sees whatever the optimizer writes
            self._load: Callable[[], Tensor] = lambda: values
        else:
            if shape is None or dtype is None:
                raise InputError("shard", expected="shape and dtype", found="neither", remedy="give both")
            self.shape, self.dtype, self.device = tuple(shape), dtype, torch.device("cpu")
            self.length = math.prod(self.shape) if length is None else length
            self._load = values
        self.start = start
        self.block = block
        if start < 0 or start + self.length > math.prod(self.shape):
            raise InputError(
                "shard",
                expected=f"a run within {math.prod(self.shape)} values",
                found=f"{self.length} values from {start} on",
                remedy="give the whole tensor's shape and the position of the first value held",
            )

    @property
    def values(self) -> Tensor:
        """The values held, flat."""
        return self._flat if self._flat is not None else self._load().detach().reshape(-1)

    @contextmanager
    def held(self) -> Generator[Tensor]:
        """The values; those that are not in memory as they are stay there for the duration and are let go then."""
        if self._flat is not None:
            yield self._flat
            return
        self._flat = self.values
        try:
            yield self._flat
        finally:
            self._flat = None
            if self._done is not None:
                self._done()

    def close(self) -> None:
        """Lets go of whatever loads the values; they can be had no longer."""
        self._flat, self._done, self._load = None, None, _closed

    def sample(self, every: int) -> Tensor:
        """A copy of the sampled values, in float32."""
        places = sample_places(self.start, self.length, every).to(self.device)
        return self.values.index_select(0, places).float()

    @property
    def resident(self) -> bool:
        """Whether the values lie in memory as they are, so that asking for them again costs nothing."""
        return self._flat is not None

    @property
    def numel(self) -> int:
        """Number of elements of the whole tensor."""
        return math.prod(self.shape)

    @property
    def ndim(self) -> int:
        """Number of dimensions of the whole tensor."""
        return len(self.shape)

    def cut(self, first: int, length: int, start: int) -> "Shard":
        """A run of this shard's values, as if it stood at `start` of the whole tensor."""
        if first == 0 and length == self.length and start == self.start and self.block is None:
            return self
        if self._flat is not None:
            return Shard(self._flat[first : first + length], self.shape, start)
        return Shard(lambda: self.values[first : first + length], self.shape, start, dtype=self.dtype, length=length)


def _closed() -> Tensor:
    raise InputError(
        "shard", expected="an open checkpoint", found="a closed one", remedy="read values while it is open"
    )


@lru_cache(maxsize=4096)
def sample_places(start: int, length: int, every: int) -> Tensor:
    """Which values of a run that starts at `start` of its tensor are sampled: one of `every` runs of `RUN` values."""
    first = start // (RUN * every) * RUN * every
    runs = np.arange(first, start + length, RUN * every)
    places = (runs[:, None] + np.arange(RUN)).ravel() - start
    return torch.from_numpy(places[(places >= 0) & (places < length)])


def as_shard(name: str, held: Any) -> Shard:
    """What a process holds of a tensor, a sharded tensor, or what it says that it holds.

    Raises:
        InputError: for a sharded tensor whose values are partial sums, or something that is no tensor.
    """
    if isinstance(held, Shard):
        return held
    if not isinstance(held, Tensor):
        raise InputError(name, expected="a tensor or a Shard", found=type(held).__name__, remedy="name tensors only")
    if type(held).__name__ != "DTensor":
        _in_memory(name, held)
        return Shard(held)
    placements: Any = held.placements  # pyright: ignore[reportAttributeAccessIssue]
    if any(placement.is_partial() for placement in placements):
        raise InputError(
            name,
            expected="a sharded tensor with placements Shard or Replicate",
            found=str(tuple(placements)),
            remedy="reduce it first: a partial sum on each rank has no update of its own, since products do not add",
        )
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    local: Tensor = held.to_local()  # pyright: ignore[reportAttributeAccessIssue]
    mesh: Any = held.device_mesh  # pyright: ignore[reportAttributeAccessIssue]
    shape = tuple(held.shape)
    sizes, offsets = compute_local_shape_and_global_offset(shape, mesh, placements)
    if local.numel() == 0:
        return Shard(local, shape)
    if not _contiguous(sizes, shape):
        return Shard(local, shape, block=(tuple(offsets), tuple(sizes)))
    strides = [math.prod(shape[dim + 1 :]) for dim in range(len(shape))]
    return Shard(local, shape, sum(offset * stride for offset, stride in zip(offsets, strides, strict=True)))


def _in_memory(name: str, tensor: Tensor) -> None:
    """Refuses a tensor whose memory was given away between steps, as offloading does: reading it would crash."""
    if not tensor.numel() or tensor.layout != torch.strided or tensor.device.type == "meta":
        return
    last = tensor.storage_offset() + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    if tensor.untyped_storage().nbytes() < (last + 1) * tensor.element_size():
        raise InputError(
            name,
            expected="a tensor in memory",
            found="one whose memory was freed",
            remedy="observe while it is there, or name the shard that stays (see spectral_edge.Shard)",
        )


def _contiguous(sizes: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether a block is one run of the flattened tensor: single rows, then a range, then whole dimensions."""
    for dim, size in enumerate(sizes):
        if size != 1:
            return sizes[dim + 1 :] == shape[dim + 1 :]
    return True
