"""A walk along a checkpoint series: holes, unreadable files, changed shapes, and going on where another walk ended."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spectral_edge.errors import InputError, Outcome
from spectral_edge.observe import NamedSource, SketchRing, Snapshot, UnreadableError, normalise
from spectral_edge.recompute import Kept, feed, kept
from spectral_edge.recording import Recorder, RecorderOptions
from spectral_edge.trace import Segment, notes, read_folder, write_json

HOLE = 1.5
"""An interval longer than this many times the median is a hole."""

MARKER = "scan.json"
"""The file in a trace's folder that says up to which step a scan was completed."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Where a scan goes on.

    Attributes:
        start: the snapshot from which on the engine is filled again; None is the first.
        before: the first step that is recorded anew.
        last: the last step of which something is recorded.
        order: names of the tensors in their order at the start.
        failed: steps of snapshots that could not be read.
        sketches: kept sketches that spare reading the snapshots.
    """

    start: int | None
    before: int
    last: int
    order: tuple[str, ...]
    failed: frozenset[int]
    sketches: Mapping[int, Kept]


@dataclass(slots=True)
class Walk:
    """Takes snapshots one after the other.

    Attributes:
        options: how they are recorded.
        steps: all steps of the series, where they are known beforehand.
        resume: where a scan goes on.
        recorder: what records them, from the first one on.
        seen: steps so far.
    """

    options: RecorderOptions
    steps: Sequence[int] | None
    resume: Resume | None = None
    recorder: Recorder | None = None
    seen: list[int] = field(default_factory=list[int])
    _rehearsing: bool = False
    _last: int | None = None
    _unread: bool = False
    _order: dict[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        if self.resume is not None:
            self._rehearsing = True
            self._order = {name: index for index, name in enumerate(self.resume.order)}

    @property
    def rehearsing(self) -> bool:
        """Whether all snapshots so far were recorded before."""
        return self._rehearsing

    def take(self, snapshot: Snapshot) -> int:
        """Observes a snapshot.

        Returns:
            How many bytes were read.

        Raises:
            UnreadableError: if it is the first and cannot be read.
        """
        self.seen.append(snapshot.step)
        resume = self.resume
        if self._rehearsing and resume is not None:
            if resume.start is not None and snapshot.step < resume.start:
                return 0
            if snapshot.step >= resume.before:
                self._go_on(resume, snapshot)
            elif snapshot.step in resume.failed:
                self._unread = True
                return 0
            elif self._fed(resume, snapshot.step):
                return 0
        try:
            with snapshot.open() as tensors:
                source = NamedSource(self._in_order(tensors))
                if self.recorder is None:
                    self._begin(source, snapshot)
                else:
                    self._observe(self.recorder, source, snapshot)
        except UnreadableError as error:
            if self.recorder is None:
                raise
            # What was read of it may be in the engine already, so the next one is a new baseline.
            self._unread = True
            message = f"{snapshot.label} cannot be read ({error.found}); {Outcome.FAILED.sentence}"
            self.recorder.chronicle.note(snapshot.step, Outcome.FAILED, message, aloud=True)
            return 0
        tensors = self.recorder.inventory.tensors if self.recorder is not None else ()
        return sum(tensor.numel * getattr(torch, tensor.dtype).itemsize for tensor in tensors)

    def finish(self) -> None:
        """Marks the scan as complete; without the mark the last snapshot is read again."""
        if self.recorder is not None and self.recorder.chronicle.writer.folder is not None:
            with suppress(OSError):
                write_json(self.recorder.chronicle.writer.folder / MARKER, {"complete_to": self.seen[-1]})

    def close(self) -> None:
        """Closes the trace's files."""
        if self.recorder is not None:
            self.recorder.close()

    def _begin(self, source: NamedSource, snapshot: Snapshot) -> None:
        self.recorder = recorder = Recorder(source, self.options)
        self._last = snapshot.step
        if self._rehearsing:
            recorder.chronicle.rehearse()
        self._order = {tensor.name: index for index, tensor in enumerate(recorder.inventory.tensors)}
        recorder.keep_sketch(snapshot.step, restart=True)
        if not recorder.ring.ready:
            self._not_finite(recorder, source, snapshot)

    def _not_finite(self, recorder: Recorder, source: NamedSource, snapshot: Snapshot) -> None:
        """Says of the first snapshot what the recorder says of later ones."""
        selected = self.options.selection.apply(source)
        bad: str | None = None
        for held, shard in zip(selected.held, selected.shards, strict=True):
            with shard.held() as values:
                if not bool(torch.isfinite(values).all()):
                    bad = held.info.name
                    break
        message = f"{bad or 'a parameter'} is not finite; {Outcome.NON_FINITE.sentence}"
        recorder.chronicle.note(snapshot.step, Outcome.NON_FINITE, message, aloud=True)

    def _observe(self, recorder: Recorder, source: NamedSource, snapshot: Snapshot) -> None:
        restart: tuple[Outcome, str] | None = None
        # Where later steps are unknown, the intervals so far have to tell what is usual.
        median = float(np.median(np.diff(self.steps or self.seen)))
        if self._unread or snapshot.step - (self._last or 0) > HOLE * median:
            why = "no snapshot that can be read" if self._unread else "no snapshot"
            message = f"{why} between steps {self._last} and {snapshot.step}; {Outcome.HOLE.sentence}"
            restart = (Outcome.HOLE, message)
        outcome = recorder.observe(source, snapshot.step, {}, restart=restart).outcome
        self._last, self._unread = snapshot.step, False
        if outcome is Outcome.PARAMETERS_CHANGED:
            self._order = {tensor.name: index for index, tensor in enumerate(recorder.inventory.tensors)}
            if not recorder.ring.ready:
                self._not_finite(recorder, source, snapshot)

    def _in_order(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """The tensors in the order of before: files of one series may list the same ones differently."""
        if not self._order:
            return dict(tensors)
        last = len(self._order)
        return dict(sorted(tensors.items(), key=lambda item: self._order.get(normalise(item[0]), last)))

    def _fed(self, resume: Resume, step: int) -> bool:
        """Fills the engine from a kept sketch, where there is one and an engine that it belongs to."""
        one = resume.sketches.get(step)
        if one is None or self.recorder is None or step == resume.last:
            return False  # the last one is read, for the sample of coordinates that tells how many moved
        ring = self.recorder.ring
        if not isinstance(ring, SketchRing) or ring.plan.cells != len(one.cells):
            return False
        feed(ring, one)
        self._last, self._unread = step, False
        return True

    def _go_on(self, resume: Resume, snapshot: Snapshot) -> None:
        self._rehearsing = False
        if self.recorder is not None:
            self.recorder.chronicle.go_on(resume.before, resume.last, f"The scan goes on with {snapshot.label}.")


def find_resume(folder: Path, options: RecorderOptions) -> Resume | None:
    """Where the scan that a folder holds goes on; None if it holds no trace.

    Args:
        folder: of the trace.
        options: of the present scan.

    Raises:
        InputError: if the trace is not of a scan, or of another one.
    """
    if not (folder / "trace.json").exists() or not list(folder.glob("segment-*/segment.json")):
        return None
    chain = read_folder(folder)
    described = chain[-1].metadata.get("scan")
    if described is None:
        raise InputError(
            str(folder),
            expected="a new folder, or that of a scan to go on with",
            found="a trace of something else",
            remedy="choose another with out=",
        )
    complete = _complete_to(folder)
    steps = [int(step) for segment in chain for step in (*_steps(segment.rows), *_steps(segment.sketches))]
    steps += [note.step for note in notes(chain)]
    last = max(steps, default=-1) if complete is None else complete
    _check_same(folder, described, options.metadata["scan"], last)
    before = last if complete is None else last + 1
    recorded = sorted(step for step in steps if step < before)
    last = recorded[-1] if recorded else last
    start, order = _start(chain, before, options)
    failed = frozenset(note.step for note in notes(chain) if note.outcome is Outcome.FAILED)
    sketches = {one.step: one for one in kept(chain) if one.step < before and one.row is not None}
    return Resume(start, before, last, order, failed, sketches)


def is_complete(folder: Path, listed: Sequence[Snapshot] | None) -> bool:
    """Whether a folder's scan covers all of a series."""
    return listed is not None and len(listed) > 0 and _complete_to(folder) == listed[-1].step


def _complete_to(folder: Path) -> int | None:
    try:
        return int(json.loads((folder / MARKER).read_text(encoding="utf-8"))["complete_to"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _steps(records: Any) -> list[int]:
    return np.asarray(records["step"]).tolist() if len(records) else []


def _start(chain: Sequence[Segment], before: int, options: RecorderOptions) -> tuple[int | None, tuple[str, ...]]:
    """The snapshot to fill the engine from, and the order of its tensors.

    The rings must stand where they stood: rows are summed in the order of their slots, and the ladder counts in powers
    of two. So a whole number of turns is left out, and at least one is made again.
    """
    rows = [
        (int(row["step"]), int(np.isfinite(row["lags"][0]).sum()), segment)
        for segment in chain
        for row in segment.rows
        if int(row["step"]) < before
    ]
    if not rows:
        return None, tuple(tensor.name for tensor in chain[0].inventory.tensors)
    begun = max(index for index, (_, depth, _) in enumerate(rows) if depth == 1 or index == 0)
    turn = options.horizon << options.ladder
    first = begun + max(0, (len(rows) - begun) // turn - 1) * turn
    step, _, segment = rows[max(first - 1, 0)]
    return (None if first == 0 else step), tuple(tensor.name for tensor in segment.inventory.tensors)


def _check_same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any], last: int) -> None:
    for key, value in now.items():
        was = before.get(key)
        if key == "snapshots":
            was, value = ([list(pair) for pair in pairs or [] if pair[0] <= last] for pairs in (was, value))
            odd = [(one, two) for one, two in zip(was, value, strict=False) if one != two]
            if odd or len(was) > len(value):
                one, two = odd[0] if odd else (was[len(value)], ["none", "none"])
                raise InputError(
                    str(folder),
                    expected=f"the snapshots of the scan there, {one[1]} at step {one[0]} among them",
                    found=f"{two[1]} at step {two[0]}" if odd else "none such",
                    remedy="scan into another folder with out=",
                )
        elif was != value:
            raise InputError(
                str(folder),
                expected=f"{key}={was!r} as in the scan there",
                found=repr(value),
                remedy="scan with the same options, or into another folder with out=",
            )
