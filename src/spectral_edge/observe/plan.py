"""The plan of a rotated sign fold: which cell and which sign each parameter has.

The parameters of a group stand one behind the other in a virtual concatenation. It is cut into chunks as long as the
group has cells; every chunk is rotated by its own random amount, every value gets a random sign, and all is added into
the group's cells. Values of one chunk never share a cell, values of two chunks do with probability one over the cells,
with independent signs, so that E <Sx, Sy> = <x, y> with variance (|x|^2 |y|^2 + <x, y>^2) / cells. A group with as
many cells as parameters is kept exactly.

Rotations and signs depend on the seed, the group and the position in the concatenation alone, so that a shard of a
tensor contributes what the whole tensor would have contributed there. Signs come from one table that the seed makes: a
block of `BLOCK` values starts at a random place of it, and every chunk has a further sign of its own, which keeps the
estimate unbiased where two blocks happen to start alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

CELLS = 65_536
"""Default number of cells; in one group an isolated singular value is off by 0.28 %, one standard error."""
BLOCK = 65_536
"""Values that share one place in the sign table: as many whole chunks as fit, one at least."""
TABLE = 1 << 19
"""Places at which a block's signs can start; the table is one block longer."""


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """The cells of one group.

    Attributes:
        name: the group's name.
        members: indices of its tensors, in the order of the concatenation.
        starts: where each member starts in the concatenation.
        size: number of parameters.
        first: its first cell.
        cells: number of its cells, at most `size`.
        rotation: rotation of each chunk.
        sign: sign of each chunk, 1 or -1.
        offset: place in the sign table of each block of `block` values.
    """

    name: str
    members: tuple[int, ...]
    starts: tuple[int, ...]
    size: int
    first: int
    cells: int
    rotation: NDArray[np.int32]
    sign: NDArray[np.int8]
    offset: NDArray[np.int64]

    @property
    def block(self) -> int:
        """Values that share one place in the sign table."""
        return max(1, BLOCK // self.cells) * self.cells

    @property
    def exact(self) -> bool:
        """Whether the group is kept without error."""
        return self.cells >= self.size

    @property
    def error(self) -> float:
        """Relative standard error of an isolated singular value of this group."""
        return 0.0 if self.exact else float(1 / np.sqrt(2 * self.cells))


@dataclass(frozen=True)
class SketchPlan:
    """Cells, rotations and signs of every group; immutable, since strided sums and overlaps need one plan.

    Attributes:
        seed: of rotations and signs.
        groups: the groups, which share no tensor; their arrays are parts of the next three.
        rotation: rotation of every chunk of every group.
        sign: sign of every chunk.
        offset: place in the sign table of every block.
    """

    seed: int
    groups: tuple[GroupPlan, ...]
    rotation: NDArray[np.int32]
    sign: NDArray[np.int8]
    offset: NDArray[np.int64]

    @classmethod
    def make(
        cls, sizes: Sequence[int], groups: Mapping[str, Sequence[int]], *, cells: int = CELLS, seed: int = 0
    ) -> "SketchPlan":
        """Divides the cells among the groups and draws rotations and signs.

        Args:
            sizes: global number of parameters of each tensor.
            groups: indices of tensors by group; a partition.
            cells: number of cells in all.
            seed: of rotations and signs.
        """
        totals = [sum(sizes[index] for index in members) for members in groups.values()]
        shares = _shares(totals, cells)
        blocks = [max(1, BLOCK // width) * width for width in shares]
        chunks = np.cumsum([0, *(-(-size // width) for size, width in zip(totals, shares, strict=True))])
        places = np.cumsum([0, *(-(-size // block) for size, block in zip(totals, blocks, strict=True))])
        # One array for all groups, of which each group has its part: with many chunks a second copy would count.
        rotation, sign = np.empty(chunks[-1], dtype=np.int32), np.empty(chunks[-1], dtype=np.int8)
        offset = np.empty(places[-1], dtype=np.int64)
        planned: list[GroupPlan] = []
        first = 0
        for number, ((name, members), size, width) in enumerate(zip(groups.items(), totals, shares, strict=True)):
            of_chunks, of_blocks = slice(*chunks[number : number + 2]), slice(*places[number : number + 2])
            counts = of_chunks.stop - of_chunks.start, of_blocks.stop - of_blocks.start
            word = _words(seed, number, max(counts))
            sign[of_chunks] = 1 - 2 * (word[0, : counts[0]] >> np.uint64(63)).astype(np.int8)
            offset[of_blocks] = word[1, : counts[1]] % np.uint64(TABLE)
            # Two chunks whose places in the sign table differ as their rotations do would meet with equal signs in
            # every cell, and what repeats from chunk to chunk would add up. So the difference of the two is drawn
            # without replacement, which leaves each rotation uniform.
            distinct = _residues(seed, number, width, counts[0])
            rotation[of_chunks] = (
                np.repeat(offset[of_blocks], blocks[number] // width)[: counts[0]] - distinct
            ) % width
            ends = np.cumsum([sizes[index] for index in members])
            starts = (0, *(int(end) for end in ends[:-1]))
            part = rotation[of_chunks], sign[of_chunks], offset[of_blocks]
            planned.append(GroupPlan(name, tuple(members), starts, size, first, width, *part))
            first += width
        return cls(seed, tuple(planned), rotation, sign, offset)

    @property
    def cells(self) -> int:
        """Number of cells in all."""
        return sum(group.cells for group in self.groups)

    def describe(self) -> dict[str, Any]:
        """What a reader of the trace needs: seed, cells and relative standard errors by group."""
        return {
            "seed": self.seed,
            "cells": [group.cells for group in self.groups],
            "errors": [group.error for group in self.groups],
        }

    @cached_property
    def table(self) -> NDArray[np.int8]:
        """The sign table, 1 and -1."""
        longest = max(BLOCK, *(group.block for group in self.groups))
        bits = np.random.Generator(np.random.Philox(key=self.seed)).integers(0, 2, TABLE + longest, dtype=np.int8)
        return (1 - 2 * bits).astype(np.int8)


def _shares(totals: Sequence[int], cells: int) -> list[int]:
    """Cells for each group: an equal share, at most its size; what small groups leave goes to the others."""
    shares = [0] * len(totals)
    left = max(cells, len(totals))
    open_ = sorted(range(len(totals)), key=lambda index: totals[index])
    while open_:
        share = left // len(open_)
        index = open_.pop(0)
        shares[index] = min(totals[index], share)
        left -= shares[index]
    return shares


def _words(seed: int, group: int, count: int) -> NDArray[np.uint64]:
    """Two random 64-bit words for each of `count` positions of a group [2, count], by counter."""
    generator = np.random.Generator(np.random.Philox(key=(seed << 20) + group + 1))
    return generator.integers(0, 2**64, size=(count, 2), dtype=np.uint64, endpoint=False).T


def _residues(seed: int, group: int, width: int, count: int) -> NDArray[np.int64]:
    """Random numbers below `width`, one for each of `count` chunks; all different as long as there are enough."""
    generator = np.random.Generator(np.random.Philox(key=(1 << 120) + (seed << 20) + group + 1))
    rounds = [generator.permutation(width) for _ in range(-(-count // width))]
    return np.concatenate(rounds)[:count]
