"""The rotated sign fold on a GPU in one launch for each dtype; importing this module needs triton.

A program owns a tile of cells and a slice of the chunks that fall into it. It reads what those chunks have in its
tile, adds in float64 in the order of the chunks and writes one partial sum; the partial sums of the slices are added
by torch. There is no atomic addition, so that the same parameters give the same bits.

No GPU has run it yet. It has been compiled for compute capabilities 8.0 and 9.0, and compared with the definition under
triton's interpreter; `make_fold` therefore compares its cells with those of torch on the device before it is used.
"""

# pyright: basic, reportMissingImports=false, reportIndexIssue=false
# ruff: noqa: ANN202 (triton compiles the function; it returns nothing)
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from spectral_edge.observe.fold import Seen, check_device, look, sample
from spectral_edge.observe.plan import SketchPlan
from spectral_edge.observe.shards import Shard

TILE = 1024
"""Cells of a program."""
PROGRAMS = 2048
"""Programs of a launch, about: several for each processor of the largest GPU."""

_KINDS: dict[torch.dtype, Any] = {
    torch.float32: tl.float32,
    torch.float64: tl.float64,
    torch.bfloat16: tl.bfloat16,
    torch.float16: tl.float16,
}


@triton.jit
def _fold(
    work,  # first cell in the group, first chunk, end of the chunks, group and slice, by program
    groups,  # first cell, cells, size, block, first chunk, first block, by group
    chunks,  # rotation, sign, first piece and end of the pieces, by chunk
    offset,
    table,
    pieces,  # start in the concatenation, end and address, by piece
    partial,
    total,
    KIND: tl.constexpr,
    TILE: tl.constexpr,
    WIDE: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    tile = tl.load(work + 5 * program)
    low, high = tl.load(work + 5 * program + 1), tl.load(work + 5 * program + 2)
    group, slice_ = tl.load(work + 5 * program + 3), tl.load(work + 5 * program + 4)
    first, width = tl.load(groups + 6 * group), tl.load(groups + 6 * group + 1)
    size, block = tl.load(groups + 6 * group + 2), tl.load(groups + 6 * group + 3)
    chunk0, block0 = tl.load(groups + 6 * group + 4), tl.load(groups + 6 * group + 5)
    cell = tile + tl.arange(0, TILE)
    inside = cell < width
    sums = tl.zeros((TILE,), dtype=tl.float64)
    for chunk in range(low, high):
        entry = chunks + 4 * (chunk0 + chunk)
        place = cell - tl.load(entry)
        place = tl.where(place < 0, place + width, place)
        position = chunk * width + place
        there = inside & (position < size)
        number = (chunk * width) // block
        start = tl.load(offset + block0 + number) - number * block
        sign = tl.load(table + start + position, mask=there, other=0) * tl.load(entry + 1).to(tl.int8)
        for piece in range(tl.load(entry + 2), tl.load(entry + 3)):
            begin, end = tl.load(pieces + 3 * piece), tl.load(pieces + 3 * piece + 1)
            address = tl.load(pieces + 3 * piece + 2).to(tl.pointer_type(KIND))
            held = there & (position >= begin) & (position < end)
            value = tl.load(address + (position - begin), mask=held, other=0.0).to(WIDE)
            # A sign times a value is exact in the value's own dtype.
            sums += (value * sign.to(WIDE)).to(tl.float64)
    tl.store(partial + slice_ * total + first + cell, sums, mask=inside)


class TritonFold:
    """One launch for each dtype, on the device of the parameters."""

    name = "triton"

    def __init__(self, plan: SketchPlan, device: torch.device) -> None:
        self._plan = plan
        self._device = device
        rows: list[tuple[int, ...]] = []
        self._work: list[tuple[int, ...]] = []
        counts = [len(group.rotation) for group in plan.groups]
        tiles = sum(-(-group.cells // TILE) for group in plan.groups)
        slices = max(1, PROGRAMS // tiles)
        chunk = block = 0
        for number, (group, count) in enumerate(zip(plan.groups, counts, strict=True)):
            rows.append((group.first, group.cells, group.size, group.block, chunk, block))
            chunk, block = chunk + count, block + len(group.offset)
            length = -(-count // slices)
            for tile in range(0, group.cells, TILE):
                self._work += [
                    (tile, low, min(count, low + length), number, at) for at, low in enumerate(range(0, count, length))
                ]
        self._chunks = np.zeros((chunk, 4), dtype=np.int64)
        self._chunks[:, 0] = plan.rotation
        self._chunks[:, 1] = plan.sign
        self._programs = self._send(self._work)
        self._groups = self._send(rows)
        self._offset = self._send(plan.offset)
        self._signs = torch.from_numpy(plan.table).to(device)
        # What no program writes stays zero.
        self._partial = torch.zeros((slices, plan.cells), dtype=torch.float64, device=device)
        self._seen: list[Seen | None] = []
        self._tables: list[tuple[Any, Tensor, Tensor]] = []

    def fold(self, shards: Sequence[Shard | None], out: Tensor | None = None) -> Tensor:
        """Cells of one shard for each tensor."""
        shards, seen = look(shards, _KINDS)
        if seen != self._seen:
            check_device(shards, self._device)
            self._tables, self._seen = self._lay_out(seen), seen
        cells = torch.zeros(self._plan.cells, dtype=torch.float64, device=self._device) if out is None else out.zero_()
        guard = torch.cuda.device(self._device) if self._device.type == "cuda" else nullcontext()
        with guard:
            for dtype, chunks, pieces in self._tables:
                _fold[(len(self._work),)](
                    self._programs,
                    self._groups,
                    chunks,
                    self._offset,
                    self._signs,
                    pieces,
                    self._partial,
                    self._plan.cells,
                    KIND=_KINDS[dtype],
                    TILE=TILE,
                    WIDE=tl.float64 if dtype == torch.float64 else tl.float32,
                )
                cells += self._partial.sum(0)
        return cells

    def sample(self, shards: Sequence[Shard | None], every: int) -> Tensor:
        """Sampled values in float32, by which one sees how many of them moved."""
        return sample(shards, every)

    def _lay_out(self, seen: Sequence[Seen | None]) -> list[tuple[Any, Tensor, Tensor]]:
        """Chunks with the pieces that they meet, and the pieces, on the device, for each dtype that occurs."""
        tables: list[tuple[Any, Tensor, Tensor]] = []
        for dtype in dict.fromkeys(entry[2] for entry in seen if entry is not None):
            pieces: list[tuple[int, int, int]] = []
            chunks = self._chunks.copy()
            chunk = 0
            for group in self._plan.groups:
                first = len(pieces)
                for member, start in zip(group.members, group.starts, strict=True):
                    entry = seen[member]
                    if entry is not None and entry[2] == dtype and entry[1]:
                        begin = start + entry[3]
                        pieces.append((begin, begin + entry[1], entry[0]))
                mine = np.array(pieces[first:], dtype=np.int64).reshape(-1, 3)
                edges = np.arange(len(group.rotation) + 1) * group.cells
                chunks[chunk : chunk + len(edges) - 1, 2] = first + np.searchsorted(mine[:, 1], edges[:-1], "right")
                chunks[chunk : chunk + len(edges) - 1, 3] = first + np.searchsorted(mine[:, 0], edges[1:], "left")
                chunk += len(edges) - 1
            tables.append((dtype, self._send(chunks), self._send(pieces or [(0, 0, 0)])))
        return tables

    def _send(self, values: Any) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64)).to(self._device)
