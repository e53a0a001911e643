"""The lazy reader: the chain of segments behind one generation of a trace, on disk or still in memory."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import Outcome, TraceError, warn
from spectral_edge.records import Inventory, Note, ProbeRow
from spectral_edge.trace.log import RecordFile, read_records
from spectral_edge.trace.schema import (
    FORMAT,
    LOG,
    NEXT_UPDATE,
    VERSION,
    inventory_from_json,
    ladder_dtype,
    record_dtypes,
    sketch_dtype,
)
from spectral_edge.trace.writer import Position, SegmentWriter, segment_folder

Array = NDArray[np.float64]

_REQUIRED = ("identity", "generation", "parent", "horizon", "entries", "row_metadata", "inventory", "metadata")


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment up to the position at which the next one continues it.

    Attributes:
        number: its number in the folder.
        generation: counts rewinds and fresh starts.
        inventory: what was watched.
        entries: names of what lag rows are stored for.
        horizon: number of lags.
        metadata: configuration, seed, versions, command, optimizer, schedule, as plain values.
        parent: where it continues another segment.
        rows: the observed updates, as structured records.
        probes: probe records.
        products: products of probes.
        log: log entries.
        ladder: lag rows of updates summed over several observations.
        ladder_levels: number of such sums: over 2, 4, ... observations.
        sketches: sketches of the parameters.
    """

    number: int
    generation: int
    inventory: Inventory
    entries: tuple[str, ...]
    horizon: int
    metadata: dict[str, Any]
    parent: Position | None
    rows: NDArray[np.void]
    probes: NDArray[np.void]
    products: NDArray[np.void]
    log: list[dict[str, Any]]
    ladder: NDArray[np.void]
    sketches: NDArray[np.void]
    ladder_levels: int = 0

    def longer(self, stride: int) -> NDArray[np.void]:
        """Rows of updates summed over so many observations."""
        return self.ladder[self.ladder["stride"] == stride]

    def members(self, indices: tuple[int, ...]) -> tuple[int, ...] | None:
        """Positions among `entries` that make up these tensors, or None if entries are groups and do not."""
        if self.entries == tuple(tensor.name for tensor in self.inventory.tensors):
            return indices
        found = [
            position for position, name in enumerate(self.entries) if set(self.inventory.groups[name]) <= set(indices)
        ]
        covered = sorted(index for position in found for index in self.inventory.groups[self.entries[position]])
        return tuple(found) if covered == sorted(indices) else None


def read_folder(folder: Path, *, generation: int | None = None) -> list[Segment]:
    """The chain of segments that leads to the newest one of a generation.

    Args:
        folder: a trace's folder.
        generation: which; None is the newest.

    Raises:
        TraceError: if there is no such trace or generation, or it was written by a newer version.
    """
    header = folder / "trace.json"
    if not header.is_file():
        raise TraceError(
            str(folder),
            expected="a trace folder with trace.json",
            found="nothing" if not folder.exists() else "none there",
            remedy="check the path; a trace is what Monitor(out=...) writes",
        )
    _check_version(folder, _load_json(header))
    headers = segment_headers(folder)
    available = sorted({plain["generation"] for plain in headers.values()})
    wanted = available[-1] if generation is None and available else generation
    tips = [number for number, plain in headers.items() if plain["generation"] == wanted]
    if not tips:
        raise TraceError(
            str(folder),
            expected=f"generation {wanted}" if generation is not None else "at least one segment",
            found=f"generations {available}",
            remedy="choose one that exists, or observe at least once",
        )
    chain: list[Segment] = []
    number, limit = max(tips), None
    while True:
        segment = _read_segment(folder, number, headers[number], limit)
        chain.append(segment)
        limit = segment.parent
        if limit is None:
            return chain[::-1]
        known = headers.get(limit.segment, {}).get("identity") == limit.identity
        if not known or limit.segment >= number:
            warn(f"{segment_folder(folder, number).name} continues a segment that is not in this folder")
            return chain[::-1]
        number = limit.segment


