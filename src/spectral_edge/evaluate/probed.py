"""Probe rows of a trace, put in line with its windows."""

from collections.abc import Sequence
from numbers import Integral
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError, TraceError
from spectral_edge.measure import grams
from spectral_edge.records import ProbeRow
from spectral_edge.trace import Segment

Array = NDArray[np.float64]


class ProbedTrace(Protocol):
    """What is needed of an `analysis.Trace`."""

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The chain of segments, oldest first."""
        ...

    @property
    def steps(self) -> NDArray[np.int64]:
        """Step of every recorded update."""
        ...

    @property
    def horizon(self) -> int:
        """Number of recorded lags."""
        ...

    @property
    def window(self) -> int:
        """The window that the run was watched with."""
        ...

    def lag_rows(self, group: str | None = None) -> Array:
        """Lag rows of the whole model or a group."""
        ...

    def row_metadata(self, name: str) -> Array:
        """One value logged with every row."""
        ...

    def metrics(self, name: str) -> tuple[NDArray[np.int64], Array]:
        """Steps and values of one metric."""
        ...

    def probes(self, name: str) -> list[ProbeRow]:
        """Every row of one probe."""
        ...


def width_of(trace: ProbedTrace, window: int | None) -> int:
    """The window to work with: the one asked for, or that of the recorded run.

    Raises:
        InputError: if there is no trace, or the window is no number of updates.
    """
    if not hasattr(trace, "lag_rows"):
        raise InputError(
            "trace",
            expected="an analysis.Trace",
            found=type(trace).__name__,
            remedy="pass monitor.trace" if hasattr(trace, "trace") else "pass monitor.trace or open_trace(folder)",
        )
    width = trace.window if window is None else window
    if not isinstance(width, Integral):
        raise InputError("window", expected="a number of updates", found=repr(window), remedy="pass a whole number")
    return int(width)


def chain_windows(trace: ProbedTrace, width: int, group: str | None) -> NDArray[np.intp]:
    """Indices of the last update of every full window of `width` updates that is known and moves [N].

    Args:
        trace: recorded.
        width: number of updates.
        group: a recorded group; None is the whole model.

    Raises:
        InputError: if the window exceeds the horizon or has fewer than two updates.
    """
    if not 2 <= width <= trace.horizon:
        raise InputError(
            "window",
            expected=f"2 to {trace.horizon} updates",
            found=str(width),
            remedy="record with a longer horizon, or use another window",
        )
    rows = trace.lag_rows(group)
    ends = np.arange(width - 1, len(rows))
    blocks = grams(rows, ends, size=width)
    full = np.isfinite(blocks).all(axis=(-2, -1)) & (np.trace(blocks, axis1=-2, axis2=-1) > 0)
    return ends[full]


class Products:
    """Inner products of probes with the updates of windows, oldest update first.

    Args:
        trace: recorded.
        width: number W of updates in a window.
        group: a recorded group; None is the whole model.
        remedy: what records the probes that are missing, for messages.

    Raises:
        TraceError: if the group is none of the recorded ones; where probes are asked for, if they were not recorded.
    """

    def __init__(
        self,
        trace: ProbedTrace,
        width: int,
        group: str | None,
        *,
        remedy: str = "record it with monitor.probe()",
    ) -> None:
        self._trace, self._width, self._remedy = trace, width, remedy
        self._members: dict[int, list[int]] = {}
        for segment in trace.segments:
            members = _members(segment, group)
            for step in np.asarray(segment.rows["step"]).tolist():
                self._members[int(step)] = members
        self._rows: dict[str, dict[int, ProbeRow]] = {}

    def at(self, name: str, index: NDArray[np.intp]) -> tuple[Array, NDArray[np.bool_]]:
        """Products of a probe taken at the end of each window [N, W], and where they are known [N].

        Args:
            name: of the probe.
            index: of each window's last update.
        """
        found = np.full((len(index), self._width), np.nan)
        for n, i in enumerate(index.tolist()):
            step = int(self._trace.steps[i])
            row = self._named(name).get(step)
            if row is not None and row.lags.shape[-1] >= self._width:
                found[n] = _summed(row.lags, self._members[step])[: self._width][::-1]
        return found, _known(found)

    def before(self, name: str, index: NDArray[np.intp]) -> tuple[Array, NDArray[np.bool_]]:
        """Products of a probe taken where the last update of each window starts [N, W], and where they are known [N].

        Args:
            name: of the probe.
            index: of each window's last update.
        """
        found = np.full((len(index), self._width), np.nan)
        for n, i in enumerate(index.tolist()):
            step = int(self._trace.steps[i - 1])
            row = self._named(name).get(step) if i > 0 else None
            if row is not None and row.lags.shape[-1] >= self._width - 1:
                members = self._members[step]
                past = _summed(row.lags, members)[: self._width - 1][::-1]
                found[n] = np.append(past, _summed(row.following, members))
        return found, _known(found)

    def between(self, name: str, other: str, index: NDArray[np.intp]) -> Array:
        """Products of two probes of the same observation [N]; of one with itself, its squared norm.

        Args:
            name: of one probe.
            other: of the other.
            index: of the observations' updates.
        """
        found = np.full(len(index), np.nan)
        for n, i in enumerate(index.tolist()):
            step = int(self._trace.steps[i])
            row = self._named(name).get(step)
            if row is not None:
                values = row.square if name == other else row.products.get(other)
                if values is not None:
                    found[n] = _summed(values, self._members[step])
        return found

    def _named(self, name: str) -> dict[int, ProbeRow]:
        if name not in self._rows:
            try:
                rows = self._trace.probes(name)
            except TraceError as error:
                raise TraceError(
                    error.subject, expected=error.expected, found=error.found, remedy=self._remedy
                ) from error
            self._rows[name] = {row.step: row for row in rows}
        return self._rows[name]


def _known(products: Array) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(products).all(axis=-1))


def _summed(values: Array, members: Sequence[int]) -> Array:
    return np.ascontiguousarray(values[list(members)]).sum(axis=0)


def _members(segment: Segment, group: str | None) -> list[int]:
    """Which of a segment's stored entries make up a group."""
    inventory = segment.inventory
    if group is None:
        indices = tuple(range(len(inventory.tensors)))
    elif group in inventory.groups:
        indices = inventory.groups[group]
    else:
        raise TraceError(
            f"group {group!r}",
            expected=f"one of {', '.join(inventory.groups)}",
            found="none recorded under that name",
            remedy="name it in Monitor(groups=...)",
        )
    members = segment.members(indices)
    if members is None:
        raise TraceError(
            "this trace",
            expected=f"a union of its stored groups {', '.join(segment.entries)}",
            found=repr(group),
            remedy="record with store='tensors' to regroup later",
        )
    return list(members)
