"""Folders of torch.distributed.checkpoint, read without a process group, one tensor at a time.

The folder's `.metadata` is a pickle. It is read with an unpickler that knows the handful of classes which torch itself
writes there and refuses every other name, so that reading it runs no code of the file's; `allow_pickle` gives that up.
The tensors themselves are loaded with `weights_only=True`.
"""

import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

from spectral_edge.errors import InputError
from spectral_edge.observe.snapshots.snapshot import METADATA, WRAPPERS, Entry, UnreadableError
from spectral_edge.observe.snapshots.torchfile import only_mapping, unreadable

_DTYPES = {str(value).removeprefix("torch.") for value in vars(torch).values() if type(value) is torch.dtype}

_CLASSES = {
    "torch.distributed.checkpoint.metadata": {
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.serialization": {"_get_layout"},
    "torch": {
        "Size",
        *(str(value).removeprefix("torch.") for value in vars(torch).values() if type(value) is torch.dtype),
    },
    "collections": {"OrderedDict"},
    "pathlib": {"PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath"},
    "builtins": {"set", "frozenset"},
}
"""All that torch writes into the metadata of a checkpoint."""

_OTHERS = ("optim", "scheduler", "lr_scheduler", "train_state", "dataloader", "rng", "scaler", "ema")
"""Beginnings of the keys under which training scripts keep what are no parameters."""

_HOLDERS = (*WRAPPERS, "app", "state")
"""Keys under which the parameters are kept beside these."""


class _Metadata(pickle.Unpickler):
    """Reads what torch writes and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """A class of the list.

        Raises:
            InputError: for any other.
        """
        if name in _CLASSES.get(module, ()):
            return super().find_class(module, name)
        raise InputError(
            METADATA,
            expected="metadata as torch.distributed.checkpoint writes it",
            found=f"a pickled {module}.{name}",
            remedy="pass allow_pickle=True (command line: --allow-pickle) if you trust the files: it runs the code "
            "inside",
        )


class _Reader(FileSystemReader):
    """A reader of a folder whose metadata was read before."""

    def __init__(self, path: Path, metadata: Metadata) -> None:
        super().__init__(path)
        self._metadata = metadata

    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        """The metadata, without a further look at the file."""
        return self._metadata


def distributed(folder: Path, *, allow_pickle: bool) -> dict[str, Entry]:
    """The parameters in a folder of torch.distributed.checkpoint.

    Raises:
        UnreadableError: if a file is missing, damaged or not complete.
        InputError: if the metadata names something that torch does not write there, and that is not allowed.
    """
    metadata = _metadata(folder, allow_pickle=allow_pickle)
    _check_sizes(folder, metadata)
    reader = _Reader(folder, metadata)
    mappings = only_mapping(metadata.planner_data)
    paths = {
        key: tuple(str(part) for part in cast("Sequence[Any]", mappings.get(key) or (key,)))
        for key, plain in metadata.state_dict_metadata.items()
        if isinstance(plain, TensorStorageMetadata)
    }
    found: dict[str, Entry] = {}
    for key, name in _parameters(paths).items():
        plain = cast("TensorStorageMetadata", metadata.state_dict_metadata[key])
        shape, dtype = tuple(plain.size), plain.properties.dtype
        found[name] = Entry(shape, dtype, lambda key=key, shape=shape, dtype=dtype: _load(reader, key, shape, dtype))
    return found


def _metadata(folder: Path, *, allow_pickle: bool) -> Metadata:
    path = folder / METADATA
    try:
        with path.open("rb") as file:
            found = pickle.load(file) if allow_pickle else _Metadata(file).load()
    except InputError as error:
        raise InputError(str(path), expected=error.expected, found=error.found, remedy=error.remedy) from error
    except Exception as error:  # a damaged pickle can raise anything
        raise unreadable(path, error) from error
    if not isinstance(found, Metadata):
        raise UnreadableError(
            str(path), expected="a checkpoint's metadata", found=type(found).__name__, remedy="copy it again"
        )
    if getattr(found, "storage_meta", None) is None:
        found.storage_meta = StorageMeta()
    return found


def _check_sizes(folder: Path, metadata: Metadata) -> None:
    """Finds files that are missing or cut off before anything is read."""
    ends: dict[str, int] = {}
    for place in only_mapping(metadata.storage_data).values():
        name = str(place.relative_path)
        ends[name] = max(ends.get(name, 0), int(place.offset) + int(place.length))
    for name, end in ends.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else -1
        if size < end:
            found = "no such file" if size < 0 else f"{size:,} of {end:,} bytes"
            raise UnreadableError(str(path), expected="a complete checkpoint", found=found, remedy="copy it again")


def _parameters(paths: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Keys of the parameters with their names, without the keys under which a training script keeps them."""
    depth = 0
    while True:
        inner = {path[depth] for path in paths.values() if len(path) > depth + 1}
        holder = next((key for key in _HOLDERS if key in inner), None)
        if holder is None:
            break
        paths = {key: path for key, path in paths.items() if len(path) > depth + 1 and path[depth] == holder}
        depth += 1
    return {
        key: ".".join(path[depth:])
        for key, path in paths.items()
        if not path[depth].split(".")[0].lower().startswith(_OTHERS)
    }


def _load(reader: _Reader, key: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    wanted: dict[str, Any] = {key: torch.empty(shape, dtype=dtype)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is no process group
            load(wanted, storage_reader=reader, no_dist=True)
    except Exception as error:
        raise unreadable(Path(str(reader.path)) / key, error) from error
    return wanted[key]
