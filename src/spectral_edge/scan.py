"""A checkpoint series through the same code as a live run."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spectral_edge.analysis import Trace
from spectral_edge.errors import InputError, Outcome
from spectral_edge.observe import NamedSource, Selection, Selector, Snapshot, snapshots
from spectral_edge.options import RecorderOptions, run_metadata
from spectral_edge.recording import Recorder
from spectral_edge.records import TensorInfo

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
        source: a folder, a glob, a list of these or of files, or an iterable of arrays, state dicts or modules, each
            alone or as (step, snapshot). A file's step is the number after "step", "iter" or "checkpoint" in its name,
            else the last in it, else that of its folder; bare items count 0, 1, 2, ...
        horizon: number L of updates whose inner products are recorded.
        select: which parameters; all by default. Buffers, as far as their names tell, are left out.
        groups: named groups; one for each layer by default.
        out: folder of the trace; None keeps it in memory.
        momentum: the optimizer's momentum or beta1, in [0, 1), for the null; unknown by default.
        store: "tensors" or "groups".
        metadata: anything worth keeping with the trace.
        allow_pickle: load torch files that need full unpickling, which runs whatever code they hold.
        on_progress: called with the number of snapshots done and of all, if known.

    Returns:
        The trace. An interval over 1.5 times the median is a hole: nothing is differenced across it.

    Raises:
        InputError: on an empty source, one snapshot, steps that do not increase or cannot be told, changed shapes, NaN
            or infinity, a file that cannot be read, or a momentum that is none.
    """
    if momentum is not None and not 0 <= momentum < 1:
        raise InputError(
            "momentum",
            expected="a number of at least 0 and below 1",
            found=str(momentum),
            remedy="pass the optimizer's momentum or beta1, or leave it out",
        )
    subject = str(source) if isinstance(source, (str, Path)) else "source"
    series, steps = snapshots(source, allow_pickle=allow_pickle)
    if steps is not None:
        _check_steps(steps, subject)
    described = {"window": None, "every": None, "momentum": momentum, "optimizer": None}
    options = RecorderOptions(
        horizon,
        Selection(select, groups),
        None if out is None else Path(out),
        store,
        None,
        None,
        {**run_metadata(metadata), "monitor": described},
        engine="exact",
    )
    recorder: Recorder | None = None
    seen: list[int] = []
    for snapshot in series:
        current = NamedSource(snapshot.load())
        if recorder is None:
            recorder = Recorder(current, options)
            if not recorder.ring.ready:
                raise _broken(recorder, current, snapshot)
        else:
            _check_steps([seen[-1], snapshot.step], subject)
            # Where later steps are unknown, the intervals so far have to tell what is usual.
            intervals = np.diff(steps or [*seen, snapshot.step])
            _add(recorder, current, snapshot, seen[-1], float(np.median(intervals)))
        seen.append(snapshot.step)
        if on_progress is not None:
            on_progress(len(seen), len(steps) if steps else None)
    _check_steps(seen, subject)
    assert recorder is not None
    chain = recorder.chronicle.segments()
    recorder.close()
    return Trace(chain)


def _add(recorder: Recorder, current: NamedSource, snapshot: Snapshot, last: int, median: float) -> None:
    now = tuple(held.info for held in recorder.options.selection.apply(current).held)
    if now != recorder.inventory.tensors:
        raise _changed(recorder.inventory.tensors, now, snapshot)
    if snapshot.step - last > HOLE * median:
        message = f"no snapshot between steps {last} and {snapshot.step}; {Outcome.HOLE.sentence}"
        recorder.observe(current, snapshot.step, {}, restart=(Outcome.HOLE, message))
        if not recorder.ring.ready:
            raise _broken(recorder, current, snapshot)
        return
    outcome = recorder.observe(current, snapshot.step, {}, aloud=False).outcome
    if outcome is Outcome.NON_FINITE:
        raise _broken(recorder, current, snapshot)


def _changed(before: Sequence[TensorInfo], after: Sequence[TensorInfo], snapshot: Snapshot) -> InputError:
    old, new = {info.name: info for info in before}, {info.name: info for info in after}
    odd = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    if odd:
        one, two = old.get(odd[0]), new.get(odd[0])
        what = "dtype" if one and two and one.shape == two.shape else "shape"
        expected = f"{odd[0]} {f'of {what} {getattr(one, what)}' if one else 'absent'} as before"
        found = str(getattr(two, what)) if two else "absent"
    else:
        expected, found = "the tensors in the order of before", "another order"
    return InputError(
        snapshot.label, expected=expected, found=found, remedy="scan the snapshots before and after separately"
    )


def _check_steps(steps: list[int], subject: str) -> None:
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


def _broken(recorder: Recorder, current: NamedSource, snapshot: Snapshot) -> InputError:
    selected = recorder.options.selection.apply(current)
    named = zip(selected.held, selected.shards, strict=True)
    bad = [held.info.name for held, shard in named if not bool(torch.isfinite(shard.values).all())]
    return InputError(
        snapshot.label,
        expected="finite parameters",
        found=f"NaN or infinity in {bad[0]}" if bad else "NaN or infinity",
        remedy="leave out the snapshots from there on",
    )
