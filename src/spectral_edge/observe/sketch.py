"""The sketch engine: no copy of the parameters, only the cells of the last snapshot and of the last L updates.

A sketch is linear, so the sketch of an update is the difference of two sketches of the parameters. One pass over the
parameters an observation is all that touches them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spectral_edge.errors import InputError
from spectral_edge.observe.fold import Shard, make_fold
from spectral_edge.observe.plan import SketchPlan
from spectral_edge.observe.ring import SAMPLE, Embedded, Push

Array = NDArray[np.float64]


class SketchRing:
    """Sketches of the last L updates of a fixed list of tensors, by group.

    Args:
        tensors: the parameters at construction, the baseline of the first update.
        horizon: number L of updates to keep.
        plan: cells, rotations and signs of the groups.
        backend: "auto", "torch" or "numba".

    Raises:
        InputError: if the parameters lie on several devices, or compiled code cannot reach theirs.
    """

    def __init__(self, tensors: Sequence[Tensor], horizon: int, *, plan: SketchPlan, backend: str = "auto") -> None:
        self.horizon = horizon
        self.plan = plan
        self._device = tensors[0].device
        devices = sorted({str(tensor.device) for tensor in tensors})
        if len(devices) > 1:
            raise InputError(
                "sketch",
                expected="parameters on one device",
                found=", ".join(devices),
                remedy="use engine='exact', or select the parameters of one device",
            )
        self._fold = make_fold(plan, self._device, backend=backend)
        self._spans = [slice(group.first, group.first + group.cells) for group in plan.groups]
        self._rows = torch.zeros((horizon, plan.cells), dtype=torch.float64, device=self._device)
        self._slot, self._filled = -1, 0
        self._step = max(1, -(-sum(tensor.numel() for tensor in tensors) // SAMPLE))
        self._fresh = self._rebase(tensors)

    @property
    def backend(self) -> str:
        """Name of the backend in use."""
        return self._fold.name

    @property
    def filled(self) -> int:
        """Number of updates in the ring."""
        return self._filled

    @property
    def ready(self) -> bool:
        """Whether there is a finite snapshot to take differences from."""
        return self._fresh

    def push(self, tensors: Sequence[Tensor]) -> Push:
        """Takes the difference to the last snapshot as the newest update; lag rows are by group."""
        lags = np.full((len(self.plan.groups), self.horizon), np.nan)
        if not self._fresh:
            finite = self._fresh = self._rebase(tensors)
            return Push(lags, float("nan"), self._norm(), finite, moved=False)
        cells = self._sketch(tensors)
        slot, kept = (self._slot + 1) % self.horizon, min(self._filled + 1, self.horizon)
        torch.sub(cells, self._cells, out=self._rows[slot])
        if not bool(torch.isfinite(self._rows[slot]).all()):
            self.restart(tensors)
            return Push(lags, float("nan"), float("nan"), self._fresh, moved=False)
        sample = self._take_sample(tensors)
        fraction = float((sample != self._sampled).double().mean())
        moved = fraction > 0 or bool(self._rows[slot].any())
        if moved:
            self._cells, self._sampled = cells, sample
            self._slot, self._filled = slot, kept
            lags[:, :kept] = self._against(self._rows[slot])
        return Push(lags, fraction, self._norm(), finite=True, moved=moved)

    def restart(self, tensors: Sequence[Tensor]) -> None:
        """Forgets all updates and takes these parameters as the new baseline, if they are finite."""
        self._slot, self._filled = -1, 0
        self._fresh = self._rebase(tensors)

    def embed(self, vectors: Sequence[Tensor | None]) -> Embedded:
        """The cells of a vector of parameter space given by tensor; None is zero."""
        return [self._fold.fold([None if v is None else Shard(v.detach().reshape(-1)) for v in vectors])]

    def snapshot(self) -> Embedded:
        """The cells of the last snapshot."""
        return [self._cells.clone()]

    def products(self, vectors: Embedded) -> Array:
        """Inner products of a vector with d_t, d_{t-1}, ... by group [n, L]."""
        result = np.full((len(self.plan.groups), self.horizon), np.nan)
        if self._filled:
            result[:, : self._filled] = self._against(vectors[0])
        return result

    def inner(self, first: Embedded, second: Embedded | None = None) -> Array:
        """Inner products by group [n] of a vector with another, or with the newest update."""
        other = self._rows[self._slot] if second is None else second[0]
        product = (first[0] * other).cpu().numpy()
        return np.array([product[span].sum() for span in self._spans])

    def state_dict(self) -> dict[str, Any]:
        """A copy of everything that the next observation needs."""
        return {
            "slot": self._slot,
            "filled": self._filled,
            "fresh": self._fresh,
            "rows": self._rows.clone(),
            "cells": self._cells.clone(),
            "sampled": self._sampled.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a ring of the same plan and horizon.

        Raises:
            InputError: if the shapes differ.
        """
        if "cells" not in state or state["rows"].shape != self._rows.shape:
            raise InputError(
                "monitor state",
                expected=f"sketches of shape {tuple(self._rows.shape)}",
                found=str(tuple(state["rows"].shape)) if "rows" in state else "an exact engine's",
                remedy="construct the monitor with the same engine, cells and horizon",
            )
        self._rows.copy_(state["rows"])
        self._cells = state["cells"].to(self._device, copy=True)
        self._sampled = state["sampled"].to(self._device, copy=True)
        self._slot, self._filled, self._fresh = state["slot"], state["filled"], state["fresh"]

    def _against(self, vector: Tensor) -> Array:
        """Products of a vector's cells with the rows, newest first, by group [n, filled]."""
        rows = self._rows[: self._filled]
        found = torch.stack([torch.mv(rows[:, span], vector[span]) for span in self._spans])
        order = (self._slot - np.arange(self._filled)) % self.horizon
        return found.cpu().numpy()[:, order]

    def _sketch(self, tensors: Sequence[Tensor]) -> Tensor:
        return self._fold.fold([Shard(tensor.detach().reshape(-1)) for tensor in tensors])

    def _rebase(self, tensors: Sequence[Tensor]) -> bool:
        self._cells = self._sketch(tensors)
        self._sampled = self._take_sample(tensors)
        return bool(torch.isfinite(self._cells).all())

    def _take_sample(self, tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat([tensor.detach().reshape(-1)[:: self._step].float() for tensor in tensors])

    def _norm(self) -> float:
        return float(torch.linalg.vector_norm(self._cells))
