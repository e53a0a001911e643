"""The exact engine: a ring of the last L updates and their inner products in float64.

Updates are kept in the parameters' dtype (or a narrower one on request), concatenated over the tensors that share a
device and dtype. Each rank keeps what it counts and forms its part of the inner products; one sum over the ranks gives
the lag rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spectral_edge.errors import InputError
from spectral_edge.observe.bank import Bank
from spectral_edge.observe.cursor import Ladder
from spectral_edge.observe.ranks import ALONE, Ranks
from spectral_edge.observe.shards import Shard

Array = NDArray[np.float64]

SAMPLE = 65_536
"""Coordinates behind `moved_fraction`, at most."""

VOID, RESTART = 0, 1
"""Votes at the head of what ranks add up: one could not observe; one wants a new baseline."""
VOTES = 2

Held = Sequence[Shard | None]
"""What this process counts of each watched tensor; None where it counts nothing."""

Embedded = list[Tensor]
"""A vector of parameter space as an engine keeps it: values by tensor here, cells in a sketch."""


@dataclass(frozen=True, slots=True)
class Push:
    """What one observation found, the same on every rank.

    Attributes:
        lags: r[l] = <d_t, d_{t-l}> by tensor [n, L]; NaN beyond the last restart.
        moved_fraction: share of a fixed sample of coordinates that changed.
        parameter_norm: norm of the watched parameters.
        finite: whether every parameter is finite; if not, nothing was kept and the ring is empty.
        moved: whether any parameter changed; if not, the row was left out.
        baseline: whether these parameters became the first snapshot of an empty ring, so that there is no row.
        void: whether a rank could not observe; then nothing was kept.
        header: what the ranks gave, added up.
        ladder: lag rows of updates summed over 2, 4, ... observations, by that number, where one became complete.
    """

    lags: Array
    moved_fraction: float
    parameter_norm: float
    finite: bool
    moved: bool
    baseline: bool = False
    void: bool = False
    header: Array = field(default_factory=lambda: np.zeros(VOTES))
    ladder: Mapping[int, Array] = field(default_factory=dict)


def restarted(nothing: Array, norm: float, votes: Array, *, fresh: bool, was_fresh: bool) -> Push:
    """What an engine says when it emptied its ring: as it was asked to, as it began, or since values are not finite."""
    asked = bool(votes[RESTART]) or not was_fresh
    return Push(
        nothing,
        float("nan"),
        norm,
        finite=fresh and asked,
        moved=False,
        baseline=fresh and asked,
        void=bool(votes[VOID]),
        header=votes,
    )


def sample_every(held: Held, watched: int | None) -> int:
    """One of how many runs of coordinates is in the sample that tells how many moved."""
    total = sum(shard.numel for shard in held if shard is not None) if watched is None else watched
    return max(1, -(-total // SAMPLE))


class ExactRing:
    """The last L updates of a fixed list of tensors.

    Args:
        held: what is counted here of the parameters at construction, the baseline of the first update.
        horizon: number L of updates to keep.
        dtype: of the kept updates; None keeps each tensor's own.
        device: where updates are kept; None keeps them with the parameters.
        ladder: number of rings for updates summed over 2, 4, ... observations.
        ranks: the processes that observe together.
        watched: number of parameters of all ranks; that of `held` by default.
    """

    def __init__(
        self,
        held: Held,
        horizon: int,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        ladder: int = 0,
        ranks: Ranks = ALONE,
        watched: int | None = None,
    ) -> None:
        self.horizon = horizon
        self._count = len(held)
        self._ranks = ranks
        self._ladder = Ladder(horizon, ladder)
        every = sample_every(held, watched)
        keys: dict[tuple[torch.device, torch.dtype], list[int]] = {}
        for index, shard in enumerate(held):
            if shard is not None:
                place = shard.device if device is None else torch.device(device)
                keys.setdefault((place, shard.dtype), []).append(index)
        self._banks = [
            Bank(members, _of(held, members), place, horizon, dtype, 1 + ladder, every)
            for (place, _), members in keys.items()
        ]
        self._fresh = False
        self.push(held)

    @property
    def filled(self) -> int:
        """Number of updates in the ring."""
        return self._ladder.base.filled

    @property
    def ready(self) -> bool:
        """Whether there is a finite snapshot to take differences from."""
        return self._fresh

    def push(self, held: Held | None, header: Array | None = None) -> Push:
        """Takes the difference to the last snapshot as the newest update.

        Args:
            held: what is counted here of the parameters now; None if that could not be found out.
            header: votes, and whatever else is to be added up over the ranks.
        """
        votes = np.zeros(VOTES) if header is None else header
        problem = None
        try:
            scalars, lags = self._local(held, only_baseline=not self._fresh or votes[RESTART] > 0)
        except Exception as error:  # to be raised once the other ranks, which wait, have been told
            problem = error
            scalars, lags = np.zeros(4), np.zeros((len(self._ladder.cursors), self._count, self.horizon))
            votes = votes.copy()
            votes[VOID] += 1
        added = self._ranks.sum(np.concatenate([votes, scalars, lags.ravel()]))
        votes, scalars, lags = np.split(added, [len(votes), len(votes) + len(scalars)])
        push = self._judge(votes, scalars, lags.reshape(-1, self._count, self.horizon))
        if problem is not None:
            raise problem
        return push

    def _local(self, held: Held | None, *, only_baseline: bool) -> tuple[Array, Array]:
        """This rank's part: squared norm, how much changed, moved and was looked at; products by level [k, n, L].

        Where a rank already knows that there will be no row it saves itself the products.
        """
        base = self._ladder.base
        slot, kept = base.next()
        order = base.order(ahead=True)
        lags = np.zeros((len(self._ladder.cursors), self._count, self.horizon))
        norm = moved = seen = changed = 0.0
        for bank in self._banks if held is not None else ():
            assert held is not None
            shards = _of(held, bank.members)
            if only_baseline:
                bank.rebase(shards)
                norm += bank.norm_square()
                continue
            # The slot that is written held d_{t-L}, which no lag needs any more, so a rejected row loses nothing.
            taken = bank.advance(slot, kept, shards)
            lags[0, bank.members, :kept] = taken.products[:, order]
            norm, changed = norm + taken.norm_square, changed + taken.changed
            moved, seen = moved + taken.moved, seen + bank.sampled
            for climb in self._ladder.climbs():
                products = bank.climb(climb.level, climb.slot, climb.kept, climb.newest, climb.older)
                places = self._ladder.cursors[climb.level].order(ahead=True)
                lags[climb.level, bank.members, : climb.kept] = products[:, places]
        return np.array([norm, changed, moved, seen]), lags

    def _judge(self, votes: Array, scalars: Array, lags: Array) -> Push:
        nothing = np.full((self._count, self.horizon), np.nan)
        norm, changed, moved, seen = np.sqrt(scalars[0]), *scalars[1:]
        was_fresh, finite = self._fresh, bool(np.isfinite(norm))
        broken = not np.isfinite(lags[0, :, 0]).all()
        if votes[VOID] or votes[RESTART] or broken or not was_fresh:
            self._ladder.clear()
            self._fresh = finite and not votes[VOID]
            return restarted(nothing, float(norm), votes, fresh=self._fresh, was_fresh=was_fresh)
        rows: dict[int, Array] = {}
        if changed:
            for climb in self._ladder.climbs():
                lags[climb.level, :, climb.kept :] = np.nan
                rows[1 << climb.level] = lags[climb.level]
            self._ladder.advance()
            lags[0, :, self.filled :] = np.nan
        return Push(
            lags[0] if changed else nothing,
            float(moved / seen) if seen else float("nan"),
            float(norm),
            finite=True,
            moved=changed > 0,
            header=votes,
            ladder=rows,
        )

    def embed(self, vectors: Held) -> Embedded:
        """A copy of a vector of parameter space given by tensor; None is zero."""
        pieces = [torch.empty(0)] * self._count
        for bank in self._banks:
            for member, (start, stop) in zip(bank.members, bank.spans, strict=True):
                vector = vectors[member]
                pieces[member] = (
                    torch.zeros_like(bank.previous[start:stop]) if vector is None else vector.values.clone()
                )
        return pieces

    def snapshot(self) -> Embedded:
        """A copy of the parameters of the last snapshot."""
        pieces = [torch.empty(0)] * self._count
        for bank in self._banks:
            for member, (start, stop) in zip(bank.members, bank.spans, strict=True):
                pieces[member] = bank.previous[start:stop].clone()
        return pieces

    def products(self, vectors: Embedded) -> Array:
        """Inner products of a vector with d_t, d_{t-1}, ... by tensor [n, L]."""
        cursor = self._ladder.base
        found = np.zeros((self._count, self.horizon))
        for bank in self._banks if cursor.filled else ():
            flat = bank.flatten([vectors[member] for member in bank.members])
            found[bank.members, : cursor.filled] = bank.products(cursor.filled, flat)[:, cursor.order()]
        found = self._ranks.sum(found)
        found[:, cursor.filled :] = np.nan
        return found

    def inner(self, first: Embedded, second: Embedded | None = None) -> Array:
        """Inner products by tensor [n] of a vector with another, or with the newest update, in float64."""
        found = np.zeros(self._count)
        for bank in self._banks:
            one, two = (
                None if vectors is None else bank.flatten([vectors[member] for member in bank.members])
                for vectors in (first, second)
            )
            assert one is not None
            other = bank.rows[0][self._ladder.base.slot] if two is None else two
            found[bank.members] = bank.inner(one, other)
        return self._ranks.sum(found)

    def combine(self, weights: Array) -> list[Embedded]:
        """Weighted sums of the newest updates, in the rows' dtype or float32 if that is wider.

        Args:
            weights: [k, n], newest update first, n at most the number of filled rows.

        Returns:
            k vectors by tensor: this rank's parts.
        """
        slots = self._ladder.base.order()[: weights.shape[1]].tolist()
        found = [[torch.empty(0)] * self._count for _ in range(len(weights))]
        for bank in self._banks:
            sums = bank.combine(slots, torch.from_numpy(np.ascontiguousarray(weights)))
            for member, (start, stop) in zip(bank.members, bank.spans, strict=True):
                for vector, row in zip(found, sums, strict=True):
                    vector[member] = row[start:stop]
        return found

    def forget(self) -> None:
        """Empties the ring; the last snapshot stays the baseline of the next update."""
        self._ladder.clear()

    def state_dict(self) -> dict[str, Any]:
        """A copy of everything that the next observation needs: of this rank's part."""
        return {
            "ladder": self._ladder.state_dict(),
            "fresh": self._fresh,
            "horizon": self.horizon,
            "banks": [
                {
                    "members": list(bank.members),
                    "starts": list(bank.starts),
                    "spans": [list(span) for span in bank.spans],
                    "rows": [rows.clone() for rows in bank.rows],
                    "previous": bank.previous.clone(),
                }
                for bank in self._banks
            ],
        }

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """Restores a ring of the same tensors and horizon, from the states of all ranks that saved it.

        Raises:
            InputError: if the horizon or the dtypes differ, or a part is missing.
        """
        horizon = states[0].get("horizon", 0)
        if horizon != self.horizon:
            raise InputError(
                "monitor state",
                expected=f"horizon {self.horizon}",
                found=f"horizon {horizon}" if horizon else "a sketch's",
                remedy="construct the monitor with the engine and horizon of the saved run; by default that is twice "
                "the window",
            )
        if len(states[0]["ladder"]["cursors"]) != len(self._ladder.cursors):
            raise InputError(
                "monitor state",
                expected=f"ladder={len(self._ladder.cursors) - 1}",
                found=f"ladder={len(states[0]['ladder']['cursors']) - 1}",
                remedy="construct the monitor with the ladder of the saved run",
            )
        saved = [bank for state in states for bank in state["banks"]]
        self._ladder.clear()
        self._fresh = False  # until all parts are there
        for bank in self._banks:
            _restore(bank, saved, sum(len(state["banks"]) > 0 for state in states))
        self._ladder.load_state_dict(states[0]["ladder"])
        self._fresh = states[0]["fresh"]


