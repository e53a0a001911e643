"""From when on a quantity tells a run that will make its transition from a control that was recorded beside it.

This describes and judges nothing. A quantity that stands apart long before is a property of the task or of the
optimizer, one that comes apart late marks the transition; neither warns of it unless test loss and test accuracy come
later.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectral_edge.claims.evidence import Evidence, Run
from spectral_edge.claims.reading import WINDOW, edge

Array = NDArray[np.float64]
Track = Callable[[Evidence, Run], tuple[NDArray[np.int64], Array]]

RELIEF = 0.9
"""A test loss that has come down to this share of its peak is seen to fall, without any control."""


@dataclass(frozen=True, slots=True)
class Onset:
    """When a quantity of one run came apart from a control.

    Attributes:
        steps: from then to the transition; None where it does not stand above at the transition.
        whole: whether it stands above wherever it is defined, so that it may have come apart earlier still.
    """

    steps: int | None
    whole: bool = False


def onset(evidence: Evidence, run: Run, step: int, control: Run, track: Track) -> Onset | None:
    """The first step from which on, to the transition, a run stands above a control.

    Args:
        evidence: where what was read is kept.
        run: with a transition.
        step: of the transition.
        control: observed as long.
        track: the quantity over the steps of a run, larger where the run is more as expected.

    Returns:
        None where the two have nothing in common up to the transition.
    """
    ours, theirs = track(evidence, run), track(evidence, control)
    steps, left, right = np.intersect1d(ours[0], theirs[0], return_indices=True)
    values, others = ours[1][left], theirs[1][right]
    known = (steps <= step) & np.isfinite(values) & np.isfinite(others)
    steps, above = steps[known], values[known] > others[known]
    if len(steps) == 0:
        return None
    if not above[-1]:
        return Onset(None)
    below = np.flatnonzero(~above)
    return Onset(step - int(steps[below[-1] + 1 if len(below) else 0]), not len(below))


def relief(run: Run, step: int) -> int | None:
    """Steps to the transition from where a run's test loss is a tenth below its peak for good; None if it never is."""
    steps, loss = run.metric("test_loss")
    steps, loss = steps[steps <= step], loss[steps <= step]
    high = np.flatnonzero(~(loss <= RELIEF * np.max(loss, initial=-np.inf)))
    return None if len(high) == 0 or high[-1] + 1 == len(steps) else step - int(steps[high[-1] + 1])


def _window(name: str, *, stride: int = 1, column: int | None = None) -> Track:
    def track(evidence: Evidence, run: Run) -> tuple[NDArray[np.int64], Array]:
        series = edge(evidence, run, stride=stride)
        return series.step, series[name] if column is None else series[name][:, column]

    return track


def _metric(name: str, sign: float) -> Track:
    def track(evidence: Evidence, run: Run) -> tuple[NDArray[np.int64], Array]:
        del evidence
        steps, values = run.metric(name)
        return steps, sign * values

    return track


def _norm_fall(evidence: Evidence, run: Run) -> tuple[NDArray[np.int64], Array]:
    """Fall of ln of the parameters' norm over as many observations as a window has."""
    del evidence
    norm = np.log(run.trace.row_metadata("parameter_norm"))
    return run.trace.steps[WINDOW:], norm[:-WINDOW] - norm[WINDOW:]


TRACKS: Mapping[str, Track] = {
    "coherence, 100 steps (N1)": _window("coherence", stride=2),
    "progress share of v_1 (N2)": _window("progress_share", column=0),
    "fall of the parameters' norm": _norm_fall,
    "minus test loss": _metric("test_loss", -1.0),
    "test accuracy": _metric("test_accuracy", 1.0),
}
"""The statistics of the new claims, and their rivals: the weights' shrinking, and what anyone looks at anyway."""
