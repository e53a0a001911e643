"""When to observe, as a function of the number of steps."""

from collections.abc import Callable
from dataclasses import dataclass

from spectral_edge.errors import InputError


@dataclass(frozen=True, slots=True)
class Schedule:
    """Observe on every n-th step, or where a function of the step says so.

    Attributes:
        every: a positive number of steps, or a predicate of the step.

    Raises:
        InputError: if it is neither.
    """

    every: int | Callable[[int], bool]

    def __post_init__(self) -> None:
        if callable(self.every):
            return
        if type(self.every) is not int or self.every < 1:
            raise InputError(
                "every",
                expected="a positive whole number of steps or a function of the step",
                found=repr(self.every),
                remedy="pass every=10, say",
            )

    @property
    def interval(self) -> int | None:
        """Steps from one observation to the next where that is fixed."""
        return None if callable(self.every) else self.every

    def due(self, step: int) -> bool:
        """Whether to observe at this step."""
        return bool(self.every(step)) if callable(self.every) else step % self.every == 0
