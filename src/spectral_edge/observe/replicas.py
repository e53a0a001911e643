"""Whether ranks that should hold equal values do, seen from a few sums of a sample of what each holds.

Replicas are divided among the ranks for the observation itself, so that a drift between them would stay unseen. Every
rank therefore adds to the reduction, in places of its own, `PARTS` sums of a sampled part of what it holds, with random
signs. Equal replicas give equal sums to the last bit; for others the squared differences of the sums estimate the
squared distance of the samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from spectral_edge.observe.layout import Layout
from spectral_edge.observe.ranks import Ranks
from spectral_edge.observe.shards import Shard

Array = NDArray[np.float64]

PARTS = 16
"""Sums a replica; the relative distance is known to about 1 / sqrt(2 PARTS)."""
SAMPLE = 65_536
"""Sampled values of a replica, about; every tensor gives one at least."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How far replicas are apart.

    Attributes:
        distance: largest distance of a replica from the first, relative to the norm of the sampled values.
        ranks: the two ranks.
    """

    distance: float
    ranks: tuple[int, int]


class ReplicaCheck:
    """Compares what several ranks hold.

    Args:
        layout: who holds what.
        ranks: the processes.
    """

    def __init__(self, layout: Layout, ranks: Ranks) -> None:
        self._rank = ranks.rank
        self._layout = layout
        self._sets = list(layout.replicas.items()) if ranks.size > 1 else []
        self._offsets = np.cumsum([0, *((PARTS + 1) * len(members) for members, _ in self._sets)])
        self._every = max(1, -(-layout.inventory.watched // SAMPLE))
        self._signs: dict[int, torch.Tensor] = {}

    @property
    def size(self) -> int:
        """How many numbers it adds to a reduction."""
        return int(self._offsets[-1])

    def sums(self, held: Sequence[Shard]) -> Array:
        """This rank's sums in their places, zero elsewhere."""
        found = np.zeros(self.size)
        for (members, where), offset in zip(self._sets, self._offsets[:-1], strict=True):
            if self._rank not in members:
                continue
            parts = [held[index].values[:: self._every] for _, index in where]
            sample = torch.cat([part.double() for part in parts])
            signed = sample * self._sign(len(sample)).to(sample.device)
            folded = torch.zeros(PARTS * -(-len(signed) // PARTS), dtype=torch.float64, device=sample.device)
            folded[: len(signed)] = signed
            at = int(offset) + members.index(self._rank) * (PARTS + 1)
            found[at : at + PARTS] = folded.view(-1, PARTS).sum(dim=0).cpu().numpy()
            found[at + PARTS] = float(torch.dot(sample, sample))
        return found

    def judge(self, added: Array) -> Drift | None:
        """The largest drift among replicas, from the sums of all ranks; None without replicas."""
        worst: Drift | None = None
        for (members, _), offset in zip(self._sets, self._offsets[:-1], strict=True):
            block = added[offset : offset + len(members) * (PARTS + 1)].reshape(len(members), PARTS + 1)
            distance = np.sqrt(((block[:, :PARTS] - block[0, :PARTS]) ** 2).sum(axis=1))
            relative = distance / np.sqrt(np.where(block[0, PARTS] > 0, block[0, PARTS], 1.0))
            at = int(np.argmax(np.nan_to_num(relative)))
            if worst is None or relative[at] > worst.distance:
                worst = Drift(float(relative[at]), (members[0], members[at]))
        return worst

    def _sign(self, size: int) -> torch.Tensor:
        if size not in self._signs:
            bits = np.random.Generator(np.random.Philox(key=7)).integers(0, 2, size)
            self._signs[size] = torch.from_numpy(1.0 - 2.0 * bits)
        return self._signs[size]
