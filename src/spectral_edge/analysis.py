"""Everything that can be recomputed from a recorded trace, without retraining."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError, TraceError
from spectral_edge.measure import (
    Memory,
    WindowOptions,
    Windows,
    grams,
    group_rows,
    known_memory,
    sketch_error,
    window_ends,
)
from spectral_edge.observe import Selector, layer_of, matcher
from spectral_edge.quantities import ROW_METADATA
from spectral_edge.records import Note, ProbeRow
from spectral_edge.series import EdgeSeries, Part
from spectral_edge.trace import Segment, metrics, notes, probes, read_folder

Array = NDArray[np.float64]

DEFAULT_WINDOW = 10

_BATCH = 4096
"""Windows measured at once, so that intermediate results stay small."""


class Trace:
    """A recorded run: lag rows, probes, metrics and metadata, read lazily.

    Args:
        chain: the segments that continue each other, oldest first.
    """

    def __init__(self, chain: Sequence[Segment]) -> None:
        self.segments = tuple(chain)

    # what was recorded --------------------------------------------------------------------------------------------

    @property
    def steps(self) -> NDArray[np.int64]:
        """Step of every recorded update [T]."""
        return self._steps

    @cached_property
    def _steps(self) -> NDArray[np.int64]:
        return np.concatenate([np.asarray(s.rows["step"], dtype=np.int64) for s in self.segments])

    @property
    def horizon(self) -> int:
        """Number of recorded lags."""
        return max(segment.horizon for segment in self.segments)

    @property
    def window(self) -> int:
        """The window that the run was watched with, or the default, as far as the horizon allows."""
        watched = self.metadata.get("monitor", {}).get("window")
        return min(int(watched or DEFAULT_WINDOW), self.horizon)

    def __repr__(self) -> str:
        steps = f"steps {self.steps[0]} to {self.steps[-1]}" if len(self.steps) else "no update"
        watched = self.segments[-1].inventory
        return f"Trace({len(self.steps)} updates, {steps}, {watched.watched:,} parameters, horizon {self.horizon})"

    @property
    def metadata(self) -> dict[str, Any]:
        """Configuration, versions and how the run was watched, of the newest segment."""
        return self.segments[-1].metadata

    @property
    def coverage(self) -> float:
        """Share of the trainable parameters that is watched."""
        return self.segments[-1].inventory.coverage

    @property
    def parameter_count(self) -> int:
        """Number of watched parameters."""
        return self.segments[-1].inventory.watched

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the recorded groups."""
        return tuple(self.segments[-1].inventory.groups)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that the watched tensors belong to; each is a group too."""
        return tuple(dict.fromkeys(layer_of(t.name) for t in self.segments[-1].inventory.tensors))

    @property
    def notes(self) -> list[Note]:
        """What happened to the observation: skipped steps, restarts, rewinds."""
        return notes(list(self.segments))

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the user's metrics."""
        return self._metric_names

    @cached_property
    def _metric_names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for _, values in metrics(list(self.segments)) for name in values))

    def metrics(self, name: str) -> tuple[NDArray[np.int64], Array]:
        """Steps and values of one metric.

        Raises:
            TraceError: if it was never logged.
        """
        found = [(step, values[name]) for step, values in metrics(list(self.segments)) if name in values]
        if not found:
            raise TraceError(
                f"metric {name!r}",
                expected=f"one of {', '.join(self.metric_names) or 'no metrics'}",
                found="none logged under that name",
                remedy="log it with monitor.log()",
            )
        return np.array([step for step, _ in found]), np.array([value for _, value in found])

    def row_metadata(self, name: str) -> Array:
        """One value logged with every row [T], by a name of `quantities.ROW_METADATA`; NaN where unknown."""
        columns = [
            np.asarray(s.rows[name], dtype=np.float64)
            if name in (s.rows.dtype.names or ())
            else np.full(len(s.rows), np.nan)
            for s in self.segments
        ]
        return np.concatenate(columns)

    @property
    def probe_names(self) -> tuple[str, ...]:
        """Names of the probes."""
        named = [entry["name"] for s in self.segments for entry in s.log if entry["kind"] == "probe"]
        return tuple(dict.fromkeys(named))

    def probes(self, name: str) -> list[ProbeRow]:
        """Every row of one probe.

        Raises:
            TraceError: if there is no such probe.
        """
        if name not in self.probe_names:
            raise TraceError(
                f"probe {name!r}",
                expected=f"one of {', '.join(self.probe_names) or 'no probes'}",
                found="none recorded under that name",
                remedy="record it with monitor.probe()",
            )
        return probes(list(self.segments), name)

    @property
    def strides(self) -> tuple[int, ...]:
        """Numbers of observations whose summed updates have rows of their own: 1, and the powers of two of a ladder."""
        return tuple(2**level for level in range(1 + min(segment.ladder_levels for segment in self.segments)))

    def lag_rows(self, group: Selector | None = None, *, stride: int = 1) -> Array:
        """Lag rows `r_t[l] = <d_t, d_{t-l}>` [T, L] of the whole model, a group, a layer, or names by glob.

        Args:
            group: which; None is the whole model.
            stride: rows of updates summed over so many observations, one of `strides`; `ladder_steps` has their steps.

        Raises:
            TraceError: if nothing matches, the trace stores groups that do not add up to what is asked, or no rows of
                this stride are recorded.
        """
        if stride not in self.strides:
            raise TraceError(
                f"rows of stride {stride}",
                expected=f"one of {', '.join(map(str, self.strides))}",
                found="none recorded",
                remedy="watch with a larger ladder=",
            )
        return np.concatenate([self._segment_rows(segment, group, stride) for segment in self.segments])

    def ladder_steps(self, stride: int) -> NDArray[np.int64]:
        """Step of every recorded row of a stride [T]."""
        return self.steps[self._ladder_index(stride)]

    def _ladder_index(self, stride: int) -> NDArray[np.intp]:
        """Which of the rows of stride 1 each row of a longer stride ends with."""
        if stride == 1:
            return np.arange(len(self.steps))
        found, first = [np.empty(0, dtype=np.intp)], 0
        for segment in self.segments:
            steps = segment.longer(stride)["step"]
            found.append(first + np.searchsorted(np.asarray(segment.rows["step"]), steps))
            first += len(segment.rows)
        return np.concatenate(found)

    # what follows from it -----------------------------------------------------------------------------------------

    def edge(
        self,
        window: int | None = None,
        *,
        stride: int = 1,
        group: Selector | None = None,
        k_star: str = "raw",
        null: str = "band",
        partial: bool = False,
    ) -> EdgeSeries:
        """Every quantity for every full window, recomputed from lag rows.

        Args:
            window: number W of rows; that of the recorded run, or 10, by default.
            stride: observations that one row sums; one window every `stride` observations, aligned to the newest.
                Where two windows reach beyond the horizon, rows of a recorded ladder serve, aligned to its newest.
            group: a recorded group, a layer, tensor names by glob, or several groups by one; None is the whole model.
            k_star: the convention that feeds gaps and adiabatic parameters.
            null: what `band_*` and `k_star_clear` compare with.
            partial: also give the published growing windows of 2 to W-1 rows after each restart.

        Raises:
            InputError: if window times stride exceeds the horizon, or an option is unknown.
            TraceError: if the group is unknown.
        """
        if stride < 1:
            raise InputError("stride", expected="at least 1 observation", found=str(stride), remedy="use stride=1")
        window = self.window if window is None else window
        options = WindowOptions(window, k_star, null)
        base = self._base_stride(window, stride)
        rows, position, inner = self.lag_rows(group, stride=base), self._ladder_index(base), stride // base
        ends = window_ends(len(rows), stride=inner)
        # The newest row knows its products with every row since the last restart.
        depth = np.isfinite(rows).sum(axis=-1)
        reach = np.minimum(_run_length(depth), len(rows))
        full = ends[reach[ends] >= window * inner]
        chosen = [(full, window)]
        if partial:
            chosen += [(ends[reach[ends] // inner == width], width) for width in range(2, window)]
        index = np.sort(np.concatenate([at for at, _ in chosen]))
        metadata = {name: self.row_metadata(name) for name in ROW_METADATA}
        metadata["sketch_error"] = np.concatenate([self._sketch_errors(segment, group) for segment in self.segments])
        metadata = {name: column[position] for name, column in metadata.items()}
        parts: list[Part] = []
        for at, width in chosen:
            for memory, some in self._by_memory(at, position, width * stride, stride):
                measured = Windows(
                    grams(rows, some, size=min(2 * width, self.horizon // inner), stride=inner),
                    replace(options, window=width, memory=memory),
                    learning_rate=metadata["learning_rate"][some],
                    sketch_error=metadata["sketch_error"][some],
                )
                parts.append(Part(np.searchsorted(index, some), measured, width))
        columns = {name: column[index] for name, column in metadata.items()}
        return EdgeSeries(self.steps[position[index]], parts, columns, window=window, stride=stride)

    def report(self, path: str | Path, *, control: "Trace | None" = None, title: str | None = None) -> Path:
        """Writes a self-contained HTML report, beside a control run if one is given.

        Raises:
            MissingExtraError: without the extra `report`.
        """
        from spectral_edge.report import write_report

        return write_report(self, Path(path), control=control, title=title)

    def _base_stride(self, window: int, stride: int) -> int:
        """The shortest recorded stride whose rows reach over two windows, as overlaps need, or else over one."""
        for windows in (2, 1):
            for base in self.strides:
                if stride % base == 0 and windows * window * (stride // base) <= self.horizon:
                    return base
        reach = f"at most {self.horizon} recorded lags"
        raise InputError(
            f"window {window} at stride {stride}",
            expected=reach if len(self.strides) == 1 else f"{reach}, of updates summed over {self.strides[1:]} at most",
            found=f"{window * stride} needed",
            remedy="record with a longer horizon or ladder, or use a smaller window or stride",
        )

    def _by_memory(
        self, ends: NDArray[np.intp], position: NDArray[np.intp], span: int, stride: int
    ) -> Iterator[tuple[Memory | None, NDArray[np.intp]]]:
        """Windows that end at `ends`, some thousands at a time, with the memory that they share.

        Args:
            ends: indices of rows.
            position: which observation each row ends with.
            span: observations in a window.
            stride: observations that a row of the window sums.
        """
        watched = self.metadata.get("monitor", {})
        momentum, every = watched.get("momentum"), watched.get("every")
        found: dict[Memory | None, list[int]] = {}
        if len(np.unique(np.diff(self.steps))) <= 1:
            found[known_memory(momentum, self.steps, every=every, stride=stride)] = ends.tolist()
        else:
            for end in ends.tolist():
                last = int(position[end])
                steps = self.steps[max(0, last - span + 1) : last + 1]
                found.setdefault(known_memory(momentum, steps, every=every, stride=stride), []).append(end)
        for memory, some in found.items():
            for start in range(0, len(some), _BATCH):
                yield memory, np.array(some[start : start + _BATCH])

    def _segment_rows(self, segment: Segment, group: Selector | None, stride: int = 1) -> Array:
        records = segment.rows if stride == 1 else segment.longer(stride)
        wide = np.full((len(records), self.horizon), np.nan)
        indices = self._indices(segment, group)
        if indices is None:
            return wide
        members = segment.members(indices)
        if members is None:
            raise TraceError(
                "this trace",
                expected=f"a union of its stored groups {', '.join(segment.entries)}",
                found=repr(group),
                remedy="record with store='tensors' to regroup later",
            )
        wide[:, : segment.horizon] = group_rows(np.asarray(records["lags"]), members)
        return wide

    def _sketch_errors(self, segment: Segment, group: Selector | None) -> Array:
        """Relative standard error of an isolated singular value from sketching, for every row of a segment [T]."""
        errors = np.array(segment.metadata.get("engine", {}).get("errors", [0.0] * len(segment.entries)))
        indices = self._indices(segment, group)
        members = None if indices is None else segment.members(indices)
        if members is None or not errors.any():
            return np.zeros(len(segment.rows))
        return sketch_error(np.asarray(segment.rows["lags"])[:, list(members), 0], errors[list(members)])

    def _indices(self, segment: Segment, group: Selector | None) -> tuple[int, ...] | None:
        inventory = segment.inventory
        if group is None:
            return tuple(range(len(inventory.tensors)))
        if isinstance(group, str) and group in inventory.groups:
            return inventory.groups[group]
        layer = tuple(i for i, t in enumerate(inventory.tensors) if layer_of(t.name) == group)
        if layer:
            return layer
        match = matcher(group)
        found = tuple(i for i, t in enumerate(inventory.tensors) if match(t.name, t))
        if not found and isinstance(group, str):  # several groups at once, for instance "attention_*"
            named = (members for name, members in inventory.groups.items() if fnmatchcase(name, group))
            found = tuple(sorted({index for members in named for index in members}))
        if not found and segment is self.segments[-1]:
            known = ", ".join(list(dict.fromkeys((*self.groups, *self.layers)))[:6])
            raise TraceError(
                f"group {group!r}",
                expected=f"a group, a layer or a glob over names, such as {known}",
                found="no tensor that matches",
                remedy="see trace.groups and trace.layers",
            )
        return found or None


def open_trace(path: str | Path, *, generation: int | None = None) -> Trace:
    """Opens a recorded trace, or one that is being written.

    Args:
        path: the folder given to `Monitor(out=...)`, or one whose subfolder `trace` it is.
        generation: which branch of a run that was rewound; the newest by default.

    Raises:
        TraceError: if there is none, or it was written by a newer version.
    """
    folder = Path(path)
    inner = folder / "trace"
    if not (folder / "trace.json").exists() and (inner / "trace.json").exists():
        folder = inner
    return Trace(read_folder(folder, generation=generation))


def _run_length(depth: NDArray[np.int64]) -> NDArray[np.int64]:
    """Updates since the last restart at every row, from how many products each row knows (at most the horizon)."""
    fresh = np.concatenate([[True], depth[1:] <= 1])
    start = np.maximum.accumulate(np.where(fresh, np.arange(len(depth)), 0))
    return np.arange(len(depth)) - start + 1
