"""The append-only writer: one open segment at a time, in a folder or in memory."""

import json
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError, Outcome, warn
from spectral_edge.quantities import ROW_METADATA
from spectral_edge.records import Inventory, Note, UpdateRow
from spectral_edge.trace.log import AppendFile, RecordFile
from spectral_edge.trace.schema import (
    FORMAT,
    LADDER,
    LOG,
    NEXT_UPDATE,
    PROBES,
    PRODUCTS,
    ROWS,
    SKETCHES,
    VERSION,
    inventory_to_json,
    ladder_dtype,
    probe_dtype,
    product_dtype,
    row_dtype,
    seal,
    sketch_dtype,
)

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Position:
    """How far a segment had grown: what a resumed run continues from.

    Attributes:
        identity: the segment's random name, so that another run's segment of the same number is not mistaken for it.
        segment: number of the segment.
        rows: records in `rows.npy`.
        probes: records in `probes.npy`.
        products: records in `products.npy`.
        log: bytes in `log.jsonl`.
        ladder: records in `ladder.npy`.
        sketches: records in `sketches.npy`.
    """

    identity: str
    segment: int
    rows: int
    probes: int
    products: int
    log: int
    ladder: int = 0
    sketches: int = 0

    def covers(self, other: "Position") -> bool:
        """Whether all records of another position of the same segment are there."""
        names = ("rows", "probes", "products", "log", "ladder", "sketches")
        return all(getattr(self, name) >= getattr(other, name) for name in names)


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What holds for a whole segment.

    Attributes:
        inventory: the watched tensors and their groups.
        entries: names of what lag rows are stored for, tensors or groups.
        horizon: number of lags.
        metadata: everything else that a reader needs, plain JSON values.
        parent: where the segment continues another one, or None.
        generation: counts the rewinds and fresh starts in this folder.
        identity: a random name.
        ladder: number of longer rows: updates summed over 2, 4, ... observations.
        cells: size of the sketches that are kept; 0 keeps none.
    """

    inventory: Inventory
    entries: tuple[str, ...]
    horizon: int
    metadata: Mapping[str, Any]
    parent: Position | None = None
    generation: int = 0
    identity: str = field(default_factory=lambda: uuid.uuid4().hex)
    ladder: int = 0
    cells: int = 0

    @property
    def by_tensor(self) -> bool:
        """Whether lag rows are stored for each tensor, not for each group."""
        return self.entries == tuple(tensor.name for tensor in self.inventory.tensors)

    def to_json(self) -> dict[str, Any]:
        """The header as plain JSON values."""
        parent = self.parent
        return {
            "format": FORMAT,
            "version": VERSION,
            "identity": self.identity,
            "generation": self.generation,
            "parent": None if parent is None else {name: getattr(parent, name) for name in parent.__slots__},
            "horizon": self.horizon,
            "ladder": self.ladder,
            "cells": self.cells,
            "entries": list(self.entries),
            "row_metadata": list(ROW_METADATA),
            "inventory": inventory_to_json(self.inventory),
            "metadata": dict(self.metadata),
        }


class SegmentWriter:
    """Appends rows, probes, metrics and notes to one segment.

    Args:
        folder: the segment's folder, or None to keep it in memory.
        number: the segment's number.
        header: what holds for the whole segment.
        keep: whether a segment without a folder keeps its records.
    """

    def __init__(self, folder: Path | None, number: int, header: SegmentHeader, *, keep: bool = True) -> None:
        self.number = number
        self.header = header
        entries, horizon = len(header.entries), header.horizon
        self._row_dtype = row_dtype(entries, horizon)
        self._probe_dtype = probe_dtype(entries, horizon)
        self._product_dtype = product_dtype(entries)
        self._names: dict[str, int] = {}

        def place(name: str) -> Path | None:
            return None if folder is None else folder / name

        def records(name: str, dtype: np.dtype[Any] | None) -> RecordFile | None:
            return None if dtype is None else RecordFile(place(name), dtype, self._failed, keep=keep)

        self._ladder_dtype = ladder_dtype(entries, horizon) if header.ladder else None
        self._sketch_dtype = sketch_dtype(header.cells) if header.cells else None
        self.rows = RecordFile(place(ROWS), self._row_dtype, self._failed, keep=keep)
        self.probes = RecordFile(place(PROBES), self._probe_dtype, self._failed, keep=keep)
        self.products = RecordFile(place(PRODUCTS), self._product_dtype, self._failed, keep=keep)
        self.ladder = records(LADDER, self._ladder_dtype)
        self.sketches = records(SKETCHES, self._sketch_dtype)
        self.log = AppendFile(place(LOG), self._failed, keep=keep)

    @property
    def position(self) -> Position:
        """How far the segment has grown."""
        return Position(
            self.header.identity,
            self.number,
            self.rows.count,
            self.probes.count,
            self.products.count,
            self.log.end,
            self.ladder.count if self.ladder is not None else 0,
            self.sketches.count if self.sketches is not None else 0,
        )

    def add_row(self, row: UpdateRow) -> None:
        """Appends one observed update."""
        record = np.zeros((), dtype=self._row_dtype)
        record["step"], record["time"], record["lags"] = row.step, row.time, row.lags
        for name in ROW_METADATA:
            record[name] = row.metadata.get(name, np.nan)
        self.rows.append(seal(record))
        for stride, lags in row.ladder.items():
            assert self.ladder is not None
            longer = np.zeros((), dtype=self._ladder_dtype)
            longer["step"], longer["stride"], longer["lags"] = row.step, stride, lags
            self.ladder.append(seal(longer))

    def add_sketch(self, step: int, cells: Array, *, restart: bool) -> None:
        """Appends the sketch of the parameters at a step.

        Args:
            step: the step.
            cells: the sketch [d].
            restart: whether it must not be differenced with the sketch before.
        """
        assert self.sketches is not None
        record = np.zeros((), dtype=self._sketch_dtype)
        record["step"], record["restart"], record["cells"] = step, restart, cells
        self.sketches.append(seal(record))

    def add_probe(self, step: int, name: str, square: Array, lags: Array) -> None:
        """Appends one probe's products with itself and with the updates in the ring."""
        record = np.zeros((), dtype=self._probe_dtype)
        record["step"], record["name"], record["square"], record["lags"] = step, self._number(name), square, lags
        self.probes.append(seal(record))

    def add_product(self, step: int, first: str, second: str | None, product: Array) -> None:
        """Appends the products of two probes of one step; `second` None is the update that follows."""
        record = np.zeros((), dtype=self._product_dtype)
        record["step"], record["first"] = step, self._number(first)
        record["second"] = NEXT_UPDATE if second is None else self._number(second)
        record["product"] = product
        self.products.append(seal(record))

    def add_metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Appends user metrics under a step."""
        self._line({"kind": "metrics", "step": step, "values": {k: _json_number(v) for k, v in values.items()}})

    def add_note(self, note: Note) -> None:
        """Appends something that happened to the observation."""
        self._line({"kind": "note", "step": note.step, "outcome": note.outcome.name, "message": note.message})

    def sync(self) -> None:
        """Brings everything to the disk."""
        for file in self._files():
            file.sync()

    def close(self) -> None:
        """Closes the files; what still waits for a full disk is lost with a warning."""
        for file in self._files():
            file.close()
            if file.waiting:
                warn("the trace could not be written to the end: the disk still refuses it")

    def _files(self) -> list[AppendFile]:
        files = (self.rows, self.probes, self.products, self.ladder, self.sketches, self.log)
        return [file for file in files if file is not None]

    def _number(self, name: str) -> int:
        if name not in self._names:
            self._names[name] = len(self._names)
            self._line({"kind": "probe", "name": name, "number": self._names[name]})
        return self._names[name]

    def _line(self, entry: dict[str, Any]) -> None:
        self.log.append(json.dumps(entry, allow_nan=False).encode() + b"\n")

    def _failed(self, error: OSError) -> None:
        warn(f"{Outcome.WRITE_FAILED.sentence} ({error})")


class TraceWriter:
    """Opens segments of a trace, in a folder or in memory.

    Args:
        folder: where; None keeps everything in memory.
        keep: whether records without a folder are kept at all.

    Raises:
        InputError: if the folder cannot be made.
    """

    def __init__(self, folder: Path | None, *, keep: bool = True) -> None:
        self.folder = folder
        self._keep = keep
        self.segments: list[SegmentWriter] = []
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                str(folder),
                expected="a folder for the trace that can be made",
                found=str(error),
                remedy="choose another place with out=",
            ) from error

    def open(self, header: SegmentHeader) -> SegmentWriter:
        """Starts the next segment, closing the one before.

        Raises:
            OSError: if the folder cannot be made.
        """
        if self.segments:
            self.segments[-1].close()
        if self.folder is None:
            segment = SegmentWriter(None, len(self.segments), header, keep=self._keep)
        else:
            if not (self.folder / "trace.json").exists():
                plain = {
                    "format": FORMAT,
                    "version": VERSION,
                    "created": time.time(),
                    "documentation": "docs/trace-format.md",
                }
                write_json(self.folder / "trace.json", plain)
            number = _make_segment(self.folder)
            place = segment_folder(self.folder, number)
            write_json(place / "segment.json", header.to_json())
            segment = SegmentWriter(place, number, header)
        self.segments.append(segment)
        return segment


def segment_folder(folder: Path, number: int) -> Path:
    """Where a segment lies."""
    return folder / f"segment-{number:03d}"


def write_json(path: Path, plain: Mapping[str, Any]) -> None:
    """Writes a JSON file so that readers see all of it or none."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(plain, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _make_segment(folder: Path) -> int:
    number = 0
    while True:
        try:
            segment_folder(folder, number).mkdir()
        except FileExistsError:
            number += 1
        else:
            return number


def _json_number(value: float) -> float | str:
    """JSON has no NaN or infinity; they are written as their names."""
    number = float(value)
    return number if np.isfinite(number) else repr(number)
