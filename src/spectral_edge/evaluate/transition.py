"""What the gap does up to a step: for a run the step of its transition, for a control that of its twin's.

The published statistics of the grokking tables (arXiv 2603.28964 and its replication scripts) stand beside what they
leave out: the same for the update norm that g23 follows, the end of the run, where coherence is lowest and how often a
ratio leaves its band. A control is read by the same function at its twin's step.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError
from spectral_edge.measure import DECLINED, Decline, decline_pub

Array = NDArray[np.float64]


class EdgeTrace(Protocol):
    """What is needed of an `analysis.Trace`."""

    @property
    def steps(self) -> NDArray[np.int64]:
        """Step of every recorded update."""
        ...

    def edge(
        self,
        window: int | None = None,
        *,
        stride: int = 1,
        group: str | None = None,
        k_star: str = "raw",
        partial: bool = False,
    ) -> Mapping[str, Any]:
        """Every quantity for every full window, and for the published growing ones if asked for."""
        ...


@dataclass(frozen=True, slots=True)
class AtTransition:
    """One run up to a step, over its full windows; "before" are all windows but the one that is read.

    Attributes:
        step: the step that was asked for.
        read_at: step of the last full window up to it; None where there is none, and then nothing is known.
        window: number W of updates.
        stride: observations that one update of the window sums.
        windows: number of full windows up to the step.
        g23: the published decline: peak before against the value read, in u^2.
        g23_growing: the same with the published growing windows of 2 to W-1 updates among those before.
        g23_normalized: the same for g23 / tr G, which the update norm leaves alone.
        gram_trace: the same for tr G, the squared norms of the window's updates, in u^2.
        g23_settled: the same against the median of the last W windows in place of the last alone: in any one window the
            difference of two eigenvalues may happen to be small. None without a window before those.
        g23_to_end: peak of the whole run against its last window, as published for runs without a transition.
        g23_to_end_growing: the same with growing windows.
        as_low: step of the first window in which g23 is no larger than in the one read: the fall is over by then.
        increases: how often g23 rises from one window to the next, from its peak to the step.
        ratio_before: mean of R at the weighted k* before.
        ratio: R at the weighted k* of the window read.
        k_star_raw: the thesis' k*; None where it is undefined or tied, as for the others.
        k_star_weighted: that of the grokking tables.
        k_star_restricted: that of the language-model figures.
        k_star_last: the weighted k* of the run's last window.
        weighted_one: share of windows up to the step whose weighted k* is 1, among those that have one.
        coherence: mean cosine of the window's updates.
        coherence_lowest: the lowest up to the step.
        coherence_turn: step of the lowest; before `read_at` where coherence has turned upward by then.
        outside: share of windows up to the step whose largest ratio leaves the band, among those that have a band.
    """

    step: int
    read_at: int | None
    window: int
    stride: int
    windows: int
    g23: Decline | None
    g23_growing: Decline | None
    g23_normalized: Decline | None
    gram_trace: Decline | None
    g23_settled: Decline | None
    g23_to_end: Decline | None
    g23_to_end_growing: Decline | None
    as_low: int | None
    increases: int | None
    ratio_before: float | None
    ratio: float | None
    k_star_raw: int | None
    k_star_weighted: int | None
    k_star_restricted: int | None
    k_star_last: int | None
    weighted_one: float | None
    coherence: float | None
    coherence_lowest: float | None
    coherence_turn: int | None
    outside: float | None

    @property
    def declined(self) -> bool | None:
        """Whether g23 fell by more than the published bar of 1.5; None where it has no decline."""
        return None if self.g23 is None else self.g23.fold > DECLINED

    @property
    def monotone(self) -> bool | None:
        """Whether g23 rose at most once on the way, the published allowance."""
        return None if self.increases is None else self.increases <= 1


def at_transition(
    trace: EdgeTrace, step: int, *, window: int = 10, stride: int = 1, group: str | None = None
) -> AtTransition:
    """What the gap of a recorded run does up to a step.

    Args:
        trace: the run.
        step: of the transition; for a control, of its twin's.
        window: number W of updates, at least 3.
        stride: observations that one update sums; one window every `stride` observations.
        group: a recorded group, or several by one glob; None is the whole model.

    Returns:
        Everything that is defined; a decline is None with fewer than two windows up to the step, or where peak or value
        is not positive.

    Raises:
        InputError: for a window below 3, or a step that the run did not reach, to within an observation.
    """
    if window < 3:
        raise InputError("window", expected="at least 3 updates", found=str(window), remedy="g23 needs three values")
    _check_reached(trace.steps, step)
    series = trace.edge(window, stride=stride, group=group, k_star="weighted")
    growing = trace.edge(window, stride=stride, group=group, k_star="weighted", partial=True)
    steps: NDArray[np.int64] = series["step"]
    end = len(steps)
    count = int(np.searchsorted(steps, step, side="right"))
    last = count - 1 if count else None
    fall = _fall(series, "g23", count)
    ratio, coherence, weighted = series["gap_ratio"], series["coherence"], series["k_star_weighted"]
    lowest = int(np.nanargmin(coherence[:count])) if np.isfinite(coherence[:count]).any() else None
    return AtTransition(
        step=step,
        read_at=None if last is None else int(steps[last]),
        window=window,
        stride=stride,
        windows=count,
        g23=fall,
        g23_growing=_fall(growing, "g23", _up_to(growing, steps, count)),
        g23_normalized=_fall(series, "g23_normalized", count),
        gram_trace=_fall(series, "gram_trace", count),
        g23_settled=_settled(series, count, window),
        g23_to_end=_fall(series, "g23", end),
        g23_to_end_growing=_fall(growing, "g23", _up_to(growing, steps, end)),
        as_low=_as_low(series, count),
        increases=_increases(series, fall, count),
        ratio_before=_mean(ratio[: max(count - 1, 0)]),
        ratio=_number(ratio, last),
        k_star_raw=_position(series["k_star_raw"], last),
        k_star_weighted=_position(weighted, last),
        k_star_restricted=_position(series["k_star_restricted"], last),
        k_star_last=_position(weighted, end - 1 if end else None),
        weighted_one=_share(weighted[:count] == 1, np.isfinite(weighted[:count])),
        coherence=_number(coherence, last),
        coherence_lowest=_number(coherence, lowest),
        coherence_turn=None if lowest is None else int(steps[lowest]),
        outside=_share(np.isfinite(series["k_star_clear"][:count]), np.isfinite(series["band_max"][:count])),
    )


def _check_reached(steps: NDArray[np.int64], step: int) -> None:
    cadence = float(np.median(np.diff(steps))) if len(steps) > 1 else 0.0
    reached = int(steps[-1]) if len(steps) else 0
    if not 1 <= step < reached + max(cadence, 1.0):
        raise InputError(
            "step",
            expected=f"a step that the run reached, from 1 to {reached}",
            found=str(step),
            remedy="record the control for as long as its twin",
        )


def _fall(series: Mapping[str, Any], name: str, count: int) -> Decline | None:
    return decline_pub(series[name][:count], series["step"][:count]) if count else None


def _settled(series: Mapping[str, Any], count: int, width: int) -> Decline | None:
    """The peak up to a window against the median of the `width` windows that end there."""
    if count <= width:
        return None
    values = np.array(series["g23"][:count])
    recent = values[-width:]
    values[-1] = np.median(recent[np.isfinite(recent)]) if np.isfinite(recent).any() else np.nan
    return decline_pub(values, series["step"][:count])


def _up_to(growing: Mapping[str, Any], steps: NDArray[np.int64], count: int) -> int:
    """Windows, growing ones included, up to the last of `count` full ones: what is read is always a full window."""
    return int(np.searchsorted(growing["step"], steps[count - 1], side="right")) if count else 0


def _as_low(series: Mapping[str, Any], count: int) -> int | None:
    """Step of the first window whose g23 is at most that of the last of `count`; None where that is undefined."""
    values = series["g23"][:count]
    return None if count == 0 or not np.isfinite(values[-1]) else int(series["step"][np.argmax(values <= values[-1])])


def _increases(series: Mapping[str, Any], fall: Decline | None, count: int) -> int | None:
    """Rises of g23 between neighbouring windows from its peak to the window read."""
    if fall is None:
        return None
    start = int(np.searchsorted(series["step"], fall.peak_step))
    return int((np.diff(series["g23"][start:count]) > 0).sum())


def _number(column: Array, at: int | None) -> float | None:
    return None if at is None or not np.isfinite(column[at]) else float(column[at])


def _position(column: Array, at: int | None) -> int | None:
    value = _number(column, at)
    return None if value is None else int(value)


def _mean(values: Array) -> float | None:
    return float(np.nanmean(values)) if np.isfinite(values).any() else None


def _share(which: NDArray[np.bool_], among: NDArray[np.bool_]) -> float | None:
    return float((which & among).sum() / among.sum()) if among.any() else None
