"""Safetensors files, mapped into memory: a tensor's values are pages of the file, read when they are first touched.

The header is parsed here rather than by the safetensors library, which maps the whole file and lets no part of it go.
"""

import json
import math
import mmap
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spectral_edge.observe.snapshots.snapshot import Entry, UnreadableError

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}
"""Dtypes of safetensors; others are passed over, since none of them is trained."""

_POPULATE_READ = 22
"""Linux's advice to map pages for reading; Python has no name for it."""

_LARGEST_HEADER = 100_000_000
"""As in the safetensors library: what is longer is no header."""


def mapped(path: Path) -> dict[str, Entry]:
    """The tensors of a safetensors file in the order in which they lie there.

    Raises:
        UnreadableError: if the file is damaged or not complete.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = 8 + int.from_bytes(file.read(8), "little")
            if size < 9 or not 8 < start <= min(size, _LARGEST_HEADER):
                raise _torn(path, "no safetensors header")
            header = json.loads(file.read(start - 8))
            # A private mapping, since torch has no read-only tensors; nothing is ever written to it.
            whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:
        if isinstance(error, UnreadableError):
            raise
        raise _torn(path, str(error).splitlines()[0][:120]) from error
    try:
        return _entries(path, header, whole, start, size)
    except (KeyError, TypeError, AttributeError) as error:
        raise _torn(path, f"a header without {error}") from error


def read_ahead(path: Path) -> None:
    """Asks the system to read a file before it is needed, where it can be asked."""
    advise: Callable[..., None] | None = getattr(os, "posix_fadvise", None)
    if advise is None:
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # which is said when the file is opened in earnest
        return
    try:
        advise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
    finally:
        os.close(descriptor)


def _entries(path: Path, header: dict[str, Any], whole: mmap.mmap, start: int, size: int) -> dict[str, Entry]:
    found: list[tuple[int, str, Entry]] = []
    end = start
    for name, plain in header.items():
        if name == "__metadata__":
            continue
        low, high = (start + int(offset) for offset in plain["data_offsets"])
        end = max(end, high)
        dtype = _DTYPES.get(plain["dtype"])
        if dtype is None:
            continue
        shape = tuple(int(length) for length in plain["shape"])
        count = math.prod(shape)
        if min(shape, default=1) < 0 or not start <= low <= high or high - low != count * dtype.itemsize:
            raise _torn(path, f"{name} of shape {shape} in {high - low} bytes")
        pages = _Pages.inside(whole, low, high)
        load = _loader(whole, dtype, count, low, pages)
        found.append((low, name, Entry(shape, dtype, load, pages.forget if pages is not None else None)))
    if end > size:
        raise _torn(path, f"{size:,} of {end:,} bytes")
    return {name: entry for _, name, entry in sorted(found, key=lambda item: item[:2])}


@dataclass(frozen=True, slots=True)
class _Pages:
    """The whole pages of a mapping that hold a tensor.

    Attributes:
        whole: the mapping.
        start: where they start.
        length: their bytes.
    """

    whole: mmap.mmap
    start: int
    length: int

    @classmethod
    def inside(cls, whole: mmap.mmap, low: int, high: int) -> "_Pages | None":
        """Those that hold nothing else; None if there are none, or the system takes no advice."""
        first, last = -(-low // mmap.PAGESIZE) * mmap.PAGESIZE, high // mmap.PAGESIZE * mmap.PAGESIZE
        return cls(whole, first, last - first) if last > first and hasattr(mmap, "MADV_DONTNEED") else None

    def fetch(self) -> None:
        """Maps them all at once: one by one, as they are touched, takes a quarter longer than the sketch itself."""
        if sys.platform == "linux":
            with suppress(OSError):  # of a kernel before 5.14, which maps them one by one
                self.whole.madvise(_POPULATE_READ, self.start, self.length)

    def forget(self) -> None:
        """Takes them out of this process; the system keeps them as long as it has room."""
        self.whole.madvise(mmap.MADV_DONTNEED, self.start, self.length)


def _loader(
    whole: mmap.mmap, dtype: torch.dtype, count: int, offset: int, pages: _Pages | None
) -> Callable[[], Tensor]:
    def load() -> Tensor:
        if count == 0:
            return torch.empty(0, dtype=dtype)
        if offset % dtype.itemsize:
            data = bytearray(whole[offset : offset + count * dtype.itemsize])
            return torch.frombuffer(data, dtype=dtype, count=count)
        if pages is not None:
            pages.fetch()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.frombuffer(whole, dtype=dtype, count=count, offset=offset)

    return load


def _torn(path: Path, found: str) -> UnreadableError:
    return UnreadableError(str(path), expected="a complete checkpoint", found=found, remedy="copy it again")
