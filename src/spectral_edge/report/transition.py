"""When an accuracy curve crosses a threshold for good enough: the published criteria, undefined where never met."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Criterion:
    """A rule for the step of a transition.

    Attributes:
        threshold: test accuracy that passes.
        sustained: how many consecutive evaluations must pass; the step is the first of them.
        source: who uses it.
    """

    threshold: float
    sustained: int
    source: str

    @property
    def words(self) -> str:
        """The rule in words."""
        if self.sustained == 1:
            return f"first test accuracy of at least {self.threshold:.2f}"
        return f"test accuracy of at least {self.threshold:.2f} in {self.sustained} evaluations running"


CRITERIA: tuple[Criterion, ...] = (
    Criterion(0.95, 3, "default"),
    Criterion(0.95, 1, "thesis"),
    Criterion(0.90, 1, "arXiv 2602.18523"),
    Criterion(0.98, 3, "arXiv 2602.16967"),
)
"""What a report lists; the first dates the transition."""


def transition_step(steps: NDArray[Any], accuracy: NDArray[Any], threshold: float, sustained: int) -> int | None:
    """The first evaluation of `sustained` in a row that reach a threshold.

    Args:
        steps: steps of the evaluations [n], increasing.
        accuracy: accuracy at these steps [n]; NaN does not pass.
        threshold: accuracy that passes.
        sustained: evaluations in a row that must pass.

    Returns:
        The step, or None where the rule is never met (right-censored at the last step).
    """
    passed = np.concatenate(([0], np.cumsum(np.asarray(accuracy) >= threshold)))
    met = np.flatnonzero(passed[sustained:] - passed[:-sustained] == sustained)
    return int(steps[met[0]]) if len(met) else None
