"""When a run made its transition: the published criteria as pure functions of a test-accuracy curve.

Papers on the same runs use different thresholds, and the answers differ by hundreds of steps, so every result lists
them all. A run that never meets a criterion yields None: its time is right-censored at its last
evaluation, it is not infinite and it is not that step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from spectral_edge.errors import InputError


@dataclass(frozen=True, slots=True)
class Criterion:
    """A rule that turns an accuracy curve into a step.

    Attributes:
        name: the key under which results list it.
        threshold: accuracy that counts as solved; an evaluation passes when it is greater or equal.
        count: how many consecutive evaluations must pass.
        report: "first" gives the step of the first of them, "last" that of the evaluation at which the rule fires.
        source: where the rule comes from.
    """

    name: str
    threshold: float
    count: int
    report: Literal["first", "last"]
    source: str

    @property
    def words(self) -> str:
        """The rule in words."""
        if self.count == 1:
            return f"first test accuracy of at least {self.threshold:.2f}"
        which = "" if self.report == "first" else f", the {self.report} of them"
        return f"test accuracy of at least {self.threshold:.2f} in {self.count} evaluations running{which}"


CRITERIA: tuple[Criterion, ...] = (
    Criterion("sustained_95", 0.95, 3, "first", "this library's default: a lone spike is no transition"),
    Criterion("first_95", 0.95, 1, "first", "thesis, grokking tables"),
    Criterion("first_90", 0.90, 1, "first", "arXiv 2602.18523"),
    Criterion("sustained_98", 0.98, 3, "first", "arXiv 2602.16967, first of the three evaluations"),
    Criterion("stop_98", 0.98, 3, "last", "arXiv 2602.16967, stop rule: third of the three evaluations"),
)
"""Every criterion that results report; the first is the default."""

DEFAULT_CRITERION = CRITERIA[0].name


def transition_step(steps: ArrayLike, accuracy: ArrayLike, criterion: Criterion = CRITERIA[0]) -> int | None:
    """The step at which a run meets a criterion.

    A later relapse does not undo it: the rule asks when the criterion is met first. NaN counts as not passing.

    Args:
        steps: training steps of the evaluations, increasing, shape [n].
        accuracy: test accuracy at those steps, in [0, 1], shape [n].
        criterion: the rule.

    Returns:
        The step, or None where the run never meets the criterion (right-censored).

    Raises:
        InputError: for curves of different lengths, of another rank than one or with steps that do not increase.
    """
    at, curve = np.asarray(steps), np.asarray(accuracy, dtype=np.float64)
    if at.ndim != 1 or at.shape != curve.shape:
        raise InputError(
            "accuracy curve",
            expected="steps and accuracies as two lists of one length",
            found=f"shapes {at.shape} and {curve.shape}",
            remedy="pass one accuracy per evaluated step",
        )
    if np.any(np.diff(at) <= 0):
        raise InputError(
            "accuracy curve", expected="increasing steps", found="a step that does not increase", remedy="sort by step"
        )
    passes = np.concatenate(([0], np.cumsum(curve >= criterion.threshold)))
    # passes[i + count] - passes[i] is how many of the count evaluations from i on pass.
    met = np.flatnonzero(passes[criterion.count :] - passes[: -criterion.count] == criterion.count)
    if met.size == 0:
        return None
    offset = criterion.count - 1 if criterion.report == "last" else 0
    return int(at[met[0] + offset])


def transition_steps(
    steps: ArrayLike, accuracy: ArrayLike, *, criteria: Sequence[Criterion] = CRITERIA
) -> dict[str, int | None]:
    """`transition_step` under every criterion, by name.

    Args:
        steps: training steps of the evaluations, increasing, shape [n].
        accuracy: test accuracy at those steps, shape [n].
        criteria: the rules.

    Returns:
        Name of the criterion to step, None where it is never met.
    """
    return {criterion.name: transition_step(steps, accuracy, criterion) for criterion in criteria}
