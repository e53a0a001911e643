"""Constructed worst cases for sketches: updates with the structure that some random projection is blind to.

Ten directions of a family are made orthonormal, given lengths that fall from 1 to 1/10, and mixed by a random rotation
into ten updates, so that the singular values of the window are these lengths.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

COUNT = 10
"""Updates in a window."""
WIDTH = 64
"""Values in a row of the embedding."""
HOT = 128
"""Values in a bias."""

Layout = dict[str, tuple[int, ...]]
Direction = Callable[[Layout, torch.Generator], Tensor]


def layout(quick: bool) -> Layout:
    """An embedding and eight layers of a matrix and a bias: 2,098,176 parameters, or 66,560."""
    rows, tall, wide = (512, 64, 64) if quick else (8192, 512, 384)
    found: Layout = {"wte.weight": (rows, WIDTH)}
    for layer in range(8):
        found |= {f"h.{layer}.weight": (tall, wide), f"h.{layer}.bias": (HOT,)}
    return found


def total(shapes: Layout) -> int:
    """Number of parameters."""
    return sum(math.prod(shape) for shape in shapes.values())


def _place(shapes: Layout, name: str) -> slice:
    """Where a tensor lies in the concatenation."""
    start = 0
    for other, shape in shapes.items():
        if other == name:
            return slice(start, start + math.prod(shape))
        start += math.prod(shape)
    raise KeyError(name)


def _normal(count: int, generator: torch.Generator) -> Tensor:
    return torch.randn(count, generator=generator, dtype=torch.float64)


def constant_blocks(shapes: Layout, generator: torch.Generator) -> Tensor:
    """One value for each 65,536 in a row."""
    size = total(shapes)
    block = min(65_536, size // 24)
    return _normal(-(-size // block), generator).repeat_interleave(block)[:size]


def sparse_rows(shapes: Layout, generator: torch.Generator) -> Tensor:
    """Twenty rows of the embedding, all else zero."""
    found = torch.zeros(total(shapes), dtype=torch.float64)
    rows = shapes["wte.weight"][0]
    for row in torch.randperm(rows, generator=generator)[:20].tolist():
        found[row * WIDTH : (row + 1) * WIDTH] = _normal(WIDTH, generator)
    return found


def hot_tensor(shapes: Layout, generator: torch.Generator) -> Tensor:
    """All but a hundredth of the length in one bias of 128 values."""
    found = _normal(total(shapes), generator)
    found *= 0.01 / found.norm()
    bias = _normal(HOT, generator)
    found[_place(shapes, "h.3.bias")] = bias / bias.norm()
    return found


def embedding_column(shapes: Layout, generator: torch.Generator) -> Tensor:
    """One column of the embedding: every 64th value."""
    found = torch.zeros(total(shapes), dtype=torch.float64)
    place = _place(shapes, "wte.weight")
    found[place][5::WIDTH] = _normal(shapes["wte.weight"][0], generator)
    return found


def repeating_blocks(shapes: Layout, generator: torch.Generator) -> Tensor:
    """The same 65,536 values over and over."""
    size = total(shapes)
    block = min(65_536, size // 8)
    return _normal(block, generator).repeat(-(-size // block))[:size]


def waves(shapes: Layout, generator: torch.Generator) -> Tensor:
    """A sine with a whole number of periods, at most 4,096, in each 65,536 values."""
    count = int(torch.randint(1, 4097, (1,), generator=generator))
    phase = 2 * math.pi * float(torch.rand(1, generator=generator))
    place = torch.arange(total(shapes)) % 65_536
    return torch.sin(2 * math.pi * count / 65_536 * place.double() + phase)


def rank_one(shapes: Layout, generator: torch.Generator) -> Tensor:
    """Each matrix the product of a column and a row."""
    pieces: list[Tensor] = []
    for shape in shapes.values():
        column = _normal(shape[0], generator)
        pieces.append(column if len(shape) == 1 else torch.outer(column, _normal(shape[1], generator)).view(-1))
    return torch.cat(pieces)


SETS: dict[str, Direction] = {
    "constant blocks": constant_blocks,
    "sparse embedding rows": sparse_rows,
    "one hot 128-value tensor": hot_tensor,
    "one embedding column": embedding_column,
    "blocks repeating every 65,536": repeating_blocks,
    "periodic waves": waves,
    "rank-one matrices": rank_one,
}
"""The seven families by name."""


def window(shapes: Layout, direction: Direction | None, seed: int) -> list[dict[str, Tensor]]:
    """Eleven float32 snapshots, whose ten differences are the updates.

    Args:
        shapes: shapes by name.
        direction: makes one direction; None makes ten independent normal updates of one length: a flat spectrum.
        seed: of everything.
    """
    generator = torch.Generator().manual_seed(seed)
    size = total(shapes)
    if direction is None:
        updates = torch.randn((COUNT, size), generator=generator, dtype=torch.float64)
    else:
        rows = torch.stack([direction(shapes, generator) for _ in range(COUNT)])
        basis = torch.linalg.qr(rows.T).Q
        lengths = torch.from_numpy(np.geomspace(1, 0.1, COUNT)) * math.sqrt(size)
        mixing = torch.linalg.qr(torch.randn((COUNT, COUNT), generator=generator, dtype=torch.float64)).Q
        updates = (mixing * lengths) @ basis.T
    position = 0.02 * torch.randn(size, generator=generator, dtype=torch.float64)
    snapshots = [_split(position.float(), shapes)]
    for update in updates:
        position = position + 1e-3 * update
        snapshots.append(_split(position.float(), shapes))
    return snapshots


def _split(flat: Tensor, shapes: Layout) -> dict[str, Tensor]:
    pieces = flat.split([math.prod(shape) for shape in shapes.values()])
    return {name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}
