"""What ranks tell each other at the head of each reduction, beside what they observed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectral_edge.observe import RESTART, VOID, VOTES

Array = NDArray[np.float64]

_CHANGED, _WISH = VOTES, VOTES + 1
_STEP = slice(VOTES + 2, VOTES + 6)
HEAD = VOTES + 6
"""Numbers at the head of a reduction; what compares replicas follows."""
_BASE = 1 << 16


@dataclass(frozen=True, slots=True)
class Ballot:
    """One rank's word, and after the reduction the sum of all.

    Attributes:
        numbers: votes, step and wish, then whatever else is added up.
    """

    numbers: Array

    @classmethod
    def cast(cls, step: int, others: int, *, void: bool, restart: bool, changed: bool, wish: float) -> "Ballot":
        """What this rank has to say.

        Args:
            step: the step that it observes.
            others: room for further numbers.
            void: whether it has nothing to add.
            restart: whether the window is to be emptied.
            changed: whether it watches other tensors than before.
            wish: what the first rank wants done about the budget; 0 on the others.
        """
        numbers = np.zeros(HEAD + others)
        numbers[[VOID, RESTART, _CHANGED, _WISH]] = void, restart, changed, wish
        numbers[_STEP] = _marks(step)
        return cls(numbers)

    @property
    def changed(self) -> bool:
        """Whether some rank watches other tensors than before."""
        return bool(self.numbers[_CHANGED])

    @property
    def restart(self) -> bool:
        """Whether some rank wants the window emptied."""
        return bool(self.numbers[RESTART])

    @property
    def wish(self) -> int:
        """What the first rank wants done about the budget."""
        return int(self.numbers[_WISH])

    @property
    def others(self) -> Array:
        """The further numbers."""
        return self.numbers[HEAD:]

    def agrees(self, step: int, size: int) -> bool:
        """Whether all of so many ranks observe this step."""
        return bool((self.numbers[_STEP] == size * _marks(step)).all())


def _marks(step: int) -> Array:
    """Numbers whose sums over ranks are those of one step only if all ranks have it: digits and their squares."""
    high, low = divmod(step, _BASE)
    return np.array([high, float(high) ** 2, low, float(low) ** 2])
