"""Where the newest rows of rings stand, for updates of one observation and for the ladder of longer ones."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True)
class Cursor:
    """The newest row of a ring and how many rows are filled.

    Attributes:
        horizon: number of rows.
        slot: the newest row's place; -1 in an empty ring.
        filled: number of filled rows.
    """

    horizon: int
    slot: int = -1
    filled: int = 0

    def next(self) -> tuple[int, int]:
        """Where the next row goes, and how many are filled then."""
        return (self.slot + 1) % self.horizon, min(self.filled + 1, self.horizon)

    def advance(self) -> None:
        """Counts the next row as written."""
        self.slot, self.filled = self.next()

    def order(self, *, ahead: bool = False) -> NDArray[np.intp]:
        """Places of the filled rows, newest first; `ahead` as if the next row were written."""
        slot, filled = self.next() if ahead else (self.slot, self.filled)
        return (slot - np.arange(filled)) % self.horizon


@dataclass(frozen=True, slots=True)
class Climb:
    """One row of the ladder that becomes complete: the sum of the two newest rows of the level below."""

    level: int
    slot: int
    kept: int
    newest: int
    older: int


class Ladder:
    """Cursors of the rings of updates of 1, 2, 4, ... observations.

    Args:
        horizon: number of rows of each.
        levels: how many longer ones; 0 keeps updates of one observation only.
    """

    def __init__(self, horizon: int, levels: int) -> None:
        self._horizon = horizon
        self._count = 0
        self.cursors = [Cursor(horizon) for _ in range(1 + levels)]

    @property
    def base(self) -> Cursor:
        """The ring of updates of one observation."""
        return self.cursors[0]

    def climbs(self) -> Iterator[Climb]:
        """The longer rows that the next update completes, shortest first."""
        for level in range(1, len(self.cursors)):
            if (self._count + 1) % (1 << level):
                return
            below = self.cursors[level - 1]
            slot, kept = self.cursors[level].next()
            yield Climb(level, slot, kept, below.next()[0], below.slot)

    def advance(self) -> None:
        """Counts the next update, and the longer rows that it completes, as written."""
        complete = [climb.level for climb in self.climbs()]
        self._count += 1
        for level in (0, *complete):
            self.cursors[level].advance()

    def clear(self) -> None:
        """Empties every ring."""
        self._count = 0
        self.cursors = [Cursor(self._horizon) for _ in self.cursors]

    def state_dict(self) -> dict[str, Any]:
        """As plain numbers."""
        return {"count": self._count, "cursors": [(cursor.slot, cursor.filled) for cursor in self.cursors]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self._count = state["count"]
        self.cursors = [Cursor(self._horizon, slot, filled) for slot, filled in state["cursors"]]
