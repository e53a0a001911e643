"""Lag rows from kept sketches of the parameters: what a published trace without weights gives to anyone.

The sketch of an update is the difference of two sketches of the parameters, so a trace that kept these is a series of
its own: at another horizon, with another ladder, and at the recorded horizon with the recorded rows bit for bit.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spectral_edge.analysis import Trace
from spectral_edge.errors import InputError
from spectral_edge.measure import sketch_error
from spectral_edge.observe import RESTART, VOTES, Push, SketchPlan, SketchRing
from spectral_edge.quantities import ROW_METADATA
from spectral_edge.recording import Chronicle, Contents
from spectral_edge.records import UpdateRow
from spectral_edge.trace import Segment, notes, read_folder

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Kept:
    """The sketch of one snapshot, and what was recorded of it.

    Attributes:
        segment: where it stands.
        step: the snapshot's step.
        cells: the sketch [d].
        restart: whether it must not be differenced with the one before.
        row: the row that was recorded of it, if any.
    """

    segment: Segment
    step: int
    cells: Array
    restart: bool
    row: NDArray[np.void] | None


def kept(chain: Sequence[Segment]) -> Iterator[Kept]:
    """The sketches of a trace in their order."""
    for segment in chain:
        rows = {int(step): index for index, step in enumerate(segment.rows["step"])} if len(segment.rows) else {}
        for record in segment.sketches:
            step = int(record["step"])
            row = segment.rows[rows[step]] if step in rows else None
            yield Kept(segment, step, np.array(record["cells"]), bool(record["restart"]), row)


def feed(ring: SketchRing, one: Kept) -> Push | None:
    """Takes a kept sketch as the next snapshot; None if no row was recorded of it."""
    header = np.zeros(VOTES)
    header[RESTART] = one.restart
    row = one.row
    if row is not None and np.isfinite(row["lags"][0]).sum() == 1:
        ring.forget()  # for whatever reason the window restarted there
    push = ring.push_cells(torch.from_numpy(one.cells), header, moved=row is not None)
    if row is not None:
        return push
    if push.moved:
        ring.forget()  # an update that was left out, with what stood before it
    return None


def recompute(
    folder: Path,
    *,
    horizon: int,
    ladder: int,
    out: Path | None,
    keep_sketches: bool,
    metadata: Mapping[str, Any],
) -> Trace:
    """A trace from the sketches of another one.

    Args:
        folder: the other trace's.
        horizon: number L of updates whose inner products are recorded.
        ladder: number of longer rows.
        out: folder of the new trace; None keeps it in memory.
        keep_sketches: whether it keeps the sketches too.
        metadata: added to the other trace's.

    Raises:
        InputError: if that trace keeps no sketches, or `out` is its own folder.
    """
    chain = read_folder(folder)
    if not any(len(segment.sketches) for segment in chain):
        raise InputError(
            str(folder),
            expected="a trace that keeps sketches of the parameters",
            found="lag rows only",
            remedy="analyse it as it is with se.open_trace, or record with keep_sketches=True",
        )
    if out is not None and (out / "trace.json").exists():
        raise InputError(
            str(out), expected="a folder without a trace", found="one that holds one", remedy="choose another with out="
        )
    chronicle = Chronicle(out)
    said = {(note.step, note.outcome): note for note in notes(chain)}
    ring: SketchRing | None = None
    before: Segment | None = None
    for one in kept(chain):
        segment = one.segment
        if before is None or not _same_plan(before, segment):
            ring = _ring(segment, horizon, ladder)
            cells = ring.plan.cells if keep_sketches else 0
            described = {**segment.metadata, **metadata, "recomputed_from": str(folder)}
            chronicle.begin(Contents(segment.inventory, segment.entries, horizon, described, ladder, cells))
        before = segment
        assert ring is not None
        for key in [key for key in said if key[0] <= one.step]:
            note = said.pop(key)
            chronicle.note(note.step, note.outcome, note.message)
        push = feed(ring, one)
        if keep_sketches:
            chronicle.segment.add_sketch(one.step, one.cells, restart=one.restart)
        if push is not None and one.row is not None:
            chronicle.segment.add_row(_row(one.row, push, np.array(segment.metadata["engine"]["errors"])))
    result = Trace(chronicle.segments())
    chronicle.close()
    return result


def _row(recorded: NDArray[np.void], push: Push, errors: Array) -> UpdateRow:
    known = {name: float(recorded[name]) for name in ROW_METADATA if name in (recorded.dtype.names or ())}
    known["sketch_error"] = float(sketch_error(push.lags[:, 0], errors))
    return UpdateRow(int(recorded["step"]), float(recorded["time"]), push.lags, known, push.ladder)


def _ring(segment: Segment, horizon: int, ladder: int) -> SketchRing:
    sizes = [tensor.numel for tensor in segment.inventory.tensors]
    engine = segment.metadata["engine"]
    plan = SketchPlan.make(sizes, segment.inventory.groups, cells=sum(engine["cells"]), seed=engine["seed"])
    ring = SketchRing([None] * len(sizes), horizon, plan=plan, backend="torch", ladder=ladder, watched=sum(sizes))
    start = np.zeros(VOTES)
    start[RESTART] = 1
    ring.push_cells(torch.full((plan.cells,), torch.nan, dtype=torch.float64), start)  # so that no row starts there
    return ring


def _same_plan(one: Segment, two: Segment) -> bool:
    engines = [segment.metadata["engine"] for segment in (one, two)]
    return one.inventory == two.inventory and all(engines[0][key] == engines[1][key] for key in ("seed", "cells"))
