"""Safetensors files, mapped into memory: a tensor's values are pages of the file, read when they are first touched.

The header is parsed here rather than by the safetensors library, which maps the whole file and lets no part of it go.
"""

import json
import math
import mmap
import os
import warnings
from collections.abc import Callable
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
        found.append((low, name, Entry(shape, dtype, _loader(whole, dtype, count, low), _forgetter(whole, low, high))))
    if end > size:
        raise _torn(path, f"{size:,} of {end:,} bytes")
    return {name: entry for _, name, entry in sorted(found, key=lambda item: item[:2])}


def _loader(whole: mmap.mmap, dtype: torch.dtype, count: int, offset: int) -> Callable[[], Tensor]:
    def load() -> Tensor:
        if count == 0:
            return torch.empty(0, dtype=dtype)
        if offset % dtype.itemsize:
            data = bytearray(whole[offset : offset + count * dtype.itemsize])
            return torch.frombuffer(data, dtype=dtype, count=count)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.frombuffer(whole, dtype=dtype, count=count, offset=offset)

    return load


def _forgetter(whole: mmap.mmap, low: int, high: int) -> Callable[[], None] | None:
    """What takes whole pages of a tensor out of this process; the system keeps them as long as it has room."""
    page = mmap.PAGESIZE
    first, last = -(-low // page) * page, high // page * page
    if last <= first or not hasattr(mmap, "MADV_DONTNEED"):
        return None
    return lambda: whole.madvise(mmap.MADV_DONTNEED, first, last - first)


def _torn(path: Path, found: str) -> UnreadableError:
    return UnreadableError(str(path), expected="a complete checkpoint", found=found, remedy="copy it again")