def read_memory(writers: list[SegmentWriter]) -> list[Segment]:
    """The segments that a writer without a folder has kept, newest chain only."""
    chain: list[Segment] = []
    number, limit = len(writers) - 1, None
    while writers:
        writer = writers[number]
        header = writer.header
        until = limit or writer.position
        lines = writer.log.content()[: until.log].splitlines()
        chain.append(
            Segment(
                number,
                header.generation,
                header.inventory,
                header.entries,
                header.horizon,
                dict(header.metadata),
                header.parent,
                writer.rows.records()[: until.rows],
                writer.probes.records()[: until.probes],
                writer.products.records()[: until.products],
                [json.loads(line) for line in lines],
                _kept(writer.ladder, until.ladder, ladder_dtype(len(header.entries), header.horizon)),
                _kept(writer.sketches, until.sketches, sketch_dtype(header.cells)),
                header.ladder,
            )
        )
        limit = header.parent
        if limit is None or limit.segment >= number:
            break
        number = limit.segment
    return chain[::-1]


def _kept(file: RecordFile | None, count: int, dtype: np.dtype[Any]) -> NDArray[np.void]:
    return np.empty(0, dtype=dtype) if file is None else file.records()[:count]


def generations(folder: Path) -> list[int]:
    """The generations that a trace folder holds."""
    return sorted({plain["generation"] for plain in segment_headers(folder).values()})


def position_on_disk(folder: Path, position: Position) -> tuple[Position | None, bool]:
    """How far the segment of a position reaches on disk now, and whether it is the newest.

    Returns:
        None if there is no such segment, or another run's of the same number.
    """
    headers = segment_headers(folder)
    plain = headers.get(position.segment)
    if plain is None or plain.get("identity") != position.identity:
        return None, False
    segment = _read_segment(folder, position.segment, plain, None)
    log = segment_folder(folder, position.segment) / LOG
    size = log.stat().st_size if log.exists() else 0
    counts = len(segment.rows), len(segment.probes), len(segment.products), size, len(segment.ladder)
    return Position(position.identity, position.segment, *counts, len(segment.sketches)), position.segment == max(
        headers
    )


def position_before(folder: Path, step: int) -> Position | None:
    """The place in the newest generation behind the last record of an earlier step; None if there is none.

    What is written of one step may be cut off anywhere, so that a run which goes on writes the whole step again.
    """
    headers = segment_headers(folder)
    newest = max((plain["generation"] for plain in headers.values()), default=-1)
    number = max((n for n, plain in headers.items() if plain["generation"] == newest), default=None)
    limit: Position | None = None
    while number is not None:
        segment = _read_segment(folder, number, headers[number], limit)
        counts = [
            int((np.asarray(records["step"]) < step).sum()) if len(records) else 0
            for records in (segment.rows, segment.probes, segment.products, segment.ladder, segment.sketches)
        ]
        log = _log_before(segment_folder(folder, number) / LOG, step, limit and limit.log)
        if log or any(counts):
            rows, probed, products, ladder, sketches = counts
            return Position(headers[number]["identity"], number, rows, probed, products, log, ladder, sketches)
        limit = segment.parent
        number = None if limit is None or limit.segment not in headers else limit.segment
    return None


def _log_before(path: Path, step: int, limit: int | None) -> int:
    """Bytes of the log's complete lines before the first that belongs to a step or a later one."""
    text = path.read_bytes()[:limit] if path.exists() else b""
    end = 0
    for line in text.split(b"\n")[:-1]:
        if _entry(line, path.parent).get("step", step - 1) >= step:
            break
        end += len(line) + 1
    return end


def segment_headers(folder: Path) -> dict[int, dict[str, Any]]:
    """The headers of a folder's segments by number, as plain values."""
    found: dict[int, dict[str, Any]] = {}
    for place in sorted(folder.glob("segment-*/segment.json")):
        name = re.fullmatch(r"segment-(\d+)", place.parent.name)
        if name is None:
            continue
        plain = _load_json(place)
        _check_version(place.parent, plain)
        missing = [key for key in _REQUIRED if key not in plain]
        if missing:
            raise TraceError(
                str(place), expected=f"the entry {missing[0]}", found="none", remedy="restore it from a copy"
            )
        found[int(name[1])] = plain
    return found


