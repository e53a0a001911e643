"""Steps from the names of checkpoints, or as they are given."""

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import TypeVar, cast

from spectral_edge.errors import InputError

Steps = Sequence[int] | Callable[[str], int]
"""Steps of a series in its order, or a function from the name of a checkpoint to its step."""

T = TypeVar("T")

_MARKED = tuple(
    re.compile(rf"(?<![a-z])(?:{words})s?[-_ =]?(\d+)(?!\d|\.\d)", re.IGNORECASE)
    for words in ("global_?step|step", "iteration|iter", "checkpoint|ckpt")
)
"""Words before a step number, the surest first."""

_WHOLE = re.compile(r"(?<!\d)(?<!\d\.)(?<!\de-)\d+(?!\d|\.\d|e-?\d)")
"""A whole number that is not part of a decimal one."""


def step_in(name: str) -> int | None:
    """The step in a name: after a word that says so, else its last whole number."""
    for pattern in _MARKED:
        if found := pattern.findall(name):
            return int(found[-1])
    found = _WHOLE.findall(name)
    return int(found[-1]) if found else None


def natural(name: str) -> list[tuple[int, str]]:
    """Sorts 2 before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def numbered(items: Iterable[tuple[str, Sequence[str], T]], steps: Steps | None) -> list[tuple[int, T]]:
    """The items with their steps, in order.

    Args:
        items: name, the names to look for a number in (the surest first), and what is numbered.
        steps: as the user gives them; None looks for them in the names.

    Raises:
        InputError: if steps are missing, are no whole numbers or repeat.
    """
    listed = sorted(items, key=lambda item: natural(item[0]))
    found = _given(listed, steps) if steps is not None else _told(listed)
    ordered = sorted(zip(found, listed, strict=True), key=lambda pair: pair[0])
    for (before, one), (after, two) in pairwise(ordered):
        if before == after:
            raise InputError(
                f"{one[0]} and {two[0]}",
                expected="one snapshot a step",
                found=f"step {after} from both",
                remedy="pass one checkpoint for each step, or say which step each has with steps=",
            )
    return [(step, item) for step, (_, _, item) in ordered]


def _told(listed: Sequence[tuple[str, Sequence[str], T]]) -> list[int]:
    """Steps from the innermost names that hold a number; by place where none does anywhere."""
    same: list[int] | None = None
    for depth in range(max((len(places) for _, places, _ in listed), default=0)):
        places = [names[min(depth, len(names) - 1)] for _, names, _ in listed]
        if depth and len(set(places)) == 1 and len(places) > 1:
            continue  # the folder that holds all of them
        found = [step_in(place) for place in places]
        if all(step is None for step in found):
            continue
        for (name, _, _), step in zip(listed, found, strict=True):
            if step is None:
                raise InputError(
                    name,
                    expected="a step number in its name or its folder's, as for other files",
                    found="none",
                    remedy="pass a glob that leaves it out, or say which step each has with steps=",
                )
        if len(found) == 1 or len(set(found)) > 1:
            return cast("list[int]", found)
        same = same or cast("list[int]", found)  # a rank, for instance: the folders may tell more
    return same or list(range(len(listed)))


def _given(listed: Sequence[tuple[str, Sequence[str], T]], steps: Steps) -> list[int]:
    if callable(steps):
        found = [steps(name) for name, _, _ in listed]
    else:
        found = list(steps)
        if len(found) != len(listed):
            names = ", ".join(name for name, _, _ in listed[:3])
            raise InputError(
                "steps",
                expected=f"{len(listed)}, one for each of {names}{', ...' if len(listed) > 3 else ''}",
                found=str(len(found)),
                remedy="list them in the natural order of the names, or pass a function from a name to its step",
            )
    for (name, _, _), step in zip(listed, found, strict=True):
        if type(step) is not int:
            raise InputError(
                f"steps, for {name}", expected="a whole number", found=repr(step), remedy="use optimizer steps"
            )
    return found
