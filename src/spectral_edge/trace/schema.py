"""What a trace looks like on disk; docs/trace-format.md describes it for readers without this library.

A trace is a folder. `trace.json` names the format. Each `segment-NNN` holds a span of observation under one
inventory: `segment.json` (metadata, written once), `log.jsonl` (metrics and notes, one JSON object a line) and
NumPy .npy files of fixed-size little-endian records that only ever grow: `rows.npy`, `probes.npy`, `products.npy`;
`ladder.npy` and `sketches.npy` where such records were asked for. In a compact trace they are .npz files instead.
A segment may continue another from a given position, so a rewind is a branch and nothing is overwritten.
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectral_edge.quantities import ROW_METADATA
from spectral_edge.records import Inventory, TensorInfo

FORMAT = "spectral-edge-trace"
VERSION = 3
"""Version 1 knew no compact traces, version 2 stored their records in single precision without compression."""

ROWS, PROBES, PRODUCTS, LOG = "rows.npy", "probes.npy", "products.npy", "log.jsonl"
LADDER, SKETCHES = "ladder.npy", "sketches.npy"
NEXT_UPDATE = -1
"""In `products.npy`, the second vector of a product with d_{t+1}."""


def row_dtype(entries: int, horizon: int, names: Sequence[str] = tuple(ROW_METADATA)) -> np.dtype[Any]:
    """One observed update: step, time, the named metadata and lag rows by stored tensor or group."""
    meta = [(name, "<f8") for name in names]
    return np.dtype([("step", "<i8"), ("time", "<f8"), *meta, ("lags", "<f8", (entries, horizon)), ("crc", "<u4")])


def probe_dtype(entries: int, horizon: int) -> np.dtype[Any]:
    """One probe: the row that it belongs to, its name's number, squared norms and products with the updates."""
    return np.dtype(
        [
            ("step", "<i8"),
            ("name", "<i4"),
            ("square", "<f8", (entries,)),
            ("lags", "<f8", (entries, horizon)),
            ("crc", "<u4"),
        ]
    )


def product_dtype(entries: int) -> np.dtype[Any]:
    """Inner products of two probes of one step, or of a probe with the next update."""
    return np.dtype(
        [("step", "<i8"), ("first", "<i4"), ("second", "<i4"), ("product", "<f8", (entries,)), ("crc", "<u4")]
    )


def ladder_dtype(entries: int, horizon: int) -> np.dtype[Any]:
    """A lag row of updates summed over `stride` observations, at the last of these."""
    return np.dtype([("step", "<i8"), ("stride", "<i4"), ("lags", "<f8", (entries, horizon)), ("crc", "<u4")])


def sketch_dtype(cells: int) -> np.dtype[Any]:
    """The sketch of the parameters at one step; `restart` where it must not be differenced with the one before."""
    return np.dtype([("step", "<i8"), ("restart", "<i4"), ("cells", "<f8", (cells,)), ("crc", "<u4")])


def record_dtypes(header: Mapping[str, Any]) -> dict[str, np.dtype[Any]]:
    """The records of a segment by the name of their file, from its header as plain values."""
    entries, horizon = len(header["entries"]), header["horizon"]
    return {
        ROWS: row_dtype(entries, horizon, header["row_metadata"]),
        PROBES: probe_dtype(entries, horizon),
        PRODUCTS: product_dtype(entries),
        LADDER: ladder_dtype(entries, horizon),
        SKETCHES: sketch_dtype(header.get("cells", 0)),
    }


def single_dtype(double: np.dtype[Any]) -> np.dtype[Any]:
    """The same record in a compact trace: vectors in single precision, numbers as they are."""
    found: list[tuple[Any, ...]] = []
    for name, (kind, *_) in (double.fields or {}).items():
        found.append((name, "<f4", kind.shape) if kind.shape else (name, kind.str))
    return np.dtype(found)


def seal(record: NDArray[np.void] | np.void) -> bytes:
    """A record's bytes with the checksum of all that stands before it."""
    payload = record.tobytes()[:-4]
    return payload + zlib.crc32(payload).to_bytes(4, "little")


def intact(record: bytes) -> bool:
    """Whether a record's checksum holds."""
    return zlib.crc32(record[:-4]).to_bytes(4, "little") == record[-4:]


def inventory_to_json(inventory: Inventory) -> dict[str, Any]:
    """An inventory as plain JSON values."""
    return {
        "tensors": [{"name": t.name, "shape": list(t.shape), "dtype": t.dtype} for t in inventory.tensors],
        "groups": {name: list(members) for name, members in inventory.groups.items()},
        "trainable": inventory.trainable,
    }


def inventory_from_json(plain: dict[str, Any]) -> Inventory:
    """The inverse of `inventory_to_json`."""
    tensors = tuple(TensorInfo(t["name"], tuple(t["shape"]), t["dtype"]) for t in plain["tensors"])
    groups = {name: tuple(members) for name, members in plain["groups"].items()}
    return Inventory(tensors, groups, plain["trainable"])
