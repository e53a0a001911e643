"""The exact engine: a ring of the last L updates and their inner products in float64.

Updates are kept in the parameters' dtype (or a narrower one on request), concatenated over the tensors that share a
device and dtype. Products are formed chunk by chunk: a chunk of every row is widened to float64 in cache, one
matrix-vector product gives its partial inner products, and the partial products of a tensor are summed in extended
precision, so that a lag row is good to the last digits of float64 whatever P is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spectral_edge.errors import InputError

Array = NDArray[np.float64]

_CHUNK_CPU = 8192
"""Values of a row that are widened at once: with 20 rows 1.3 MB of float64, which stays in a core's cache."""
_CHUNK_DEVICE = 1 << 20
"""The same on an accelerator, where a launch costs more than the traffic that a smaller chunk saves."""
SAMPLE = 65_536
"""Coordinates behind `moved_fraction`, at most."""

Embedded = list[Tensor]
"""A vector of parameter space as an engine keeps it: values by tensor here, cells in a sketch."""


@dataclass(frozen=True, slots=True)
class Push:
    """What one observation found.

    Attributes:
        lags: r[l] = <d_t, d_{t-l}> by tensor [n, L]; NaN beyond the last restart.
        moved_fraction: share of a fixed sample of coordinates that changed.
        parameter_norm: norm of the watched parameters.
        finite: whether every parameter is finite; if not, nothing was kept and the ring is empty.
        moved: whether any parameter changed; if not, the row was left out.
    """

    lags: Array
    moved_fraction: float
    parameter_norm: float
    finite: bool
    moved: bool


