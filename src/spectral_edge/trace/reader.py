"""The lazy reader: the chain of segments behind one generation of a trace, on disk or still in memory."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import Outcome, TraceError, warn
from spectral_edge.records import Inventory, Note, ProbeRow
from spectral_edge.trace.log import read_records
from spectral_edge.trace.schema import (
    FORMAT,
    LOG,
    NEXT_UPDATE,
    PROBES,
    PRODUCTS,
    ROWS,
    VERSION,
    inventory_from_json,
    probe_dtype,
    product_dtype,
    row_dtype,
)
from spectral_edge.trace.writer import Position, SegmentWriter, segment_folder

Array = NDArray[np.float64]


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

    def members(self, indices: tuple[int, ...]) -> tuple[int, ...] | None:
        """Positions among `entries` that make up these tensors, or None if entries are groups and do not."""
        if len(self.entries) == len(self.inventory.tensors):
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
    headers: dict[int, dict[str, Any]] = {}
    for place in sorted(folder.glob("segment-*")):
        if (place / "segment.json").is_file():
            headers[int(place.name.removeprefix("segment-"))] = _load_json(place / "segment.json")
    available = sorted({plain["generation"] for plain in headers.values()})
    wanted = available[-1] if generation is None and available else generation
    tips = [number for number, plain in headers.items() if plain["generation"] == wanted]
    if not tips:
        raise TraceError(
            str(folder),
            expected=f"generation {wanted}",
            found=f"generations {available}",
            remedy="choose one that exists, or observe at least once",
        )
    chain: list[Segment] = []
    number, limit = max(tips), None
    while True:
        segment = _read_segment(folder, number, headers[number], limit)
        chain.append(segment)
        if segment.parent is None:
            return chain[::-1]
        number, limit = segment.parent.segment, segment.parent


def read_memory(writers: list[SegmentWriter]) -> list[Segment]:
    """The segments that a writer without a folder has kept, newest chain only."""
    chain: list[Segment] = []
    number, limit = len(writers) - 1, None
    while writers:
        writer = writers[number]
        header = writer.header
        log = [json.loads(line) for line in writer.log.content().splitlines()]
        segment = Segment(
            number,
            header.generation,
            header.inventory,
            header.entries,
            header.horizon,
            dict(header.metadata),
            header.parent,
            writer.rows.records(),
            writer.probes.records(),
            writer.products.records(),
            log,
        )
        if limit is not None:
            kept = writer.log.content()[: limit.log].splitlines()
            segment = replace(
                segment,
                rows=segment.rows[: limit.rows],
                probes=segment.probes[: limit.probes],
                products=segment.products[: limit.products],
                log=[json.loads(line) for line in kept],
            )
        chain.append(segment)
        if segment.parent is None:
            break
        number, limit = segment.parent.segment, segment.parent
    return chain[::-1]


def generations(folder: Path) -> list[int]:
    """The generations that a trace folder holds."""
    found = {_load_json(path)["generation"] for path in folder.glob("segment-*/segment.json")}
    return sorted(found)


def position_on_disk(folder: Path, position: Position) -> Position | None:
    """How far the segment of a position reaches on disk now; None if it is not there."""
    place = segment_folder(folder, position.segment)
    if not (place / "segment.json").is_file():
        return None
    segment = _read_segment(folder, position.segment, _load_json(place / "segment.json"), None)
    size = (place / LOG).stat().st_size if (place / LOG).exists() else 0
    return Position(position.segment, len(segment.rows), len(segment.probes), len(segment.products), size)


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
    for name, dtype, count in (
        (ROWS, row_dtype(len(entries), horizon, plain["row_metadata"]), limit and limit.rows),
        (PROBES, probe_dtype(len(entries), horizon), limit and limit.probes),
        (PRODUCTS, product_dtype(len(entries)), limit and limit.products),
    ):
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
        [json.loads(line) for line in lines],
    )


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
