"""Backends of the rotated sign fold: the same cells from torch operations anywhere, or from compiled code.

All multiply a value by its sign in its own dtype, which is exact, and add into float64 cells. They differ in the
order of the additions alone, so they agree to rounding.
"""

from collections.abc import Callable, Collection, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spectral_edge.errors import InputError, MissingExtraError
from spectral_edge.observe.plan import GroupPlan, SketchPlan
from spectral_edge.observe.shards import RUN, Shard, sample_places

BACKENDS = ("auto", "torch", "numba", "triton")

Array = NDArray[np.int64]

_STANDS_FOR: dict[torch.dtype, type[np.integer[Any]]] = {
    torch.float32: np.uint32,
    torch.float64: np.uint64,
    torch.bfloat16: np.uint16,
    torch.float16: np.int16,
}
"""Integer types by which compiled code knows the dtypes; see kernels.py."""

Seen = tuple[int, int, torch.dtype, int]
"""Address, length and dtype of a shard's values, and its start: while these stay, so do the tables made from them."""


class FoldBackend(Protocol):
    """Something that folds shards of parameters into cells."""

    name: str

    def fold(self, shards: Sequence[Shard | None], out: Tensor | None = None) -> Tensor:
        """Cells [d] in float64 of one shard for each tensor; None where nothing of a tensor is held here.

        Args:
            shards: what is counted here of each tensor.
            out: memory for the result; new memory by default.
        """
        ...

    def sample(self, shards: Sequence[Shard | None], every: int) -> Tensor:
        """Sampled values in float32, by which one sees how many of them moved."""
        ...


def sample(shards: Sequence[Shard | None], every: int) -> Tensor:
    """The sampled values of all shards, in float32."""
    parts = [shard.sample(every) for shard in shards if shard is not None]
    return torch.cat(parts) if parts else torch.empty(0)