class ExactRing:
    """The last L updates of a fixed list of tensors.

    Args:
        tensors: the parameters at construction, the baseline of the first update.
        horizon: number L of updates to keep.
        dtype: of the kept updates; None keeps each tensor's own.
        device: where updates are kept; None keeps them with the parameters.
    """

    def __init__(
        self,
        tensors: Sequence[Tensor],
        horizon: int,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        self.horizon = horizon
        self._count = len(tensors)
        keys: dict[tuple[torch.device, torch.dtype], list[int]] = {}
        for index, tensor in enumerate(tensors):
            place = tensor.device if device is None else torch.device(device)
            keys.setdefault((place, tensor.dtype), []).append(index)
        self._banks = [
            _Bank(members, [tensors[i] for i in members], place, horizon, dtype) for (place, _), members in keys.items()
        ]
        self._slot = -1
        self._filled = 0
        self._fresh = self._rebase(tensors)

    @property
    def filled(self) -> int:
        """Number of updates in the ring."""
        return self._filled

    @property
    def ready(self) -> bool:
        """Whether there is a finite snapshot to take differences from."""
        return self._fresh

    def push(self, tensors: Sequence[Tensor]) -> Push:
        """Takes the difference to the last snapshot as the newest update."""
        lags = np.full((self._count, self.horizon), np.nan)
        if not self._fresh:
            finite = self._fresh = self._rebase(tensors)
            return Push(lags, float("nan"), self._norm(), finite, moved=False)
        slot = (self._slot + 1) % self.horizon
        kept = min(self._filled + 1, self.horizon)
        # The slot that is written held d_{t-L}, which no lag needs any more, so a rejected row loses nothing.
        for bank in self._banks:
            bank.write(slot, tensors)
        order = (slot - np.arange(kept)) % self.horizon
        for bank in self._banks:
            products = bank.products(kept, slot)
            lags[bank.members, :kept] = products[:, order]
        square = lags[:, 0]
        if not np.isfinite(square).all():
            self.restart(tensors)
            return Push(np.full_like(lags, np.nan), float("nan"), float("nan"), self._fresh, moved=False)
        moved = bool((square > 0).any()) or any(bank.changed(slot) for bank in self._banks)
        fraction = self._moved_fraction(slot)
        if moved:
            for bank in self._banks:
                bank.rebase(tensors)
            self._slot, self._filled = slot, kept
        return Push(lags, fraction, self._norm(), finite=True, moved=moved)

    def restart(self, tensors: Sequence[Tensor]) -> None:
        """Forgets all updates and takes these parameters as the new baseline, if they are finite."""
        self._slot, self._filled = -1, 0
        self._fresh = self._rebase(tensors)

    def embed(self, vectors: Sequence[Tensor | None]) -> Embedded:
        """A copy of a vector of parameter space given by tensor; None is zero."""
        return [
            torch.zeros_like(kept) if vector is None else vector.detach().reshape(-1).clone()
            for kept, vector in zip(self._parameters(), vectors, strict=True)
        ]

    def snapshot(self) -> Embedded:
        """A copy of the parameters of the last snapshot."""
        return [kept.clone() for kept in self._parameters()]

    def products(self, vectors: Embedded) -> Array:
        """Inner products of a vector with d_t, d_{t-1}, ... by tensor [n, L]."""
        result = np.full((self._count, self.horizon), np.nan)
        order = (self._slot - np.arange(self._filled)) % self.horizon
        for bank in self._banks:
            if self._filled:
                result[bank.members, : self._filled] = bank.products(self._filled, bank.flatten(vectors))[:, order]
        return result

    def inner(self, first: Embedded, second: Embedded | None = None) -> Array:
        """Inner products by tensor [n] of a vector with another, or with the newest update, in float64."""
        result = np.empty(self._count)
        for bank in self._banks:
            other = bank.rows[self._slot] if second is None else bank.flatten(second)
            result[bank.members] = bank.inner(bank.flatten(first), other)
        return result

    def _parameters(self) -> list[Tensor]:
        views: list[Tensor] = [torch.empty(0)] * self._count
        for bank in self._banks:
            for member, (start, stop) in zip(bank.members, bank.spans, strict=True):
                views[member] = bank.previous[start:stop]
        return views

    def state_dict(self) -> dict[str, Any]:
        """A copy of everything that the next observation needs."""
        return {
            "slot": self._slot,
            "filled": self._filled,
            "fresh": self._fresh,
            "banks": [{"rows": bank.rows.clone(), "previous": bank.previous.clone()} for bank in self._banks],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a ring of the same tensors and horizon.

        Raises:
            InputError: if the shapes or dtypes differ.
        """
        horizon = len(state["banks"][0]["rows"]) if state.get("banks") else 0
        if horizon != self.horizon:
            raise InputError(
                "monitor state",
                expected=f"horizon {self.horizon}",
                found=f"horizon {horizon}",
                remedy="construct the monitor with the horizon of the saved run; by default it is twice the window",
            )
        ours = [(tuple(bank.rows.shape), bank.rows.dtype) for bank in self._banks]
        theirs = [(tuple(bank["rows"].shape), bank["rows"].dtype) for bank in state["banks"]]
        if ours != theirs:
            raise InputError(
                "monitor state",
                expected=f"updates of shape and dtype {ours}",
                found=str(theirs),
                remedy="construct the monitor with the same model, select and horizon",
            )
        for bank, saved in zip(self._banks, state["banks"], strict=True):
            bank.rows.copy_(saved["rows"])
            bank.previous.copy_(saved["previous"])
        self._slot, self._filled, self._fresh = state["slot"], state["filled"], state["fresh"]

    def _rebase(self, tensors: Sequence[Tensor]) -> bool:
        for bank in self._banks:
            bank.rebase(tensors)
        return bool(np.isfinite(self._norm()))

    def _norm(self) -> float:
        return float(np.sqrt(sum(bank.norm_square() for bank in self._banks)))

    def _moved_fraction(self, slot: int) -> float:
        total = sum(bank.size for bank in self._banks)
        step = max(1, -(-total // SAMPLE))
        counts = [bank.moved(slot, step) for bank in self._banks]
        return sum(moved for moved, _ in counts) / max(1, sum(seen for _, seen in counts))


class _Bank:
    """The tensors of one device and dtype, concatenated."""

    def __init__(
        self,
        members: list[int],
        tensors: Sequence[Tensor],
        device: torch.device,
        horizon: int,
        dtype: torch.dtype | None,
    ) -> None:
        self.members = members
        ends = np.cumsum([tensor.numel() for tensor in tensors]).tolist()
        self.spans = list(zip([0, *ends[:-1]], ends, strict=True))
        self.size = int(ends[-1])
        self.previous = torch.empty(self.size, dtype=tensors[0].dtype, device=device)
        self.rows = torch.zeros((horizon, self.size), dtype=dtype or tensors[0].dtype, device=device)
        width = min(self.size, _CHUNK_CPU if device.type == "cpu" else _CHUNK_DEVICE)
        self._wide = torch.empty((horizon, width), dtype=torch.float64, device=device)
        self._vector = torch.empty(width, dtype=torch.float64, device=device)
        self._plan, self._firsts = _plan(self.spans, width)
        self._pieces = sum(len(cuts) for _, _, cuts in self._plan)

    def write(self, slot: int, tensors: Sequence[Tensor]) -> None:
        """Writes the difference to the last snapshot into a slot."""
        for member, (start, stop) in zip(self.members, self.spans, strict=True):
            now = tensors[member].detach().reshape(-1)
            before, row = self.previous[start:stop], self.rows[slot, start:stop]
            if now.dtype == row.dtype and now.device == row.device:
                torch.sub(now, before, out=row)
            else:
                row.copy_(now.to(before.device) - before)

    def rebase(self, tensors: Sequence[Tensor]) -> None:
        """Takes these parameters as the last snapshot."""
        for member, (start, stop) in zip(self.members, self.spans, strict=True):
            self.previous[start:stop].copy_(tensors[member].detach().reshape(-1))

    def flatten(self, vectors: Sequence[Tensor]) -> Tensor:
        """The bank's part of a vector that is given by tensor."""
        return torch.cat([vectors[member].detach().reshape(-1).to(self.previous.device) for member in self.members])

    def products(self, kept: int, other: int | Tensor) -> Array:
        """Inner products of the first `kept` slots with a slot or a flat vector, by tensor [n, kept]."""
        partial = torch.empty((self._pieces, kept), dtype=torch.float64, device=self.rows.device)
        piece = 0
        for start, stop, cuts in self._plan:
            wide = self._wide[:kept, : stop - start]
            wide.copy_(self.rows[:kept, start:stop])
            square = None
            if isinstance(other, int):
                vector = wide[other]
                square = torch.mul(vector, vector, out=self._vector[: stop - start])
            else:
                vector = self._vector[: stop - start].copy_(other[start:stop])
            for a, b in cuts:
                torch.mv(wide[:, a:b], vector[a:b], out=partial[piece])
                if square is not None:
                    # Squares of float32 values end in the bits 001, so that a running sum rounds them down more
                    # often than up: 1e-15 relative, which hides sigma_W at condition 1e6. torch.sum adds pairwise.
                    torch.sum(square[a:b], dim=0, out=partial[piece, other])
                piece += 1
        return self._by_tensor(partial)

    def inner(self, first: Tensor, second: Tensor) -> Array:
        """Inner products of two flat vectors by tensor [n]."""
        partial = torch.empty((self._pieces, 1), dtype=torch.float64, device=self.rows.device)
        piece = 0
        for start, _, cuts in self._plan:
            for a, b in cuts:
                left, right = first[start + a : start + b].double(), second[start + a : start + b].double()
                partial[piece, 0] = torch.dot(left, right)
                piece += 1
        return self._by_tensor(partial)[:, 0]

    def norm_square(self) -> float:
        """Squared norm of the last snapshot, in its own dtype's accumulation unless that overflows."""
        wide = None if self.previous.element_size() >= 4 else torch.float32
        norm = float(torch.linalg.vector_norm(self.previous, dtype=wide))
        if not np.isfinite(norm) and bool(torch.isfinite(self.previous).all()):
            norm = float(torch.linalg.vector_norm(self.previous.double()))
        return norm**2

    def changed(self, slot: int) -> bool:
        """Whether a slot holds any nonzero value; squares can underflow where values do not."""
        return bool(self.rows[slot].any())

    def moved(self, slot: int, step: int) -> tuple[int, int]:
        """How many of every step-th coordinate changed, and how many were looked at."""
        sample = self.rows[slot, ::step]
        return int(torch.count_nonzero(sample)), sample.numel()

    def _by_tensor(self, partial: Tensor) -> Array:
        pieces = partial.cpu().numpy().astype(np.longdouble)
        return np.add.reduceat(pieces, self._firsts, axis=0).astype(np.float64)


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
