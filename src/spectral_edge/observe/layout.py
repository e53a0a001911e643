"""Which rank observes which values, agreed upon by all ranks when observation begins.

Every rank names what it holds. Values that one rank holds are its own, values that several hold are divided among
them, so that each is counted once and no rank reads what another reads already. That covers data parallelism (all hold
everything), sharding (each holds a part), both at once, and pipelines (each holds tensors of its own, or none).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from spectral_edge.errors import InputError
from spectral_edge.observe.ranks import ALONE, Ranks
from spectral_edge.observe.shards import Block, Shard
from spectral_edge.records import Inventory, TensorInfo


@dataclass(frozen=True, slots=True)
class Held:
    """What a rank says of one watched tensor: plain values, since they travel.

    Attributes:
        info: the tensor's name, shape and dtype.
        groups: the named groups that it is in.
        start: position of the run that is held.
        length: number of values held.
        block: which block it is, where it is no contiguous run.
    """

    info: TensorInfo
    groups: tuple[str, ...]
    start: int
    length: int
    block: Block | None


@dataclass(frozen=True, slots=True)
class Selected:
    """What one rank watches.

    Attributes:
        held: the tensors, in order.
        shards: what is held of each.
        trainable: numbers of elements of all trainable tensors by name, watched or not.
        groups: names of the groups asked for; none makes them from layers.
        problem: why nothing can be watched here, if so.
        fatal: whether that also holds where other ranks watch something.
    """

    held: tuple[Held, ...]
    shards: tuple[Shard, ...]
    trainable: Mapping[str, int]
    groups: tuple[str, ...] | None
    problem: InputError | None = None
    fatal: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """The run of a held shard that this rank counts.

    Attributes:
        index: the shard among those held here.
        first: its first counted value.
        length: number of counted values.
        start: position of the first counted value in the whole tensor, or in its permuted order.
    """

    index: int
    first: int
    length: int
    start: int


@dataclass(frozen=True, slots=True)
class Layout:
    """The agreed inventory, and this rank's share of it.

    Attributes:
        inventory: all watched tensors of all ranks.
        places: for each tensor of the inventory what this rank counts, or None.
        held: what this rank held when the layout was agreed.
        permuted: tensors whose values are sketched in another order than in one process, since ranks hold blocks of
            columns: unbiased, but not the same numbers.
        replicas: for each set of ranks that hold the same values, the set and the tensors (inventory, held shard).
        largest: most values that one rank counts.
    """

    inventory: Inventory
    places: tuple[Place | None, ...]
    held: tuple[Held, ...]
    permuted: tuple[str, ...]
    replicas: Mapping[tuple[int, ...], tuple[tuple[int, int], ...]]
    largest: int

    @classmethod
    def agree(cls, selected: Selected, ranks: Ranks = ALONE, terms: Mapping[str, str] | None = None) -> "Layout":
        """Exchanges what every rank holds; to be called by all of them.

        Args:
            selected: what is watched here.
            ranks: the processes.
            terms: options that must be the same on all of them.

        Raises:
            InputError: if ranks contradict each other, values are missing, or nothing is watched.
        """
        told: list[tuple[Selected, Mapping[str, str]]] = ranks.gather((replace(selected, shards=()), terms or {}))
        _same_terms([theirs for _, theirs in told])
        found = [one for one, _ in told]
        for rank, one in enumerate(found):
            if one.problem is not None and (one.fatal or not any(other.held for other in found)):
                raise one.problem if rank == ranks.rank else _elsewhere(rank, one.problem)
        infos, holders = _merge(found)
        places: list[Place | None] = []
        permuted: list[str] = []
        replicas: dict[tuple[int, ...], list[tuple[int, int]]] = {}
        counted = [0] * ranks.size
        for position, (info, who) in enumerate(zip(infos, holders, strict=True)):
            mine: Place | None = None
            if any(held.block is not None for _, _, held in who):
                permuted.append(info.name)
            for start, sharers in _runs(info, who):
                length = sharers[0][2].length
                for turn, (rank, index, _) in enumerate(sharers):
                    first, last = (length * k // len(sharers) for k in (turn, turn + 1))
                    counted[rank] += last - first
                    if rank == ranks.rank:
                        mine = Place(index, first, last - first, start + first)
                members = tuple(rank for rank, _, _ in sharers)
                if len(members) > 1:
                    here = {rank: index for rank, index, _ in sharers}.get(ranks.rank, -1)
                    replicas.setdefault(members, []).append((position, here))
            places.append(mine)
        inventory = Inventory(tuple(infos), _groups(infos, found), sum(_trainable(found).values()))
        kept = {members: tuple(where) for members, where in sorted(replicas.items())}
        return cls(inventory, tuple(places), selected.held, tuple(permuted), kept, max(counted))

    def shards(self, held: Sequence[Shard]) -> list[Shard | None]:
        """What this rank counts of each tensor of the inventory, from what it holds now."""
        return [
            None if place is None or not place.length else held[place.index].cut(place.first, place.length, place.start)
            for place in self.places
        ]

    def vectors(self, held: Sequence[Shard | None]) -> list[Shard | None]:
        """What this rank counts of a vector that is given where it holds parameters; None is zero."""
        found: list[Shard | None] = []
        for place in self.places:
            shard = held[place.index] if place is not None and place.length else None
            found.append(None if shard is None or place is None else shard.cut(place.first, place.length, place.start))
        return found


def _same_terms(told: Sequence[Mapping[str, str]]) -> None:
    for rank, terms in enumerate(told):
        odd = [name for name in {**told[0], **terms} if told[0].get(name) != terms.get(name)]
        if odd:
            raise InputError(
                f"{odd[0]} on rank {rank}",
                expected=f"{told[0].get(odd[0])} as on rank 0",
                found=str(terms.get(odd[0])),
                remedy="construct the same monitors in the same order on every rank",
            )


def _merge(found: Sequence[Selected]) -> tuple[list[TensorInfo], list[list[tuple[int, int, Held]]]]:
    """Every tensor once, in the order in which ranks name them, and who holds what of it as (rank, index, held)."""
    order: dict[str, int] = {}
    infos: list[TensorInfo] = []
    holders: list[list[tuple[int, int, Held]]] = []
    for rank, one in enumerate(found):
        for index, held in enumerate(one.held):
            at = order.setdefault(held.info.name, len(order))
            if at == len(infos):
                infos.append(held.info)
                holders.append([])
            if infos[at] != held.info:
                raise InputError(
                    f"{held.info.name} on rank {rank}",
                    expected=f"shape {infos[at].shape} and dtype {infos[at].dtype} as on rank {holders[at][0][0]}",
                    found=f"{held.info.shape} and {held.info.dtype}",
                    remedy="give tensors of different ranks different names, or name shards of one tensor by its whole "
                    "shape (see spectral_edge.Shard)",
                )
            if held.length:
                holders[at].append((rank, index, held))
    return infos, holders


def _runs(info: TensorInfo, who: Sequence[tuple[int, int, Held]]) -> list[tuple[int, list[tuple[int, int, Held]]]]:
    """The distinct runs of one tensor with their starts and with those who hold them; together they are the tensor."""
    blocked = any(held.block is not None for _, _, held in who)
    runs: dict[tuple[tuple[int, ...], ...], list[tuple[int, int, Held]]] = {}
    for rank, index, held in who:
        key = _as_block(held) if blocked else ((held.start,), (held.length,))
        runs.setdefault(key, []).append((rank, index, held))
    result: list[tuple[int, list[tuple[int, int, Held]]]] = []
    at = 0
    for _, sharers in sorted(runs.items(), key=lambda item: item[0]):
        result.append((at if blocked else sharers[0][2].start, sharers))
        at += sharers[0][2].length
    ends = [(start, start + sharers[0][2].length) for start, sharers in result]
    overlap = any(end != start for (_, end), (start, _) in pairwise(ends))
    if at != info.numel or overlap or (ends and ends[0][0] != 0):
        ranks = ", ".join(f"rank {rank}: {held.length} from {held.start}" for rank, _, held in who)
        raise InputError(
            info.name,
            expected=f"ranks that hold all {info.numel} values, each run on its own or as equal copies",
            found=ranks or "none",
            remedy="give each shard its whole tensor's shape and its own start (see spectral_edge.Shard)",
        )
    return result


def _as_block(held: Held) -> tuple[tuple[int, ...], ...]:
    return held.block if held.block is not None else ((0,) * len(held.info.shape), held.info.shape)


def _groups(infos: Sequence[TensorInfo], found: Sequence[Selected]) -> dict[str, tuple[int, ...]]:
    position = {info.name: index for index, info in enumerate(infos)}
    grouped: dict[str, set[int]] = {}
    for name in (name for one in found for name in one.groups or ()):
        grouped.setdefault(name, set())
    for one in found:
        for held in one.held:
            for name in held.groups:
                grouped.setdefault(name, set()).add(position[held.info.name])
    for name, members in grouped.items():
        if not members:
            raise InputError(
                f"group {name!r}",
                expected="a pattern that matches a watched parameter",
                found="none that does",
                remedy=f"names look like {infos[0].name}",
            )
    return {name: tuple(sorted(members)) for name, members in grouped.items()}


def _trainable(found: Sequence[Selected]) -> dict[str, int]:
    return {name: size for one in found for name, size in one.trainable.items()}


def _elsewhere(rank: int, problem: InputError) -> InputError:
    return InputError(
        f"rank {rank}, {problem.subject}", expected=problem.expected, found=problem.found, remedy=problem.remedy
    )
