"""Files of `torch.save`: mapped into memory where their format allows it, and never unpickled unless told."""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from spectral_edge.errors import InputError
from spectral_edge.observe.snapshots.snapshot import Entry, UnreadableError, loaded

_UNSAFE = re.compile(r"Unsupported (?:global: GLOBAL (\S+)|class (\S+)|operand)")
"""How torch says that a file needs full unpickling, and of what class."""

_OLD = "mmap can only be used with files saved with"
"""How torch says that a file is of the format before version 1.6, which has to be loaded whole."""


def stored(path: Path, label: str, *, allow_pickle: bool) -> dict[str, Entry]:
    """The trained parameters in a torch file; tied ones under the first of their names.

    Raises:
        UnreadableError: if the file is damaged or not complete.
        InputError: if it needs full unpickling and that is not allowed, or holds no parameters.
    """
    found: dict[tuple[int, ...], tuple[str, Entry]] = {}
    for name, tensor in loaded(_load(path, allow_pickle=allow_pickle), label).items():
        key = (tensor.data_ptr(), *tensor.shape, -1, *tensor.stride()) if tensor.numel() else (-1, len(found))
        found.setdefault(key, (name, _entry(tensor)))
    return dict(found.values())


def _entry(tensor: Tensor) -> Entry:
    return Entry(tuple(tensor.shape), tensor.dtype, lambda: tensor)


def _load(path: Path, *, allow_pickle: bool) -> Any:
    options: dict[str, Any] = {"map_location": "cpu", "weights_only": not allow_pickle}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")  # what does not load is said below
            try:
                return torch.load(path, mmap=True, **options)
            except RuntimeError as error:
                if _OLD not in str(error):
                    raise
                return torch.load(path, **options)
    except Exception as error:  # torch raises many kinds for a broken file
        unsafe = _UNSAFE.search(str(error))
        if unsafe is not None and not allow_pickle:
            kind = unsafe[1] or unsafe[2]
            raise InputError(
                str(path),
                expected="tensors only",
                found=f"a pickled {kind}" if kind else "another pickle",
                remedy="save model.state_dict(), or pass allow_pickle=True (command line: --allow-pickle) if you trust "
                "the file: it runs the code inside",
            ) from error
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> UnreadableError:
    """An error of a library that could not read a file, in one line."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return UnreadableError(str(path), expected="a complete checkpoint", found=lines[0][:120], remedy="copy it again")


def only_mapping(plain: Any) -> Mapping[str, Any]:
    """A mapping, or an empty one for whatever is none."""
    return cast("Mapping[str, Any]", plain) if isinstance(plain, Mapping) else {}
