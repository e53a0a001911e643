"""The kept updates of the tensors that share a device and a dtype, and their inner products in float64."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spectral_edge.observe.fold import numba_available
from spectral_edge.observe.shards import RUN, Shard, sample_places

Array = NDArray[np.float64]

_CHUNK_CPU = 8192
"""Values of a row that are widened at once: with 20 rows 1.3 MB of float64, which stays in a core's cache."""
_CHUNK_DEVICE = 1 << 20
"""The same on an accelerator, where a launch costs more than the traffic that a smaller chunk saves."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of taking in an update.

    Attributes:
        products: inner products with every filled slot, by member [n, kept].
        norm_square: squared norm of the parameters.
        moved: how many of the sampled coordinates changed.
        changed: whether any coordinate changed; squares can underflow where values do not.
    """

    products: Array
    norm_square: float
    moved: int
    changed: bool


class Bank:
    """Rings of updates of some tensors, one behind the other in memory.

    Args:
        members: indices of the tensors.
        shards: what is held of each.
        device: where updates are kept.
        horizon: number L of updates.
        dtype: of the kept updates; None is the tensors' own.
        levels: number of rings: updates of 1, 2, 4, ... observations.
        every: one of so many runs of coordinates of a tensor is in the sample that tells how many moved.

    Attributes:
        starts: position of each member's first value in its whole tensor.
        spans: where each tensor starts and ends.
        previous: the last snapshot [P].
        rows: the ring of each level [L, P].
        sampled: number of coordinates that are looked at for whether they moved.
    """

    def __init__(
        self,
        members: list[int],
        shards: Sequence[Shard],
        device: torch.device,
        horizon: int,
        dtype: torch.dtype | None,
        levels: int,
        every: int,
    ) -> None:
        self.members = members
        self.starts = [shard.start for shard in shards]
        ends = np.cumsum([shard.length for shard in shards]).tolist()
        self.spans = list(zip([0, *ends[:-1]], ends, strict=True))
        self.size = int(ends[-1])
        self.previous = torch.empty(self.size, dtype=shards[0].dtype, device=device)
        shape, kind = (horizon, self.size), dtype or shards[0].dtype
        self.rows = [torch.zeros(shape, dtype=kind, device=device) for _ in range(levels)]
        sampled = [
            start + sample_places(shard.start, shard.length, every)
            for (start, _), shard in zip(self.spans, shards, strict=True)
        ]
        self._sample = torch.cat(sampled).to(device)
        self.sampled = len(self._sample)
        width = min(self.size, _CHUNK_CPU if device.type == "cpu" else _CHUNK_DEVICE)
        self._wide = torch.empty((horizon, width), dtype=torch.float64, device=device)
        self._vector = torch.empty(width, dtype=torch.float64, device=device)
        self._compiled = CompiledBank.make(self, every)
        self._plan, self._firsts = _plan(self.spans, width)
        self._pieces = sum(len(cuts) for _, _, cuts in self._plan)

    def advance(self, slot: int, kept: int, shards: Sequence[Shard]) -> Taken:
        """Takes the difference to the last snapshot as the update of a slot, and these parameters as the snapshot.

        Args:
            slot: of the first level, to be written.
            kept: number of slots filled afterwards.
            shards: what is held of each member.
        """
        if self._compiled is not None and all(shard.device.type == "cpu" for shard in shards):
            return self._compiled.advance(slot, kept, shards)
        row = self.rows[0][slot]
        for (start, stop), shard in zip(self.spans, shards, strict=True):
            before = self.previous[start:stop]
            with shard.held() as now:
                if now.dtype == row.dtype and now.device == row.device:
                    torch.sub(now, before, out=row[start:stop])
                else:
                    row[start:stop].copy_(now.to(before.device) - before)
                before.copy_(now)
        sample = row.index_select(0, self._sample)
        moved = int(torch.count_nonzero(sample))
        return Taken(self.products(kept, slot), self.norm_square(), moved, moved > 0 or bool(row.any()))

    def climb(self, level: int, slot: int, kept: int, newest: int, older: int) -> Array:
        """Takes the sum of two updates of the level below as the update of a slot.

        Returns:
            Inner products with every filled slot of the level, by member [n, kept].
        """
        below = self.rows[level - 1]
        torch.add(below[newest], below[older], out=self.rows[level][slot])
        return self.products(kept, slot, level)

    def rebase(self, shards: Sequence[Shard]) -> None:
        """Takes these parameters as the last snapshot."""
        for (start, stop), shard in zip(self.spans, shards, strict=True):
            with shard.held() as now:
                self.previous[start:stop].copy_(now)

    def flatten(self, vectors: Sequence[Tensor]) -> Tensor:
        """The bank's part of a vector that is given by member."""
        return torch.cat([vector.to(self.previous.device) for vector in vectors])

    def products(self, kept: int, other: int | Tensor, level: int = 0) -> Array:
        """Inner products of the first `kept` slots of a level with a slot or a flat vector, by member [n, kept]."""
        if self._compiled is not None:
            return self._compiled.products(kept, other, level)
        rows = self.rows[level]
        partial = torch.empty((self._pieces, kept), dtype=torch.float64, device=rows.device)
        piece = 0
        for start, stop, cuts in self._plan:
            wide = self._wide[:kept, : stop - start]
            wide.copy_(rows[:kept, start:stop])
            if isinstance(other, int):
                vector = self._vector[: stop - start].copy_(wide[other])
            else:
                vector = self._vector[: stop - start].copy_(other[start:stop])
            # Squares of float32 values end in the bits 001, so that a running sum rounds them down more often than up:
            # 1e-15 relative, which hides sigma_W at condition 1e6. torch.sum adds pairwise; what a library's matrix
            # product does differs from machine to machine.
            wide.mul_(vector)
            for a, b in cuts:
                torch.sum(wide[:, a:b], dim=1, out=partial[piece])
                piece += 1
        return self._by_member(partial)

    def inner(self, first: Tensor, second: Tensor) -> Array:
        """Inner products of two flat vectors by member [n]."""
        partial = torch.empty((self._pieces, 1), dtype=torch.float64, device=self.previous.device)
        piece = 0
        for start, _, cuts in self._plan:
            for a, b in cuts:
                left, right = first[start + a : start + b].double(), second[start + a : start + b].double()
                partial[piece, 0] = torch.dot(left, right)
                piece += 1
        return self._by_member(partial)[:, 0]

    def combine(self, slots: Sequence[int], weights: Tensor) -> Tensor:
        """Weighted sums of rows [k, P], in the rows' dtype or float32 if that is wider.

        Args:
            slots: of the first level.
            weights: [k, len(slots)], float64.
        """
        rows = self.rows[0]
        dtype = torch.promote_types(rows.dtype, torch.float32)
        found = torch.empty((len(weights), self.size), dtype=dtype, device=rows.device)
        weights, width = weights.to(rows.device), self._wide.shape[1]
        for start in range(0, self.size, width):
            part = rows[list(slots), start : start + width].double()
            found[:, start : start + width] = weights @ part
        return found

    def norm_square(self) -> float:
        """Squared norm of the last snapshot, in its own dtype's accumulation unless that overflows."""
        wide = None if self.previous.element_size() >= 4 else torch.float32
        norm = float(torch.linalg.vector_norm(self.previous, dtype=wide))
        if not np.isfinite(norm) and bool(torch.isfinite(self.previous).all()):
            norm = float(torch.linalg.vector_norm(self.previous.double()))
        return norm**2

    def _by_member(self, partial: Tensor) -> Array:
        pieces = partial.cpu().numpy().astype(np.longdouble)
        return np.add.reduceat(pieces, self._firsts, axis=0).astype(np.float64)


