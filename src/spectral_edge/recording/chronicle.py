"""The trace of a run as it grows: segments that continue each other, branches for rewinds, notes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spectral_edge.errors import InputError, Outcome, warn
from spectral_edge.records import Inventory, Note
from spectral_edge.trace import (
    Position,
    Segment,
    SegmentHeader,
    SegmentWriter,
    TraceWriter,
    generations,
    position_before,
    position_on_disk,
    read_folder,
    read_memory,
)


@dataclass(frozen=True, slots=True)
class Contents:
    """What the coming segment holds.

    Attributes:
        inventory: what is watched.
        entries: names of what lag rows are stored for.
        horizon: number of lags.
        metadata: everything else that a reader needs.
        ladder: number of longer rows.
        cells: size of the sketches of the parameters that are kept; 0 keeps none.
    """

    inventory: Inventory
    entries: tuple[str, ...]
    horizon: int
    metadata: Mapping[str, Any]
    ladder: int = 0
    cells: int = 0


class Chronicle:
    """Opens segments as something is first recorded in them.

    Args:
        folder: the trace's folder; None keeps it in memory.
        silent: keep and write nothing, as on all ranks but the first.
    """

    def __init__(self, folder: Path | None, *, silent: bool = False) -> None:
        self.silent = silent
        self.writer = TraceWriter(None if silent else folder, keep=not silent)
        self._contents: Contents | None = None
        self._segment: SegmentWriter | None = None
        self._parent: Position | None = None
        self._generation: int | None = None
        self._stage: TraceWriter | None = None

    def begin(self, contents: Contents | None = None, *, follow: bool = True) -> None:
        """What is recorded from here on; it continues what was recorded before, or stands by itself.

        Args:
            contents: what the coming segment holds; None is what the last one did.
            follow: whether it continues the last one.
        """
        self._parent = self._segment.position if self._segment is not None and follow else None
        self._contents, self._segment = contents or self._contents, None

    def describe(self, metadata: Mapping[str, Any]) -> None:
        """Changes the metadata of the segments that are still to come."""
        assert self._contents is not None
        self._contents = replace(self._contents, metadata=metadata)

    @property
    def segment(self) -> SegmentWriter:
        """The open segment, started when something is first recorded."""
        if self._segment is None:
            assert self._contents is not None
            if self._generation is None:
                self._generation = self._newest_generation() + 1
            contents = self._contents
            header = SegmentHeader(
                contents.inventory,
                contents.entries,
                contents.horizon,
                contents.metadata,
                self._parent,
                self._generation,
                ladder=contents.ladder,
                cells=contents.cells,
            )
            try:
                self._segment = self.writer.open(header)
            except OSError as error:
                warn(f"No further segment of the trace can be written ({error}); it is kept in memory from here on.")
                self.writer = TraceWriter(None)
                self._segment = self.writer.open(replace(header, parent=None))
        return self._segment

    def note(self, step: int, outcome: Outcome, message: str, *, aloud: bool = False) -> None:
        """Records something that happened to the observation, and warns of it if asked."""
        self.segment.add_note(Note(step, outcome, message))
        if aloud and not self.silent:
            warn(f"step {step}: {message}")

    def rehearse(self) -> None:
        """What is recorded until `go_on` is kept nowhere, and nobody is warned: it was recorded before."""
        self._stage = self.writer
        self.writer, self.silent, self._generation = TraceWriter(None, keep=False), True, 0

    def go_on(self, before: int, step: int, message: str) -> None:
        """Records in the folder again, behind what its newest generation holds of earlier steps.

        Args:
            before: the first step that is recorded anew.
            step: the last one that was recorded.
            message: what to note there.
        """
        assert self._stage is not None
        self.writer, self.silent, self._stage = self._stage, False, None
        assert self.writer.folder is not None
        self._segment, self._generation = None, self._newest_generation()
        self._parent = position_before(self.writer.folder, before)
        if self._parent is None:
            self.branch()
        self.note(step, Outcome.RESUMED, message)

    def branch(self) -> None:
        """Starts a new generation: what follows does not continue what is in the trace."""
        self._segment, self._parent, self._generation = None, None, self._newest_generation() + 1

    def segments(self) -> list[Segment]:
        """Everything recorded so far, as a reader sees it.

        Raises:
            InputError: on a rank that does not record.
        """
        if self.silent:
            raise InputError("trace", expected="the first rank, which records", found="another", remedy="read it there")
        self.segment.sync()
        if self.writer.folder is None:
            return read_memory(self.writer.segments)
        return read_folder(self.writer.folder, generation=self._generation)

    def state_dict(self) -> dict[str, Any]:
        """How far the trace had grown; everything written so far is brought to the disk."""
        self.segment.sync()
        position = self.segment.position
        return {
            "position": {name: getattr(position, name) for name in position.__slots__},
            "generation": self._generation,
        }

    def load_state_dict(self, state: Mapping[str, Any], step: int) -> Outcome:
        """Continues from a saved state, as a new branch if the trace had grown beyond it.

        Returns:
            RESUMED, or REWOUND if the trace held later records.
        """
        if self.silent:
            return Outcome.RESUMED
        saved = Position(**state["position"])
        if self._segment is not None:
            self._segment.sync()
        reached, newest = self._reached(saved)
        self._segment, self._parent, self._generation = None, None, self._newest_generation() + 1
        if reached is None or not reached.covers(saved):
            # Rows that do not follow what is there must not be chained to it: offline windows would mix the two.
            message = "The records before this checkpoint are not in this trace; it starts anew here."
            self.note(step, Outcome.RESUMED, message, aloud=self.writer.folder is not None)
            return Outcome.RESUMED
        self._parent = saved
        if newest and reached == saved:
            self._generation = state["generation"]
            self.note(step, Outcome.RESUMED, Outcome.RESUMED.sentence)
            return Outcome.RESUMED
        self.note(step, Outcome.REWOUND, Outcome.REWOUND.sentence, aloud=True)
        return Outcome.REWOUND

    def close(self) -> None:
        """Closes the trace's files."""
        if self._segment is not None:
            self._segment.close()

    def _reached(self, saved: Position) -> tuple[Position | None, bool]:
        """How far the saved segment reaches now, and whether it is the newest; None if it is not here."""
        if self.writer.folder is not None:
            return position_on_disk(self.writer.folder, saved)
        segments = self.writer.segments
        if saved.segment >= len(segments) or segments[saved.segment].header.identity != saved.identity:
            return None, False
        return segments[saved.segment].position, saved.segment == len(segments) - 1

    def _newest_generation(self) -> int:
        known = [segment.header.generation for segment in self.writer.segments]
        if self.writer.folder is not None:
            known += generations(self.writer.folder)
        return max(known, default=-1)
