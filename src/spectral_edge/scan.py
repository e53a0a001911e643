"""A checkpoint series through the same code as a live run."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spectral_edge.analysis import Trace
from spectral_edge.errors import InputError, Outcome
from spectral_edge.observe import NamedSource, Selection, Selector, Snapshot, snapshots
from spectral_edge.recording import Recorder, RecorderOptions, run_metadata
from spectral_edge.trace import read_folder, read_memory

HOLE = 1.5
"""An interval longer than this many times the median is a hole."""


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
    allow_pickle: bool = False,
    on_progress: Callable[[int, int | None], None] | None = None,
) -> Trace:
    """Differences successive snapshots and records their lag rows.

    Args:
        source: a folder, a glob, paths, or an iterable of arrays, state dicts or modules, each alone or as
            (step, snapshot). Steps of files are the last number in their names; bare items count 0, 1, 2, ...
        horizon: number L of updates whose inner products are recorded.
        select: which parameters; all by default. Buffers, as far as their names tell, are left out.
        groups: named groups; one for each layer by default.
        out: folder of the trace; None keeps it in memory.
        momentum: the optimizer's momentum or beta1, for the null; unknown by default.
        store: "tensors" or "groups".
        metadata: anything worth keeping with the trace.
        allow_pickle: load torch files that need full unpickling, which runs whatever code they hold.
        on_progress: called with the number of snapshots done and of all, if known.

    Returns:
        The trace. An interval over 1.5 times the median is a hole: nothing is differenced across it.

    Raises:
        InputError: on an empty source, one snapshot, steps that do not increase, changed shapes, NaN or infinity, or a
            file that cannot be read.
    """
    series, steps = snapshots(source, allow_pickle=allow_pickle)
    if steps is not None:
        _check_steps(steps)
    described = {"window": None, "every": None, "momentum": momentum, "optimizer": None}
    options = RecorderOptions(
        horizon,
        Selection(select, groups),
        None if out is None else Path(out),
        store,
        None,
        None,
        {**run_metadata(metadata), "monitor": described},
    )
    recorder: Recorder | None = None
    seen: list[int] = []
    for snapshot in series:
        current = NamedSource(snapshot.load())
        if recorder is None:
            recorder = Recorder(current, options)
            if not recorder.ring.ready:
                raise _broken(snapshot)
        else:
            _check_steps([seen[-1], snapshot.step])
            # Where later steps are unknown, the intervals so far have to tell what is usual.
            intervals = np.diff(steps or [*seen, snapshot.step])
            _add(recorder, current, snapshot, seen[-1], float(np.median(intervals)))
        seen.append(snapshot.step)
        if on_progress is not None:
            on_progress(len(seen), len(steps) if steps else None)
    _check_steps(seen)
    assert recorder is not None
    recorder.segment.sync()
    chain = read_memory(recorder.writer.segments) if out is None else read_folder(Path(out))
    recorder.close()
    return Trace(chain)


def _add(recorder: Recorder, current: NamedSource, snapshot: Snapshot, last: int, median: float) -> None:
    shapes = {info.name: info.shape for info in recorder.inventory.tensors}
    now, _ = recorder.options.selection.apply(current)
    if now.tensors != recorder.inventory.tensors:
        found = {info.name: info.shape for info in now.tensors}
        odd = sorted(name for name in {*shapes, *found} if shapes.get(name) != found.get(name))
        name = odd[0] if odd else "the dtype"
        raise InputError(
            snapshot.label,
            expected=f"{name} of shape {shapes.get(name, 'absent')} as before",
            found=str(found.get(name, "absent")),
            remedy="scan the snapshots before and after separately, or leave it out with select=",
        )
    if snapshot.step - last > HOLE * median:
        message = f"no snapshot between steps {last} and {snapshot.step}; {Outcome.HOLE.sentence}"
        recorder.restart(current, snapshot.step, Outcome.HOLE, message)
        if not recorder.ring.ready:
            raise _broken(snapshot)
        return
    outcome, _ = recorder.observe(current, snapshot.step, {}, aloud=False)
    if outcome is Outcome.NON_FINITE:
        raise _broken(snapshot)


def _check_steps(steps: list[int]) -> None:
    if len(steps) < 2:
        raise InputError(
            "source",
            expected="at least two snapshots",
            found=f"{len(steps) or 'none'}",
            remedy="check the path or the pattern; an update is the difference of two",
        )
    for before, after in pairwise(steps):
        if after <= before:
            raise InputError(
                "source",
                expected="increasing steps",
                found=f"{after} after {before}",
                remedy="sort the snapshots and remove duplicates",
            )


def _broken(snapshot: Snapshot) -> InputError:
    return InputError(
        snapshot.label,
        expected="finite parameters",
        found="NaN or infinity",
        remedy="leave out the snapshots from there on",
    )
