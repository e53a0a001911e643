"""A checkpoint series through the same code as a live run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from spectral_edge.analysis import Trace
from spectral_edge.errors import InputError
from spectral_edge.observe import (
    CELLS,
    HubClient,
    Selection,
    Selector,
    SeriesOptions,
    Snapshot,
    Steps,
    snapshots,
)
from spectral_edge.recompute import recompute
from spectral_edge.recording import RecorderOptions, run_metadata
from spectral_edge.scanning import Walk, find_resume, is_complete
from spectral_edge.trace import read_folder


@dataclass(frozen=True, slots=True)
class ScanProgress:
    """How far a scan is.

    Attributes:
        done: snapshots done.
        total: snapshots of the series, where known.
        step: step of the newest.
        bytes: read so far.
    """

    done: int
    total: int | None
    step: int
    bytes: int


@torch.no_grad()
def scan(
    source: Any,
    *,
    horizon: int = 20,
    select: Selector | None = None,
    groups: Mapping[str, Selector] | None = None,
    out: str | Path | None = None,
    momentum: float | None = None,
    store: str = "tensors",
    metadata: Mapping[str, Any] | None = None,
    engine: str = "auto",
    cells: int = CELLS,
    sketch_seed: int = 0,
    backend: str = "auto",
    ring_dtype: torch.dtype | None = None,
    ladder: int = 0,
    keep_sketches: bool = False,
    steps: Steps | None = None,
    revisions: str | Sequence[str] | None = None,
    hub: HubClient | None = None,
    allow_pickle: bool = False,
    on_progress: Callable[[ScanProgress], None] | None = None,
) -> Trace:
    """Differences successive snapshots and records their lag rows.

    Args:
        source: a folder, a glob, a list of these or of files; a repository on the hub as "hub:owner/name"; a trace
            that kept sketches; or an iterable of arrays, state dicts or modules, each alone or as (step, snapshot).
            A file's step is the number after "step", "iter" or "checkpoint" in its name, else the last in it, else
            that of its folder; bare items count 0, 1, 2, ...
        horizon: number L of updates whose inner products are recorded.
        select: which parameters; all by default. Buffers, as far as their names tell, are left out.
        groups: named groups; one for each layer by default.
        out: folder of the trace; None keeps it in memory. A scan that was interrupted goes on where it was, and one
            of a series that has grown takes in what is new.
        momentum: the optimizer's momentum or beta1, in [0, 1), for the null; unknown by default.
        store: "tensors" or "groups", in the exact engine.
        metadata: anything worth keeping with the trace.
        engine: "exact", "sketch", or "auto", which takes the sketch from about a million parameters on.
        cells: cells of a sketch.
        sketch_seed: seed of a sketch.
        backend: of a sketch.
        ring_dtype: dtype of the kept updates in the exact engine; None is the parameters' own.
        ladder: number of longer rows: updates summed over 2, 4, ... snapshots.
        keep_sketches: keep the sketch of every snapshot in the trace, so that rows can be recomputed without weights.
        steps: steps of files or revisions in the natural order of their names, or a function from a name to its step.
        revisions: which branches and tags of a repository: a glob, "re:" and a regular expression, or names.
        hub: a client of the hub; the Hugging Face one by default.
        allow_pickle: load torch files that need full unpickling, which runs whatever code they hold.
        on_progress: called after each snapshot.

    Returns:
        The trace. Nothing is differenced across a hole (an interval over 1.5 times the median), a file that cannot be
        read, changed shapes or values that are not finite; the trace's notes name each.

    Raises:
        InputError: on an empty source, one snapshot, steps that do not increase or cannot be told, a first file that
            cannot be read, a folder `out` that holds something else, or an option that is none.
        MissingExtraError: for a repository on the hub without the extra `hub`.
    """
    if momentum is not None and not 0 <= momentum < 1:
        raise InputError(
            "momentum",
            expected="a number of at least 0 and below 1",
            found=str(momentum),
            remedy="pass the optimizer's momentum or beta1, or leave it out",
        )
    folder = None if out is None else Path(out)
    described: dict[str, Any] = {"horizon": horizon, "ladder": ladder, "keep_sketches": keep_sketches}
    described |= {"engine": engine, "cells": cells, "sketch_seed": sketch_seed, "backend": backend, "store": store}
    described |= {"ring_dtype": str(ring_dtype), "select": _said(select), "momentum": momentum}
    described["groups"] = None if groups is None else {name: _said(one) for name, one in groups.items()}
    options = RecorderOptions(
        horizon,
        Selection(select, groups),
        folder,
        store,
        ring_dtype,
        None,
        run_metadata(metadata),
        engine=engine,
        cells=cells,
        seed=sketch_seed,
        backend=backend,
        ladder=ladder,
        keep_sketches=keep_sketches,
    )
    if (trace := _trace_folder(source)) is not None:
        if select is not None or groups is not None:
            raise InputError(
                "select and groups",
                expected="none, since a sketch's groups were fixed when it was made",
                found=f"{select!r} and {groups!r}",
                remedy="ask for a group of the result with edge(group=...)",
            )
        added = options.metadata if metadata else {}
        return recompute(trace, horizon=horizon, ladder=ladder, out=folder, keep_sketches=keep_sketches, metadata=added)
    series, listed = snapshots(source, SeriesOptions(allow_pickle, steps, revisions, hub))
    subject = str(source) if isinstance(source, (str, Path)) else "source"
    known = None if listed is None else [snapshot.step for snapshot in listed]
    if known is not None:
        _check_steps(known, subject)
    described["snapshots"] = None if listed is None else [[snapshot.step, snapshot.label] for snapshot in listed]
    watched = {"window": None, "every": None, "momentum": momentum, "optimizer": None}
    options = _with(options, {"monitor": watched, "scan": described})
    resume = find_resume(folder, options) if folder is not None else None
    if folder is not None and resume is not None and is_complete(folder, listed):
        return Trace(read_folder(folder))
    walk = Walk(options, known, resume)
    try:
        _walk(walk, series, listed, subject, on_progress)
        walk.finish()
        if folder is not None and walk.rehearsing:
            return Trace(read_folder(folder))
        assert walk.recorder is not None
        return Trace(walk.recorder.chronicle.segments())
    finally:
        walk.close()


def _walk(
    walk: Walk,
    series: Any,
    listed: Sequence[Snapshot] | None,
    subject: str,
    on_progress: Callable[[ScanProgress], None] | None,
) -> None:
    read = 0
    for index, snapshot in enumerate(series):
        if walk.seen:
            _check_steps([walk.seen[-1], snapshot.step], subject)
        if listed is not None and index + 1 < len(listed):
            listed[index + 1].ahead()
        read += walk.take(snapshot)
        if on_progress is not None:
            on_progress(ScanProgress(index + 1, len(listed) if listed else None, snapshot.step, read))
    _check_steps(walk.seen, subject)


def _with(options: RecorderOptions, metadata: Mapping[str, Any]) -> RecorderOptions:
    return replace(options, metadata={**options.metadata, **metadata})


def _trace_folder(source: Any) -> Path | None:
    """The folder of a trace, if that is what a source names."""
    if isinstance(source, (str, Path)) and (Path(source) / "trace.json").is_file():
        return Path(source)
    return None


def _said(selector: Selector | None) -> Any:
    """A selector as plain JSON; a function by its name."""
    if callable(selector):
        return f"function {getattr(selector, '__qualname__', type(selector).__name__)}"
    return selector if selector is None or isinstance(selector, str) else list(selector)


def _check_steps(steps: Sequence[int], subject: str) -> None:
    if len(steps) < 2:
        raise InputError(
            subject,
            expected="at least two snapshots",
            found=f"{len(steps) or 'none'}",
            remedy="check the path or the pattern; an update is the difference of two",
        )
    for before, after in pairwise(steps):
        if after <= before:
            raise InputError(
                subject,
                expected="increasing steps",
                found=f"{after} after {before}",
                remedy="sort the snapshots and remove duplicates",
            )