def _of(held: Held, members: Sequence[int]) -> list[Shard]:
    return [shard for member in members if (shard := held[member]) is not None]


def _restore(bank: Bank, saved: Sequence[dict[str, Any]], ranks: int) -> None:
    """Copies a bank's values from wherever they were saved."""
    for member, start, (first, last) in zip(bank.members, bank.starts, bank.spans, strict=True):
        missing = last - first
        for other in saved:
            if member not in other["members"]:
                continue
            at = other["members"].index(member)
            (theirs, end), begun = other["spans"][at], other["starts"][at]
            low, high = max(start, begun), min(start + last - first, begun + end - theirs)
            if low >= high:
                continue
            if other["rows"][0].dtype != bank.rows[0].dtype or other["previous"].dtype != bank.previous.dtype:
                raise InputError(
                    "monitor state",
                    expected=f"updates of dtype {bank.rows[0].dtype}",
                    found=str(other["rows"][0].dtype),
                    remedy="construct the monitor with the same model, select and ring_dtype",
                )
            ours = slice(first + low - start, first + high - start)
            from_ = slice(theirs + low - begun, theirs + high - begun)
            for mine, rows in zip(bank.rows, other["rows"], strict=True):
                mine[:, ours].copy_(rows[:, from_])
            bank.previous[ours].copy_(other["previous"][from_])
            missing -= high - low
        if missing:
            raise InputError(
                "monitor state",
                expected="the states of all ranks that saved it, as a list",
                found=f"{ranks}, which lack {missing} values of tensor {member}",
                remedy="pass load_state_dict a list with each rank's state",
            )
