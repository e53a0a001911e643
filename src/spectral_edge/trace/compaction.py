"""Traces that nothing will be added to, at less than half the size."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import warn
from spectral_edge.measure import grams
from spectral_edge.trace.log import packed, read_records, write_packed
from spectral_edge.trace.reader import segment_headers
from spectral_edge.trace.schema import LADDER, ROWS, VERSION, record_dtypes, single_dtype
from spectral_edge.trace.writer import segment_folder, write_json

_LEAST, _MOST = 1e-30, 1e38
"""Between these the largest product of a record must lie, so that those next to it are rounded and not lost."""
_UPDATES = (ROWS, LADDER)
_WIDTH = 10
"""Updates in the windows whose singular values are compared; all of a shorter horizon."""
_CHANGE = 2e-4
"""Most that a singular value may change of itself, where it is more than rounding."""
_FLOOR = 1e-5
"""Share of the largest singular value below which one is rounding in double precision already."""


def compact(folder: Path) -> None:
    """Stores the records of a trace compressed, their products in single precision, and no files without records.

    Every product is rounded once, by at most 6e-8 of itself. A file stays in double precision where that is not enough
    (products that single precision cannot hold, or nearly parallel updates, whose small singular values would change by
    more than 2e-4 of themselves in some window of ten), and stays altogether where its tail is torn. Files are replaced
    one at a time: a kill in between leaves a trace that can be read, and doing it again goes on. A full disk leaves the
    rest as it is, with a warning.

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
        warn(f"trace {folder} stays as large as it is from here on ({error})")


def _compact_file(path: Path, double: np.dtype[Any]) -> None:
    if not path.exists():
        return
    if not packed(path).exists():
        records, torn = read_records(path, double)
        if torn:
            return
        if len(records):
            write_packed(packed(path), _rounded(records, double, updates=path.name in _UPDATES))
    path.unlink()


def _rounded(records: NDArray[np.void], double: np.dtype[Any], *, updates: bool) -> NDArray[np.void]:
    """The records in single precision, or as they are where that would harm."""
    if not _fits(records):
        return records
    rounded = records.astype(single_dtype(double))
    return rounded if not updates or _change(records, rounded) <= _CHANGE else records


def _fits(records: NDArray[np.void]) -> bool:
    """Whether the vectors of all records can be rounded without loss of what they say."""
    for name in records.dtype.names or ():
        if records.dtype[name].shape:
            values = np.abs(np.nan_to_num(records[name], posinf=np.inf)).reshape(len(records), -1)
            largest = values.max(axis=1, initial=0.0)
            if not bool(((largest == 0) | ((largest > _LEAST) & (largest < _MOST))).all()):
                return False
    return True


def _change(records: NDArray[np.void], rounded: NDArray[np.void]) -> float:
    """The largest relative change of a singular value, over all windows of every entry and of all entries together."""
    strides = np.asarray(records["stride"] if "stride" in (records.dtype.names or ()) else np.ones(len(records)))
    largest = 0.0
    for stride in np.unique(strides):
        of = strides == stride
        for one, other in zip(_parts(records[of]), _parts(rounded[of]), strict=True):
            exact, ours = _singular(one), _singular(other)
            known = np.asarray(exact > _FLOOR * exact[:, :1])
            largest = max(largest, float(np.abs(ours[known] / exact[known] - 1).max(initial=0.0)))
    return largest


def _parts(records: NDArray[np.void]) -> Iterator[NDArray[np.float64]]:
    """Lag rows of every entry and of their sum, one after another [T, L]."""
    lags = records["lags"]
    for entry in range(lags.shape[1]):
        yield lags[:, entry].astype(np.float64)
    yield lags.astype(np.float64).sum(axis=1)


def _singular(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Singular values of every full window, largest first; NaN where products are unknown [N, W]."""
    width = min(_WIDTH, rows.shape[-1])
    blocks = grams(rows, np.arange(width - 1, len(rows)), size=width)
    known = np.asarray(np.isfinite(blocks).all(axis=(-2, -1)))
    values = np.linalg.eigvalsh(np.where(known[:, None, None], blocks, 0.0))[:, ::-1]
    return np.where(known[:, None], np.sqrt(np.clip(values, 0.0, None)), np.nan)
