"""The processes that observe one model together.

An observation needs one all-reduce of fixed shape. It runs in float64 on the CPU, in a gloo group of its own, so that
it neither waits for nor disturbs the training's collectives, whatever backend those use.
"""

from collections import Counter
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from spectral_edge.errors import InputError, RunError

Array = NDArray[np.float64]

JOIN_SECONDS = 300.0
"""How long a rank waits for the others to construct their monitors."""

_MET: Counter[tuple[int, ...]] = Counter()
"""How often each set of ranks has met."""


class Ranks:
    """One process alone, or the processes of a group.

    Args:
        group: a process group; None is this process alone.

    Attributes:
        rank: this process's place in the group.
        size: number of processes.
    """

    def __init__(self, group: Any = None) -> None:
        self._group = group
        self.rank = 0 if group is None else dist.get_rank(group)
        self.size = 1 if group is None else dist.get_world_size(group)

    def sum(self, values: Array) -> Array:
        """Adds arrays of one shape over the processes.

        Raises:
            RunError: if a process does not answer.
        """
        if self.size == 1:
            return values
        found = torch.from_numpy(np.ascontiguousarray(values))
        with self._answered():
            dist.all_reduce(found, group=self._group)
        return found.numpy()

    def gather(self, item: Any) -> list[Any]:
        """Small plain values of every process, in order of ranks; never parameters.

        Raises:
            RunError: if a process does not answer.
        """
        if self.size == 1:
            return [item]
        found: list[Any] = [None] * self.size
        with self._answered():
            dist.all_gather_object(found, item, group=self._group)
        return found

    def _answered(self) -> "_Answered":
        return _Answered(self)


class _Answered:
    """Turns a collective that failed into an error that says what it means."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, at: Any) -> None:
        if isinstance(error, RuntimeError):
            first = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
            raise RunError(
                f"rank {self._ranks.rank}",
                expected=f"an answer of all {self._ranks.size} ranks",
                found=first,
                remedy="a rank died or stopped calling the monitor: see its log, and resume from the last checkpoint",
            ) from error


ALONE = Ranks()
"""This process by itself."""


def join(group: Any = None) -> Ranks:
    """The processes that observe together.

    Args:
        group: a process group; None takes the default group if there is one; False is this process alone.

    Raises:
        InputError: if some rank of the group does not construct its monitor.
    """
    if group is False or not dist.is_available() or not dist.is_initialized():
        return ALONE
    members = dist.get_process_group_ranks(dist.group.WORLD if group is None else group)
    if len(members) == 1:
        return ALONE
    _meet(members)
    # Where all ranks are here, all make the group; torch names a group of some by how many groups each of them knows.
    everyone = len(members) == dist.get_world_size()
    own = dist.new_group(members, backend="gloo", use_local_synchronization=not everyone)
    return Ranks(own)


def _meet(members: list[int]) -> None:
    """Waits until every member is here, so that a monitor built on one rank only is told of, not waited for."""
    store = dist.distributed_c10d._get_default_store()  # pyright: ignore[reportPrivateUsage]
    # Long lists of ranks are told apart by their hash, which is the same in every process for numbers.
    name = f"spectral-edge/{len(members)}-{hash(tuple(members))}/{_MET[tuple(members)]}"
    _MET[tuple(members)] += 1
    keys = [f"{name}/{member}" for member in members]
    store.set(f"{name}/{dist.get_rank()}", "here")
    try:
        store.wait(keys, timedelta(seconds=JOIN_SECONDS))
    except RuntimeError as error:  # torch's DistStoreError
        absent = [member for member, key in zip(members, keys, strict=True) if not store.check([key])]
        raise InputError(
            "monitor",
            expected=f"one on each of the {len(members)} ranks, since their observations add up",
            found=f"none on rank {', '.join(map(str, absent[:8]))} after {JOIN_SECONDS:.0f} s",
            remedy="construct it on every rank, or pass process_group=False where each rank trains its own model",
        ) from error
