"""Backends of the rotated sign fold: the same cells from torch operations anywhere, or from compiled code on the CPU.

Both multiply a value by its sign in its own dtype, which is exact, and add into float64 cells. They differ in the
order of the additions alone, so they agree to rounding.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spectral_edge.errors import InputError, MissingExtraError
from spectral_edge.observe.plan import GroupPlan, SketchPlan
from spectral_edge.observe.shards import Shard

BACKENDS = ("auto", "torch", "numba")

_PIECE = 1 << 18
"""Half-precision values that the compiled backend widens at once: 1 MB of float32."""


class FoldBackend(Protocol):
    """Something that folds shards of parameters into cells."""

    name: str

    def fold(self, shards: Sequence[Shard | None]) -> Tensor:
        """Cells [d] in float64 of one shard for each tensor; None where nothing of a tensor is held here."""
        ...


class TorchFold:
    """The reference: torch operations on any device."""

    name = "torch"

    def __init__(self, plan: SketchPlan, device: torch.device) -> None:
        self._plan = plan
        self._device = device
        self._signs = torch.from_numpy(plan.table).to(device=device, dtype=torch.float32)
        longest = max(group.block for group in plan.groups)
        self._signed = torch.empty(longest, dtype=torch.float32, device=device)

    def fold(self, shards: Sequence[Shard | None]) -> Tensor:
        """Cells of one shard for each tensor."""
        cells = torch.zeros(self._plan.cells, dtype=torch.float64, device=self._device)
        for group in self._plan.groups:
            # Twice the cells, so that no chunk has to be cut where its rotation wraps around.
            wide = torch.zeros(2 * group.cells, dtype=torch.float64, device=self._device)
            for member, start in zip(group.members, group.starts, strict=True):
                shard = shards[member]
                if shard is not None and shard.length:
                    self._add(group, start + shard.start, shard.values, wide)
            cells[group.first : group.first + group.cells] = wide[: group.cells] + wide[group.cells :]
        return cells

    def _add(self, group: GroupPlan, position: int, values: Tensor, wide: Tensor) -> None:
        done, size = 0, len(values)
        signed = self._signed if values.dtype != torch.float64 else self._signed.double()
        while done < size:
            block, inside = divmod(position + done, group.block)
            count = min(group.block - inside, size - done)
            place = int(group.offset[block]) + inside
            torch.mul(values[done : done + count], self._signs[place : place + count], out=signed[:count])
            at = 0
            while at < count:
                chunk, cell = divmod(position + done + at, group.cells)
                length = min(group.cells - cell, count - at)
                target = cell + int(group.rotation[chunk])
                wide[target : target + length].add_(signed[at : at + length], alpha=int(group.sign[chunk]))
                at += length
            done += count


class NumbaFold:
    """Compiled code for the CPU: four chunks at once, so that a cell is read and written for four values."""

    name = "numba"

    def __init__(self, plan: SketchPlan) -> None:
        self._plan = plan
        self._signs = plan.table
        self._kernel = compiled_fold()

    def fold(self, shards: Sequence[Shard | None]) -> Tensor:
        """Cells of one shard for each tensor."""
        cells = np.zeros(self._plan.cells)
        for group in self._plan.groups:
            mine = cells[group.first : group.first + group.cells]
            for member, start in zip(group.members, group.starts, strict=True):
                shard = shards[member]
                if shard is None:
                    continue
                for at, values in _as_float(shard.values):
                    place = start + shard.start + at
                    self._kernel(
                        values, place, mine, group.rotation, group.sign, group.offset, self._signs, group.block
                    )
        return torch.from_numpy(cells)


def _as_float(values: Tensor) -> Iterator[tuple[int, NDArray[Any]]]:
    """Values in a dtype that compiled code knows, with their places; half precision is widened piece by piece."""
    if values.element_size() >= 4:
        yield 0, values.numpy()
        return
    for at in range(0, len(values), _PIECE):
        yield at, values[at : at + _PIECE].float().numpy()


def numba_available() -> bool:
    """Whether the extra `fast` is installed."""
    return find_spec("numba") is not None


@cache
def compiled_fold() -> Callable[..., None]:
    """The compiled kernel; compiled once and kept on disk by numba.

    Raises:
        MissingExtraError: without numba.
    """
    try:
        from spectral_edge.observe.kernels import fold
    except ImportError as error:
        raise MissingExtraError("numba", extra="fast", purpose="the compiled sketch") from error
    return fold


def make_fold(plan: SketchPlan, device: torch.device, *, backend: str = "auto") -> Any:
    """The fastest backend for a device that is installed, or the one asked for.

    Raises:
        InputError: if numba is asked for elsewhere than on the CPU.
        MissingExtraError: if numba is asked for and not installed.
    """
    if backend == "numba" and device.type != "cpu":
        raise InputError("backend", expected="torch or auto", found=f"numba on {device}", remedy="leave it at auto")
    if backend == "numba" or (backend == "auto" and backend_for(device) == "numba"):
        return NumbaFold(plan)
    return TorchFold(plan, device)


def backend_for(device: torch.device) -> str:
    """The fastest backend for a device that is installed."""
    return "numba" if device.type == "cpu" and numba_available() else "torch"
