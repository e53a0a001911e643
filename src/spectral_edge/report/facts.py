"""What a report says of one run: its curves, its windows, and the statistics that are read at a step."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectral_edge.analysis import EdgeSeries, Trace
from spectral_edge.errors import Outcome, TraceError
from spectral_edge.measure import Decline, decline_null, decline_pub
from spectral_edge.transitions import CRITERIA, Criterion, transition_step

Array = NDArray[Any]

DEFAULT_WINDOW = 10
_TEST = ("test_accuracy", "val_accuracy", "eval_accuracy")
_TRAIN = "train_accuracy"
MEMORISED = Criterion("memorised", 0.99, 1, "first", "this library")
"""When the training accuracy counts as complete."""
DELAY = 5
"""Evaluations of the test accuracy between that and the transition from which a run is said to grok."""
DECLINES = ("g23", "gram_trace", "g23_normalized")
"""The published statistic, and the same for the update norm that it follows and for their quotient."""


def window_of(trace: Trace) -> int:
    """The window that a run was watched with, or the default, as far as its horizon allows."""
    watched = trace.metadata.get("monitor", {}).get("window")
    return min(int(watched or DEFAULT_WINDOW), trace.horizon)


class RunFacts:
    """One run as a report describes it.

    Args:
        trace: what was recorded.
        window: number of updates behind each reading.
        name: "run" or "control".
    """

    def __init__(self, trace: Trace, *, window: int, name: str) -> None:
        self.trace, self.window, self.name = trace, window, name

    # curves ------------------------------------------------------------------------------------------------------

    @cached_property
    def metrics(self) -> dict[str, tuple[Array, Array]]:
        """Every metric by name; where one step was logged twice, the later value."""
        found: dict[str, tuple[Array, Array]] = {}
        for name in self.trace.metric_names:
            steps, values = self.trace.metrics(name)
            latest = dict(zip(steps.tolist(), values.tolist(), strict=True))
            order = sorted(latest)
            found[name] = np.array(order), np.array([latest[step] for step in order])
        return found

    @cached_property
    def loss(self) -> tuple[Array, Array] | None:
        """Training loss logged with the observed rows, None where it never was."""
        values = self.trace.row_metadata("loss")
        return (self.trace.steps, values) if np.isfinite(values).any() else None

    @cached_property
    def accuracy(self) -> tuple[Array, Array] | None:
        """The test accuracy, None where none was logged."""
        return next((self.metrics[name] for name in _TEST if name in self.metrics), None)

    def transition(self, criterion: Criterion = CRITERIA[0]) -> int | None:
        """The step of the transition under a criterion, None where it is never met or no accuracy was logged."""
        if self.accuracy is None:
            return None
        return transition_step(*self.accuracy, criterion)

    @property
    def best(self) -> float | None:
        """The best test accuracy."""
        if self.accuracy is None or not np.isfinite(self.accuracy[1]).any():
            return None
        return float(np.nanmax(self.accuracy[1]))

    @property
    def evaluated(self) -> int | None:
        """The step of the last test accuracy that is a number: where a run without a transition is censored."""
        if self.accuracy is None:
            return None
        known = self.accuracy[0][np.isfinite(self.accuracy[1])]
        return int(known[-1]) if len(known) else None

    @property
    def also_met(self) -> tuple[Criterion, int] | None:
        """Where the default criterion is not met, the first listed one that is, and its step."""
        found = ((criterion, self.transition(criterion)) for criterion in CRITERIA)
        met = next(((criterion, step) for criterion, step in found if step is not None), None)
        return None if met is None or met[0] is CRITERIA[0] else met

    @property
    def grokked(self) -> bool:
        """Whether the training accuracy was complete at least five evaluations before the transition."""
        known, step = self.memorised, self.transition()
        if self.accuracy is None or known is None or step is None:
            return False
        evaluations = self.accuracy[0]
        return int(((evaluations >= known) & (evaluations < step)).sum()) >= DELAY

    @property
    def memorised(self) -> int | None:
        """First step with a training accuracy of at least 0.99."""
        return transition_step(*self.metrics[_TRAIN], MEMORISED) if _TRAIN in self.metrics else None

    # how it was watched ------------------------------------------------------------------------------------------

    @property
    def end(self) -> int:
        """The last step of which anything is known."""
        ends = [int(steps[-1]) for steps, _ in self.metrics.values() if len(steps)]
        return max([*ends, *self.trace.steps[-1:].tolist()], default=0)

    @property
    def cadence(self) -> float | None:
        """Steps between two observations, by the median."""
        return float(np.median(np.diff(self.trace.steps))) if len(self.trace.steps) > 1 else None

    @property
    def weight_decay(self) -> float | None:
        """Weight decay of the newest row, None where it was not logged."""
        values = self.trace.row_metadata("weight_decay")
        return float(values[-1]) if len(values) and np.isfinite(values[-1]) else None

    @cached_property
    def memory(self) -> tuple[float | None, str]:
        """Momentum that the null assumes, None where unknown, and where that comes from."""
        watched: Mapping[str, Any] = self.trace.metadata.get("monitor", {})
        momentum, optimizer = watched.get("momentum"), watched.get("optimizer")
        if momentum is None:
            return None, "unknown, so the null assumes updates without memory"
        return float(momentum), f"read from the optimizer ({optimizer})" if optimizer else "given with the trace"

    # windows -----------------------------------------------------------------------------------------------------

    @cached_property
    def series(self) -> EdgeSeries:
        """Every full window of the whole model."""
        return self.trace.edge(self.window)

    @cached_property
    def layers(self) -> dict[str, EdgeSeries]:
        """The same for each layer, or for each stored group where a trace holds only groups."""
        try:
            return {name: self.trace.edge(self.window, group=name) for name in self.trace.layers}
        except TraceError:
            return {name: self.trace.edge(self.window, group=name) for name in self.trace.groups}

    @property
    def windows(self) -> int:
        """Number of full windows."""
        return len(self.series.step)

    def index(self, step: int | None) -> int | None:
        """The last window that ends at or before a step; the last of all for None.

        None where there is no such window, or where the run ended before that step and so cannot be read there.
        """
        if self.windows == 0:
            return None
        if step is None:
            return self.windows - 1
        found = int(np.searchsorted(self.series.step, step, side="right")) - 1
        if found < 0 or step > self.end:
            return None
        return found

    def value(self, name: str, step: int | None) -> float | None:
        """A scalar quantity in the window at a step, None where undefined."""
        return self.element(name, step, None)

    def element(self, name: str, step: int | None, position: int | None, *, layer: str | None = None) -> float | None:
        """One element of a quantity in the window at a step (positions from 1), None where undefined."""
        at = self.index(step)
        if at is None:
            return None
        column = (self.series if layer is None else self.layers[layer])[name]
        value = float(column[at] if position is None else column[at, position - 1])
        return value if np.isfinite(value) else None

    def largest(self, step: int | None) -> tuple[int, float] | None:
        """Position and value of the largest normalised ratio, the one that the band speaks of, at a step."""
        at = self.index(step)
        if at is None or not np.isfinite(self.series["cosine_ratios"][at]).any():
            return None
        position = int(np.nanargmax(self.series["cosine_ratios"][at]))
        return position + 1, float(self.series["cosine_ratios"][at, position])

    def reason(self, name: str, step: int | None) -> Outcome | None:
        """Why a quantity is undefined at a step."""
        at = self.index(step)
        return None if at is None else self.series.reason(name)[at]

    def fall(self, name: str, step: int | None) -> Decline | None:
        """The published decline: the peak over all windows before the one at a step, against the value there."""
        at = self.index(step)
        return None if at is None else decline_pub(self.series[name][: at + 1], self.series.step[: at + 1])

    def fall_of_group(self, group: str, step: int | None) -> Decline | None:
        """The published decline of g23 of one recorded group."""
        if group not in self.trace.groups or self.index(step) is None:
            return None
        series = self.trace.edge(self.window, group=group)
        at = len(series.step) if step is None else int(np.searchsorted(series.step, step, side="right"))
        return decline_pub(series["g23"][:at], series.step[:at])

    def falls_from_start(self, step: int | None) -> bool:
        """Whether g23 has its peak in the first full window."""
        fall = self.fall("g23", step)
        return fall is not None and fall.peak_step == int(self.series.step[0])

    def fall_of_noise(self, step: int | None) -> tuple[float, float] | None:
        """Median and 95th percentile of the decline of g23 for structureless updates of constant norm."""
        at = self.index(step)
        return None if at is None or at == 0 or self.window < 3 else decline_null(self.window, at + 1)

    def falls(self, step: int | None) -> dict[str, Decline]:
        """The decline of everything in `DECLINES` that has one."""
        found = {name: self.fall(name, step) for name in DECLINES}
        return {name: fall for name, fall in found.items() if fall is not None}

    # over the whole run ------------------------------------------------------------------------------------------

    @cached_property
    def outside(self) -> float | None:
        """Share of windows whose largest normalised ratio leaves the band, among those that have a band."""
        return _share(np.isfinite(self.series["k_star_clear"]), np.isfinite(self.series["band_max"]))

    def clear_positions(self) -> dict[int, float]:
        """Share of each position among the windows in which k* stands clear of the band."""
        found = self.series["k_star_clear"]
        positions, counts = np.unique(found[np.isfinite(found)], return_counts=True)
        return {int(position): float(count / counts.sum()) for position, count in zip(positions, counts, strict=True)}

    @cached_property
    def weighted_one(self) -> float | None:
        """Share of windows with a weighted k* of 1, among those that have one."""
        position = self.series["k_star_weighted"]
        return _share(position == 1, np.isfinite(position))

    @cached_property
    def following(self) -> float | None:
        """Correlation of ln g23 with ln tr G over all windows."""
        g23, trace = self.series["g23"], self.series["gram_trace"]
        usable = np.isfinite(g23) & np.isfinite(trace) & (g23 > 0) & (trace > 0)
        if usable.sum() < 3:
            return None
        logs = np.log(g23[usable]), np.log(trace[usable])
        if min(float(np.std(column)) for column in logs) < 1e-12:
            return None
        return float(np.corrcoef(*logs)[0, 1])


def _share(which: Array, among: Array) -> float | None:
    return float((which & among).sum() / among.sum()) if among.any() else None