class TorchFold:
    """The reference: torch operations on any device.

    A step is a piece of a group's concatenation, whole chunks as far as the sign table is contiguous. It is multiplied
    by its signs into one float64 buffer, whichever tensors it comes from; each chunk of it is then one addition.
    """

    name = "torch"

    def __init__(self, plan: SketchPlan, device: torch.device) -> None:
        self._plan = plan
        self._device = device
        self._signs = torch.from_numpy(plan.table).to(device=device, dtype=torch.float32)
        longest, widest = max(group.block for group in plan.groups), max(group.cells for group in plan.groups)
        self._signed = torch.empty(longest, dtype=torch.float64, device=device)
        self._zeros = torch.zeros(longest, dtype=torch.float32, device=device)
        # Twice the cells, so that no chunk has to be cut where its rotation wraps around.
        self._wide = torch.zeros(2 * widest, dtype=torch.float64, device=device)
        # Making a view takes as long as a short addition, so that each is made once.
        self._views: dict[tuple[int, int], Tensor] = {}

    def _rotated(self, width: int, rotation: int) -> Tensor:
        """Where a chunk of a group of so many cells goes."""
        view = self._views.get((width, rotation))
        if view is None:
            view = self._views[width, rotation] = self._wide[rotation : rotation + width]
        return view

    def fold(self, shards: Sequence[Shard | None], out: Tensor | None = None) -> Tensor:
        """Cells of one shard for each tensor."""
        cells = torch.empty(self._plan.cells, dtype=torch.float64, device=self._device) if out is None else out
        for group in self._plan.groups:
            held: list[tuple[int, Tensor]] = []
            self._wide[: 2 * group.cells].zero_()
            for member, start in zip(group.members, group.starts, strict=True):
                shard = shards[member]
                if shard is None or not shard.length:
                    continue
                held.append((start + shard.start, shard.values))
            if held:
                self._add(group, held)
            low, high = self._wide[: group.cells], self._wide[group.cells : 2 * group.cells]
            torch.add(low, high, out=cells[group.first : group.first + group.cells])
        return cells

    def sample(self, shards: Sequence[Shard | None], every: int) -> Tensor:
        """Sampled values in float32, by which one sees how many of them moved."""
        return sample(shards, every)

    def _add(self, group: GroupPlan, held: list[tuple[int, Tensor]]) -> None:
        """Adds shards, given by their places in the group's concatenation, step by step."""
        width, block = group.cells, group.block
        chunks = [self._signed[at : at + width] for at in range(0, block, width)]
        next_, begin = 0, held[0][0] // width * width
        while next_ < len(held):
            number = begin // block
            end, filled = (number + 1) * block, begin
            pieces: list[Tensor] = []
            while next_ < len(held):
                start, values = held[next_]
                low, stop = max(begin, start), start + len(values)
                if low >= end:
                    break
                if low > filled:
                    pieces.append(self._zeros[: low - filled])
                filled = min(end, stop)
                pieces.append(values if start == low and stop <= end else values[low - start : filled - start])
                if stop > end:
                    break
                next_ += 1
            last = -(-filled // width)
            if filled < last * width:
                pieces.append(self._zeros[: last * width - filled])
            place = int(group.offset[number]) + begin - number * block
            # The wider of two dtypes holds the values of both, and of a sign times a value.
            joined = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
            signs = self._signs[place : place + len(joined)]
            torch.mul(joined, signs, out=self._signed[: len(joined)])
            some = slice(begin // width, last)
            for rotation, sign, chunk in zip(
                group.rotation[some].tolist(), group.sign[some].tolist(), chunks, strict=False
            ):
                view = self._rotated(width, rotation)
                view.add_(chunk) if sign > 0 else view.sub_(chunk)
            begin = end if next_ == len(held) else max(end, held[next_][0] // width * width)


class NumbaFold:
    """Compiled code for the CPU: one call for all tensors of a dtype, four chunks at once."""

    name = "numba"

    def __init__(self, plan: SketchPlan) -> None:
        self._plan = plan
        self._signs = plan.table
        self._kernel, self._sample = compiled_fold()
        self._zeros = np.zeros(64)
        self._seen: list[Seen | None] = []
        self._tables: list[tuple[NDArray[Any], Array, Array]] = []
        self._sampled_from: tuple[list[Seen | None], int] = ([], 0)
        self._sampling: tuple[list[tuple[NDArray[Any], Array]], int] = ([], 0)

    def fold(self, shards: Sequence[Shard | None], out: Tensor | None = None) -> Tensor:
        """Cells of one shard for each tensor."""
        found = torch.zeros(self._plan.cells, dtype=torch.float64) if out is None else out.zero_()
        cells = found.numpy()
        shards, seen = look(shards, _STANDS_FOR)
        if seen != self._seen:
            check_device(shards, torch.device("cpu"))
            self._tables, self._seen = self._lay_out(seen), seen
        self._run(self._tables, cells)
        return found

    def sample(self, shards: Sequence[Shard | None], every: int) -> Tensor:
        """Sampled values in float32, in the order of the tensors."""
        if not all(shard is None or (shard.resident and shard.dtype in _STANDS_FOR) for shard in shards):
            return sample(shards, every)
        _, seen = look(shards, _STANDS_FOR)
        if (seen, every) != self._sampled_from:
            self._sampling, self._sampled_from = self._lay_out_sample(shards, every), (seen, every)
        tables, total = self._sampling
        out = np.empty(total, dtype=np.float32)
        for like, pieces in tables:
            self._sample(like, pieces, every, RUN, out)
        return torch.from_numpy(out)

    def _lay_out_sample(
        self, shards: Sequence[Shard | None], every: int
    ) -> tuple[list[tuple[NDArray[Any], Array]], int]:
        """The sampling kernel's table for each dtype, and how many values there are."""
        rows: dict[torch.dtype, list[tuple[int, ...]]] = {}
        total = 0
        for shard in shards:
            if shard is not None and shard.length:
                row = (shard.length, shard.values.data_ptr(), shard.start, total)
                rows.setdefault(shard.dtype, []).append(row)
                total += len(sample_places(shard.start, shard.length, every))
        return [(np.empty(0, _STANDS_FOR[dtype]), np.array(some)) for dtype, some in rows.items()], total

    def _run(self, tables: Sequence[tuple[NDArray[Any], Array, Array]], cells: NDArray[np.float64]) -> None:
        for like, groups, pieces in tables:
            self._kernel(
                like,
                groups,
                pieces,
                self._plan.rotation,
                self._plan.sign,
                self._plan.offset,
                self._signs,
                self._zeros.ctypes.data,
                cells,
            )

    def _lay_out(self, seen: Sequence[Seen | None]) -> list[tuple[NDArray[Any], Array, Array]]:
        """The kernel's tables of groups and pieces, for each dtype that occurs."""
        tables: list[tuple[NDArray[Any], Array, Array]] = []
        for dtype in dict.fromkeys(entry[2] for entry in seen if entry is not None):
            groups: list[tuple[int, ...]] = []
            pieces: list[tuple[int, ...]] = []
            chunk = block = 0
            for group in self._plan.groups:
                first = len(pieces)
                for member, start in zip(group.members, group.starts, strict=True):
                    entry = seen[member]
                    if entry is not None and entry[2] == dtype and entry[1]:
                        pieces.append((start + entry[3], entry[1], entry[0]))
                groups.append((group.first, group.cells, group.size, group.block, chunk, block, first, len(pieces)))
                chunk, block = chunk + len(group.rotation), block + len(group.offset)
            like = np.empty(0, _STANDS_FOR[dtype])
            tables.append((like, np.array(groups), np.array(pieces, dtype=np.int64).reshape(-1, 3)))
        return tables


def look(
    shards: Sequence[Shard | None], dtypes: Collection[torch.dtype]
) -> tuple[Sequence[Shard | None], list[Seen | None]]:
    """What a kernel that reads by address makes its tables from.

    Args:
        shards: one for each tensor.
        dtypes: that the kernel knows.

    Returns:
        Shards that the kernel can read, copies where values have gaps, another dtype or are made anew when asked for,
        to be held until it has; and what was seen of each.
    """
    seen: list[Seen | None] = []
    readable = True
    for shard in shards:
        if shard is None:
            seen.append(None)
            continue
        values = shard.values
        seen.append((values.data_ptr(), values.numel(), values.dtype, shard.start))
        readable = readable and shard.resident and values.is_contiguous() and values.dtype in dtypes
    if readable:
        return shards, seen
    return look([None if s is None else Shard(_readable(s.values, dtypes), s.shape, s.start) for s in shards], dtypes)


def _readable(values: Tensor, dtypes: Collection[torch.dtype]) -> Tensor:
    if values.dtype not in dtypes:
        values = values.to(torch.float64 if values.element_size() >= 4 else torch.float32)
    return values.contiguous()


def check_device(shards: Sequence[Shard | None], device: torch.device) -> None:
    """Refuses shards that a kernel on this device would read at addresses of another.

    Raises:
        InputError: if there are any.
    """
    for shard in shards:
        if shard is not None and shard.values.device != device:
            raise InputError(
                "sketch",
                expected=f"parameters on {device}",
                found=str(shard.values.device),
                remedy="use backend='torch'",
            )


def numba_available() -> bool:
    """Whether the extra `fast` is installed."""
    return find_spec("numba") is not None


@cache
def compiled_fold() -> tuple[Callable[..., None], Callable[..., None]]:
    """The compiled kernels of folding and sampling; compiled once and kept on disk by numba.

    Raises:
        MissingExtraError: without numba.
    """
    try:
        from spectral_edge.observe.kernels import fold, sample
    except ImportError as error:
        raise MissingExtraError("numba", extra="fast", purpose="the compiled sketch") from error
    return fold, sample


@cache
def triton_works(device: torch.device) -> bool:
    """Whether triton is there and gives the cells that torch gives on this device."""
    if device.type != "cuda" or find_spec("triton") is None:
        return False
    generator = np.random.Generator(np.random.Philox(key=0))
    plan = SketchPlan.make([5000, 300, 2000], {"a": (0, 1), "b": (2,)}, cells=1500)
    shards = [Shard(torch.from_numpy(generator.standard_normal(size)).to(device)) for size in (5000, 300, 2000)]
    try:
        from spectral_edge.observe.triton_fold import TritonFold

        found = TritonFold(plan, device).fold(shards)
    except Exception:
        # No compiler, no driver, an unknown processor: whatever it is, torch folds too, and the trace names it.
        return False
    return bool(torch.allclose(found, TorchFold(plan, device).fold(shards), rtol=1e-12, atol=1e-12))


def make_fold(plan: SketchPlan, device: torch.device, *, backend: str = "auto") -> Any:
    """The fastest backend for a device that is installed, or the one asked for.

    Raises:
        InputError: if a compiled backend is asked for where it cannot run.
        MissingExtraError: if numba is asked for and not installed.
    """
    wrong = {"numba": device.type != "cpu", "triton": device.type != "cuda" or find_spec("triton") is None}
    if wrong.get(backend):
        raise InputError("backend", expected="torch or auto", found=f"{backend} on {device}", remedy="leave it at auto")
    name = backend_for(device) if backend == "auto" else backend
    if name == "numba":
        return NumbaFold(plan)
    if name == "triton":
        from spectral_edge.observe.triton_fold import TritonFold

        return TritonFold(plan, device)
    return TorchFold(plan, device)


def backend_for(device: torch.device) -> str:
    """The fastest backend for a device that is installed."""
    if device.type == "cpu" and numba_available():
        return "numba"
    return "triton" if triton_works(device) else "torch"