class CompiledBank:
    """The same arithmetic in one compiled pass over memory, for a bank on the CPU.

    Args:
        bank: whose memory it works on.
        every: as the bank's.
    """

    def __init__(self, bank: Bank, every: int) -> None:
        from spectral_edge.observe import kernels

        self._kernels = kernels
        self._previous = _plain(bank.previous)
        self._rows = [_plain(rows) for rows in bank.rows]
        self._starts = np.array([start for start, _ in bank.spans])
        self._stops = np.array([stop for _, stop in bank.spans])
        self._offsets = np.array(bank.starts)
        self._every = every

    @staticmethod
    def make(bank: Bank, every: int) -> "CompiledBank | None":
        """One for this bank, if compiled code knows its device and dtypes."""
        kinds = {bank.previous.dtype, bank.rows[0].dtype}
        known = kinds <= {torch.float32, torch.float64, torch.bfloat16}
        if bank.previous.device.type != "cpu" or not known or not numba_available():
            return None
        return CompiledBank(bank, every)

    def advance(self, slot: int, kept: int, shards: Sequence[Shard]) -> Taken:
        """See `Bank.advance`."""
        sums = np.empty((len(shards), kept))
        parts = [range(len(shards))]
        if not all(shard.resident for shard in shards):  # one loaded tensor at a time
            parts = [range(at, at + 1) for at in range(len(shards))]
        norm, moved, changed = 0.0, 0, False
        for part in parts:
            some = slice(part.start, part.stop)
            with ExitStack() as stack:  # values are kept until the kernel has read them
                values = [stack.enter_context(shard.held()).contiguous() for shard in shards[some]]
                addresses = np.array([value.data_ptr() for value in values])
                places = self._starts[some], self._stops[some], self._offsets[some]
                square, count, any_ = self._kernels.advance(
                    addresses, *places, self._previous, self._rows[0], slot, kept, self._every, RUN, sums[some]
                )
            norm, moved, changed = norm + square, moved + count, changed or any_
        return Taken(sums, float(norm), int(moved), bool(changed))

    def products(self, kept: int, other: int | Tensor, level: int) -> Array:
        """See `Bank.products`."""
        rows = self._rows[level]
        sums = np.empty((len(self._starts), kept))
        if isinstance(other, int):
            values, newest = rows[other], other
        else:
            values, newest = _plain(other if other.dtype != torch.float16 else other.float()), -1
        self._kernels.products(values, self._starts, self._stops, rows, kept, newest, sums)
        return sums


def _plain(values: Tensor) -> NDArray[Any]:
    """The same memory as NumPy sees it; bfloat16 as unsigned integers, by which kernels.py knows it."""
    values = values.contiguous()
    return values.view(torch.int16).numpy().view(np.uint16) if values.dtype == torch.bfloat16 else values.numpy()


def _plan(
    spans: list[tuple[int, int]], width: int
) -> tuple[list[tuple[int, int, list[tuple[int, int]]]], NDArray[np.intp]]:
    """Chunks of the concatenation and, within each, the pieces of tensors; a piece never crosses a tensor.

    Args:
        spans: start and end of each tensor in the concatenation.
        width: length of a chunk.

    Returns:
        Chunks as (start, stop, pieces relative to start), and the index of each tensor's first piece.
    """
    chunks: list[tuple[int, int, list[tuple[int, int]]]] = []
    firsts: list[int] = []
    count = 0
    for start, stop in spans:
        firsts.append(count)
        position = start
        while position < stop:
            chunk = position // width
            if chunk == len(chunks):
                chunks.append((chunk * width, min((chunk + 1) * width, spans[-1][1]), []))
            base, end, cuts = chunks[chunk]
            cuts.append((position - base, min(stop, end) - base))
            position = min(stop, end)
            count += 1
    return chunks, np.asarray(firsts)