def metrics(chain: list[Segment]) -> Iterator[tuple[int, dict[str, float]]]:
    """Steps and user metrics in the order in which they were logged."""
    for segment in chain:
        for entry in segment.log:
            if entry["kind"] == "metrics":
                yield entry["step"], {name: float(value) for name, value in entry["values"].items()}


def notes(chain: list[Segment]) -> list[Note]:
    """Everything that happened to the observation."""
    return [
        Note(entry["step"], Outcome[entry["outcome"]], entry["message"])
        for segment in chain
        for entry in segment.log
        if entry["kind"] == "note"
    ]


def probes(chain: list[Segment], name: str) -> list[ProbeRow]:
    """Every row of one probe, in order of its steps."""
    products = _products(chain, name)
    found: list[ProbeRow] = []
    for segment in chain:
        names = _probe_names(segment)
        for record in segment.probes:
            if names[int(record["name"])] != name:
                continue
            step = int(record["step"])
            others = dict(products.get(step, {}))
            following = others.pop(None, np.full(len(segment.entries), np.nan))
            square, lags = np.array(record["square"]), np.array(record["lags"])
            named = {other: product for other, product in others.items() if other is not None}
            found.append(ProbeRow(step, name, square, lags, following, named))
    return found


def _products(chain: list[Segment], name: str) -> dict[int, dict[str | None, Array]]:
    """Products of a probe by step and by the other vector, None for the next update.

    A resumed run writes the product with the next update into another segment than the probe itself.
    """
    found: dict[int, dict[str | None, Array]] = {}
    for segment in chain:
        names: dict[int, str | None] = {NEXT_UPDATE: None, **_probe_names(segment)}
        for record in segment.products:
            pair = [names[int(record["first"])], names[int(record["second"])]]
            if name in pair:
                pair.remove(name)
                found.setdefault(int(record["step"]), {})[pair[0]] = np.array(record["product"])
    return found


def _probe_names(segment: Segment) -> dict[int, str]:
    return {entry["number"]: entry["name"] for entry in segment.log if entry["kind"] == "probe"}


def _read_segment(folder: Path, number: int, plain: dict[str, Any], limit: Position | None) -> Segment:
    place = segment_folder(folder, number)
    _check_version(place, plain)
    entries, horizon = tuple(plain["entries"]), plain["horizon"]
    inventory = inventory_from_json(plain["inventory"])
    parent = plain["parent"]
    files: list[NDArray[np.void]] = []
    torn = False
    counts = (limit.rows, limit.probes, limit.products, limit.ladder, limit.sketches) if limit else (None,) * 5
    for (name, dtype), count in zip(record_dtypes(plain).items(), counts, strict=True):
        records, broken = read_records(place / name, dtype, count)
        files.append(records)
        torn |= broken
    text = (place / LOG).read_bytes()[: limit.log if limit else None] if (place / LOG).exists() else b""
    *lines, tail = text.split(b"\n")
    if torn or tail:
        warn(f"{place.name}: a torn last record was dropped")
    return Segment(
        number,
        plain["generation"],
        inventory,
        entries,
        horizon,
        plain["metadata"],
        None if parent is None else Position(**parent),
        files[0],
        files[1],
        files[2],
        [_entry(line, place) for line in lines],
        files[3],
        files[4],
        plain.get("ladder", 0),
    )


def _entry(line: bytes, place: Path) -> dict[str, Any]:
    try:
        return json.loads(line)
    except ValueError as error:
        raise TraceError(
            str(place / LOG), expected="one JSON object a line", found=repr(line[:40]), remedy="remove that line"
        ) from error


def _load_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TraceError(
            str(path), expected="a JSON file", found=str(error), remedy="restore it from a copy"
        ) from error


def _check_version(place: Path, plain: dict[str, Any]) -> None:
    if plain.get("format") != FORMAT or plain.get("version", VERSION + 1) > VERSION:
        raise TraceError(
            str(place),
            expected=f"{FORMAT} version {VERSION} or older",
            found=f"{plain.get('format')} version {plain.get('version')}",
            remedy="upgrade spectral-edge",
        )
