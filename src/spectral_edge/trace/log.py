"""Append-only files that survive being killed at any instant.

Every append is one positioned write behind the last complete record, so a write that failed half-way (a full disk) is
overwritten by its repetition, and a killed one leaves a torn tail that readers drop. Records that could not be
written wait in memory, in order, and go out with the next append.
"""

import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from spectral_edge.errors import TraceError
from spectral_edge.trace.schema import intact, seal, single_dtype

_DIGITS = 20


class AppendFile:
    """A file that grows by whole records.

    Args:
        path: where; None keeps the records in memory only.
        on_failure: called once with the error when writing starts to fail.
        keep: whether a file without a path keeps its records; else it only counts them.
    """

    def __init__(self, path: Path | None, on_failure: Callable[[OSError], None], *, keep: bool = True) -> None:
        self._path = path
        self._keep = keep
        self._on_failure = on_failure
        self._failing = False
        self._waiting: list[bytes] = []
        self._kept: list[bytes] = []
        self._descriptor: int | None = None
        self.end = 0

    def append(self, record: bytes) -> None:
        """Adds one record; never raises for a failing disk."""
        self.end += len(record)
        if self._path is None:
            if self._keep:
                self._kept.append(record)
            return
        self._waiting.append(record)
        self.flush()

    def flush(self) -> None:
        """Tries to write all that waits."""
        if self._path is None or not self._waiting:
            return
        try:
            if self._descriptor is None:
                self._descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o644)
            while self._waiting:
                position = self.end - sum(map(len, self._waiting))
                _write_at(self._descriptor, self._waiting[0], position)
                self._waiting.pop(0)
            self._commit(self._descriptor)
            self._failing = False
        except OSError as error:
            if not self._failing:
                self._failing = True
                self._on_failure(error)

    def sync(self) -> None:
        """Asks the system to bring everything to the disk itself."""
        self.flush()
        if self._descriptor is not None:
            try:
                os.fsync(self._descriptor)
            except OSError as error:
                self._on_failure(error)

    def close(self) -> None:
        """Writes what waits and closes the file."""
        self.flush()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def content(self) -> bytes:
        """What is kept in memory, for a trace without a folder."""
        return b"".join(self._kept)

    @property
    def waiting(self) -> bool:
        """Whether records wait for a disk that refuses them."""
        return bool(self._waiting)

    def _commit(self, descriptor: int) -> None:
        """Called after records were written."""


class RecordFile(AppendFile):
    """A .npy file of fixed-size records whose header is kept true after every append."""

    def __init__(
        self, path: Path | None, dtype: np.dtype[Any], on_failure: Callable[[OSError], None], *, keep: bool = True
    ) -> None:
        super().__init__(path, on_failure, keep=keep)
        self._dtype = dtype
        self._header = _header(dtype, 0)
        if path is not None:
            self.append(self._header)

    @property
    def count(self) -> int:
        """Number of records appended."""
        return (self.end - (len(self._header) if self._path is not None else 0)) // self._dtype.itemsize

    def _commit(self, descriptor: int) -> None:
        _write_at(descriptor, _header(self._dtype, self.count), 0)

    def records(self) -> NDArray[np.void]:
        """The records of a trace without a folder."""
        return np.frombuffer(self.content(), dtype=self._dtype)


def read_records(path: Path, dtype: np.dtype[Any], limit: int | None = None) -> tuple[NDArray[np.void], bool]:
    """The complete records of a file, and whether a torn tail was left out.

    They are a memory map, or a copy in double precision where the file is compact.

    Args:
        path: a .npy file of such records, or where one was before it was packed; a missing one is empty.
        dtype: of the records.
        limit: how many records to read at most.

    Raises:
        TraceError: if a packed file cannot be read.
    """
    if packed(path).exists():
        return _unpack(packed(path), dtype)[:limit], False
    stored = _stored_dtype(path, dtype)
    start = len(_header(stored, 0))
    size = path.stat().st_size if path.exists() else 0
    count, rest = divmod(max(size - start, 0), stored.itemsize)
    torn = rest > 0 or 0 < size < start
    if limit is not None and limit <= count:
        count, torn = limit, False
    if count == 0:
        return np.empty(0, dtype=dtype), torn
    mapped = np.memmap(path, dtype=stored, mode="r", offset=start, shape=(count,))
    if not intact(mapped[-1].tobytes()):
        mapped, torn = mapped[:-1], True
    return mapped if stored == dtype else mapped.astype(dtype), torn


def packed(path: Path) -> Path:
    """Where the records of a file stand once its trace is compact."""
    return path.with_suffix(".npz")


def write_packed(path: Path, records: NDArray[np.void]) -> None:
    """Writes records into a compressed file of their own, so that readers see all of them or no such file.

    Raises:
        OSError: where it cannot be written; nothing is left behind then.
    """
    temporary = path.with_name(path.name + ".tmp")
    sealed = np.frombuffer(b"".join(map(seal, records)), dtype=records.dtype)
    try:
        with temporary.open("wb") as file:
            np.savez_compressed(file, records=sealed)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _unpack(path: Path, dtype: np.dtype[Any]) -> NDArray[np.void]:
    try:
        with path.open("rb") as raw, np.load(raw) as file:
            records = cast("NDArray[np.void]", file["records"])
        if records.dtype not in (dtype, single_dtype(dtype)):
            raise ValueError(f"records of {records.dtype}")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise TraceError(
            str(path), expected="an array of this trace's records", found=str(error), remedy="restore it from a copy"
        ) from error
    return records.astype(dtype)


def _stored_dtype(path: Path, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """How the records of a file are stored: as they are, or, by version 2, compact; its own header tells."""
    single = single_dtype(dtype)
    header = _header(single, 0)
    if not path.exists():
        return dtype
    with path.open("rb") as file:
        found = file.read(len(header))
    # The number of records stands at the end of the header.
    return single if found[: header.rindex(b"'shape'")] == header[: header.rindex(b"'shape'")] else dtype


def _header(dtype: np.dtype[Any], count: int) -> bytes:
    """A .npy header of one length whatever the count, so that it can be rewritten in place."""
    text = f"{{'descr': {npy.dtype_to_descr(dtype)!r}, 'fortran_order': False, 'shape': ({count},), }}"
    unpadded = len(text) - len(str(count)) + _DIGITS + 1
    prefix = 12
    total = -(-(prefix + unpadded) // npy.ARRAY_ALIGN) * npy.ARRAY_ALIGN
    body = text.encode("latin1").ljust(total - prefix - 1) + b"\n"
    return npy.magic(2, 0) + len(body).to_bytes(4, "little") + body


def _write_at(descriptor: int, data: bytes, position: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, position)
        view, position = view[written:], position + written
