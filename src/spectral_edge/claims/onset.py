"""From when on a quantity tells a run that will make its transition from the controls that were recorded beside it.

This describes and judges nothing. A quantity that stands apart long before is a property of the task or of the
optimizer, one that comes apart late marks the transition; neither warns of it unless test loss and test accuracy come
later.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectral_edge.claims.claim import NO_DECAY, SAME_DECAY
from spectral_edge.claims.evidence import Evidence, Run, Yoked
from spectral_edge.claims.reading import edge

Array = NDArray[np.float64]
Track = Callable[[Evidence, Run], tuple[NDArray[np.int64], Array]]


@dataclass(frozen=True, slots=True)
class Onset:
    """When a quantity of one run came apart from its controls.

    Attributes:
        steps: from then to the transition; None where it does not stand above them at the transition.
        accuracy: the run's test accuracy then, at its last evaluation.
    """

    steps: int | None
    accuracy: float | None = None


def onset(evidence: Evidence, pair: Yoked, track: Track) -> Onset | None:
    """The first step from which on, to the transition, a run stands above both recorded classes of controls.

    Args:
        evidence: where what was read is kept.
        pair: the run and its controls.
        track: the quantity over the steps of a run, larger where the run is more as expected.

    Returns:
        None where one of the classes is not there, or nothing was read up to the transition.
    """
    others = [pair.controls[name] for name in (NO_DECAY, SAME_DECAY) if name in pair.controls]
    steps, values = track(evidence, pair.run)
    values, steps = values[steps <= pair.step], steps[steps <= pair.step]
    if len(others) < 2 or len(steps) == 0:
        return None
    above = np.isfinite(values)
    for other in others:
        known = dict(zip(*(column.tolist() for column in track(evidence, other)), strict=True))
        above &= values > np.array([known.get(step, np.inf) for step in steps.tolist()])
    if not above[-1]:
        return Onset(None)
    below = np.flatnonzero(~above)
    first = int(steps[below[-1] + 1 if len(below) else 0])
    evaluated, accuracy = pair.run.metric("test_accuracy")
    seen = accuracy[evaluated <= first]
    return Onset(pair.step - first, float(seen[-1]) if len(seen) else None)


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


TRACKS: Mapping[str, Track] = {
    "coherence, 100 steps (N1)": _window("coherence", stride=2),
    "progress share of v_1 (N2)": _window("progress_share", column=0),
    "minus test loss": _metric("test_loss", -1.0),
    "test accuracy": _metric("test_accuracy", 1.0),
}
"""The statistics of the new claims, and what anyone looks at anyway."""
