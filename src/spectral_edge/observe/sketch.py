"""The sketch engine: no copy of the parameters, only the cells of the last snapshot and of the last L updates.

A sketch is linear, so the sketch of an update is the difference of two sketches of the parameters, and the sketch of a
model is the sum of the sketches of what its ranks hold. One pass over the parameters an observation is all that
touches them; one sum of the cells over the ranks is all that travels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spectral_edge.errors import InputError
from spectral_edge.observe.cursor import Ladder
from spectral_edge.observe.fold import make_fold
from spectral_edge.observe.plan import SketchPlan
from spectral_edge.observe.ranks import ALONE, Ranks
from spectral_edge.observe.ring import RESTART, VOID, VOTES, Embedded, Held, Push, restarted, sample_every
from spectral_edge.observe.shards import Shard

Array = NDArray[np.float64]


class SketchRing:
    """Sketches of the last L updates of a fixed list of tensors, by group.

    Args:
        held: what is counted here of the parameters at construction, the baseline of the first update.
        horizon: number L of updates to keep.
        plan: cells, rotations and signs of the groups.
        backend: a name of `fold.BACKENDS`.
        ladder: number of rings for updates summed over 2, 4, ... observations.
        ranks: the processes that observe together.
        watched: number of parameters of all ranks; that of `held` by default.

    Raises:
        InputError: if the parameters lie on several devices, or compiled code cannot reach theirs.
    """

    def __init__(
        self,
        held: Held,
        horizon: int,
        *,
        plan: SketchPlan,
        backend: str = "auto",
        ladder: int = 0,
        ranks: Ranks = ALONE,
        watched: int | None = None,
    ) -> None:
        self.horizon = horizon
        self.plan = plan
        self._ranks = ranks
        devices = sorted({str(shard.device) for shard in held if shard is not None})
        if len(devices) > 1:
            raise InputError(
                "sketch",
                expected="parameters on one device",
                found=", ".join(devices),
                remedy="use engine='exact', or select the parameters of one device",
            )
        self._device = torch.device(devices[0] if devices else "cpu")
        self._fold = make_fold(plan, self._device, backend=backend)
        self._spans = [slice(group.first, group.first + group.cells) for group in plan.groups]
        shape = (1 + ladder, horizon, plan.cells)
        self._rows = torch.zeros(shape, dtype=torch.float64, device=self._device)
        self._cells = torch.zeros(plan.cells, dtype=torch.float64, device=self._device)
        self._spare = torch.zeros_like(self._cells)
        self._ladder = Ladder(horizon, ladder)
        self._every = sample_every(held, watched)
        self._sampled: Tensor | None = None
        self._fresh = False
        self.push(held)

    @property
    def backend(self) -> str:
        """Name of the backend in use."""
        return self._fold.name

    @property
    def filled(self) -> int:
        """Number of updates in the ring."""
        return self._ladder.base.filled

    @property
    def ready(self) -> bool:
        """Whether there is a finite snapshot to take differences from."""
        return self._fresh

    def push(self, held: Held | None, header: Array | None = None) -> Push:
        """Takes the difference to the last snapshot as the newest update; lag rows are by group.

        Args:
            held: what is counted here of the parameters now; None if that could not be found out.
            header: votes, and whatever else is to be added up over the ranks.
        """
        votes = np.zeros(VOTES) if header is None else header
        sample, counts, problem = None, np.zeros(2), None
        cells = torch.zeros_like(self._cells) if held is None else self._spare
        try:
            if held is not None:
                cells, sample = self._read(held)
            if sample is not None and self._sampled is not None and len(sample) == len(self._sampled):
                counts = np.array([float((sample != self._sampled).sum()), len(sample)])
        except Exception as error:  # to be raised once the other ranks, which wait, have been told
            problem, votes, cells = error, votes.copy(), torch.zeros_like(self._cells)
            votes[VOID] += 1
        votes, counts, cells = self._add(votes, counts, cells)
        push = self._judge(votes, counts, cells, sample)
        if problem is not None:
            raise problem
        return push

    def _judge(self, votes: Array, counts: Array, cells: Tensor, sample: Tensor | None) -> Push:
        nothing = np.full((len(self.plan.groups), self.horizon), np.nan)
        base = self._ladder.base
        slot, _ = base.next()
        rows = self._rows[0]
        torch.sub(cells, self._cells, out=rows[slot])
        was_fresh = self._fresh
        norm = float(torch.linalg.vector_norm(cells))
        if votes[VOID] or votes[RESTART] or not was_fresh or not np.isfinite(norm):
            self._ladder.clear()
            self._fresh = bool(np.isfinite(norm)) and not votes[VOID]
            self._keep(cells, sample)
            return restarted(nothing, norm, votes, fresh=self._fresh, was_fresh=was_fresh)
        moved = bool(counts[0]) or bool(rows[slot].any())
        found: dict[int, Array] = {}
        if moved:
            self._keep(cells, sample)
            for climb in self._ladder.climbs():
                below, level = self._rows[climb.level - 1], self._rows[climb.level]
                torch.add(below[climb.newest], below[climb.older], out=level[climb.slot])
                order = self._ladder.cursors[climb.level].order(ahead=True)
                found[1 << climb.level] = self._against(level[climb.slot], order, climb.level)
            self._ladder.advance()
            nothing = self._against(rows[slot], base.order())
        elif self._sampled is None:
            self._sampled = sample
        fraction = float(counts[0] / counts[1]) if counts[1] else float("nan")
        return Push(nothing, fraction, norm, finite=True, moved=moved, header=votes, ladder=found)

    def _keep(self, cells: Tensor, sample: Tensor | None) -> None:
        """Takes these cells as the last snapshot's, and the memory of those before for the next fold."""
        self._spare, self._cells, self._sampled = self._cells, cells, sample

    def _add(self, votes: Array, counts: Array, cells: Tensor) -> tuple[Array, Array, Tensor]:
        """Adds up over the ranks what each of them found."""
        if self._ranks.size == 1:
            return votes, counts, cells
        added = self._ranks.sum(np.concatenate([votes, counts, cells.cpu().numpy()]))
        votes, counts, summed = np.split(added, [len(votes), len(votes) + len(counts)])
        return votes, counts, torch.from_numpy(summed).to(self._device)

    def embed(self, vectors: Held) -> Embedded:
        """The cells of a vector of parameter space given by tensor; None is zero."""
        return [self._add(np.zeros(0), np.zeros(0), self._fold.fold(vectors))[2]]

    def snapshot(self) -> Embedded:
        """The cells of the last snapshot."""
        return [self._cells.clone()]

    def products(self, vectors: Embedded) -> Array:
        """Inner products of a vector with d_t, d_{t-1}, ... by group [n, L]."""
        return self._against(vectors[0], self._ladder.base.order())

    def inner(self, first: Embedded, second: Embedded | None = None) -> Array:
        """Inner products by group [n] of a vector with another, or with the newest update."""
        other = self._rows[0, self._ladder.base.slot] if second is None else second[0]
        product = (first[0] * other).cpu().numpy()
        return np.array([product[span].sum() for span in self._spans])

    def forget(self) -> None:
        """Empties the ring; the last snapshot stays the baseline of the next update."""
        self._ladder.clear()

    def state_dict(self) -> dict[str, Any]:
        """A copy of everything that the next observation needs; the same on every rank but for the sample."""
        return {
            "ladder": self._ladder.state_dict(),
            "fresh": self._fresh,
            "rows": self._rows.clone(),
            "cells": self._cells.clone(),
            "sampled": None if self._sampled is None else self._sampled.clone(),
        }

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """Restores a ring of the same plan and horizon, from the state of any rank that saved it.

        Raises:
            InputError: if the shapes differ.
        """
        state = states[self._ranks.rank] if len(states) == self._ranks.size else states[0]
        if "cells" not in state or state["rows"].shape != self._rows.shape:
            raise InputError(
                "monitor state",
                expected=f"sketches of shape {tuple(self._rows.shape)} (ladder, horizon, cells)",
                found=str(tuple(state["rows"].shape)) if "rows" in state else "an exact engine's",
                remedy="construct the monitor with the same engine, cells, horizon and ladder",
            )
        self._rows.copy_(state["rows"])
        self._cells = state["cells"].to(self._device, copy=True)
        sampled, ours = state["sampled"], self._sampled
        # On another number of ranks the sample lies elsewhere; the share that moved is unknown for one row then.
        self._sampled = None
        if sampled is not None and ours is not None and sampled.shape == ours.shape and len(states) == self._ranks.size:
            self._sampled = sampled.to(self._device, copy=True)
        self._ladder.load_state_dict(state["ladder"])
        self._fresh = state["fresh"]

    def _against(self, vector: Tensor, order: NDArray[np.intp], level: int = 0) -> Array:
        """Products of a vector's cells with the filled rows in this order, by group [n, L]; NaN beyond them."""
        found = np.full((len(self.plan.groups), self.horizon), np.nan)
        if len(order):
            rows = self._rows[level, : len(order)]
            products = torch.stack([torch.mv(rows[:, span], vector[span]) for span in self._spans])
            found[:, : len(order)] = products.cpu().numpy()[:, order]
        return found

    def push_cells(self, cells: Tensor, header: Array | None = None, *, moved: bool = False) -> Push:
        """As `push`, of parameters of which only the sketch is known.

        Args:
            cells: the sketch of the parameters now.
            header: votes, and whatever else is to be added up over the ranks.
            moved: whether a parameter is known to have moved, even if no cell did.
        """
        votes = np.zeros(VOTES) if header is None else header
        return self._judge(votes, np.array([float(moved), 0.0]), cells.clone(), None)

    def _read(self, held: Held) -> tuple[Tensor, Tensor]:
        """Cells and sample of what is held; what has to be loaded is loaded once, one tensor at a time."""
        if all(shard is None or shard.resident for shard in held):
            return self._fold.fold(held, self._spare), self._fold.sample(held, self._every)
        cells, parts = torch.zeros_like(self._cells), [torch.empty(0, device=self._device)]
        for at, shard in enumerate(held):
            if shard is not None:
                alone: list[Shard | None] = [None] * len(held)
                with shard.held():
                    alone[at] = shard
                    cells += self._fold.fold(alone, self._spare)
                    parts.append(shard.sample(self._every))
        return cells, torch.cat(parts)
