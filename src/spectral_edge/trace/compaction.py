"""Traces that nothing will be added to, at half the size."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import warn
from spectral_edge.trace.log import read_records, stored_dtype, write_records
from spectral_edge.trace.reader import segment_headers
from spectral_edge.trace.schema import LADDER, ROWS, VERSION, record_dtypes, single_dtype
from spectral_edge.trace.writer import segment_folder, write_json

_LEAST, _MOST = 1e-30, 1e38
"""Between these the largest product of a record must lie, so that those next to it are rounded and not lost."""
_UPDATES = (ROWS, LADDER)
_SPAN = 1e4
"""Most that the squared norms of updates may differ: small singular values of a window that holds a much larger update
feel the rounding of its products."""


def compact(folder: Path) -> None:
    """Stores the products of a trace in single precision, and no files without records.

    Every product is rounded once, by at most 6e-8 of itself. A file stays as it is where that is not enough (products
    that single precision cannot hold, or updates of which one is more than a hundred times as long as another), and
    where its tail is torn. Files are replaced one at a time: a kill in between leaves a trace that can be read, and
    doing it again goes on. A full disk leaves the rest as it is, with a warning.

    Args:
        folder: a trace's folder, which nobody writes to.
    """
    try:
        for number, header in segment_headers(folder).items():
            place = segment_folder(folder, number)
            if header["version"] < VERSION:
                write_json(place / "segment.json", {**header, "version": VERSION})
            for name, double in record_dtypes(header).items():
                _compact_file(place / name, double)
    except OSError as error:
        warn(f"trace {folder} stays in double precision from here on ({error})")


def _compact_file(path: Path, double: np.dtype[Any]) -> None:
    if not path.exists():
        return
    records, torn = read_records(path, double)
    if torn:
        return
    if not len(records):
        path.unlink()
    elif stored_dtype(path, double) == double and _fits(records) and not (path.name in _UPDATES and _spans(records)):
        write_records(path, records.astype(single_dtype(double)))


def _fits(records: NDArray[np.void]) -> bool:
    """Whether the vectors of all records can be rounded without loss of what they say."""
    for name in records.dtype.names or ():
        if records.dtype[name].shape:
            values = np.abs(np.nan_to_num(records[name], posinf=np.inf)).reshape(len(records), -1)
            largest = values.max(axis=1, initial=0.0)
            if not bool(((largest == 0) | ((largest > _LEAST) & (largest < _MOST))).all()):
                return False
    return True


def _spans(records: NDArray[np.void]) -> bool:
    """Whether some update is much longer than another."""
    squares = records["lags"][:, :, 0].sum(axis=1)
    squares = squares[squares > 0]
    return squares.size > 0 and float(squares.max() / squares.min()) > _SPAN
