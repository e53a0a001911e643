"""Which files make up a checkpoint, and which checkpoints a path stands for."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import Any, cast

from spectral_edge.errors import InputError
from spectral_edge.observe.snapshots.mapped import mapped, read_ahead
from spectral_edge.observe.snapshots.snapshot import METADATA, Entry, UnreadableError
from spectral_edge.observe.snapshots.torchfile import stored

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
"""Files that are taken for checkpoints."""

INDEX = (".safetensors.index.json", ".bin.index.json")
"""Files that list the parts of a checkpoint, the preferred one first."""

_COMPANION = re.compile(r"(optimizer|scheduler|scaler|training_args|rng_state.*|zero_pp_rank.*|bf16_zero.*)$")
"""Stems of files that training scripts keep beside a checkpoint and that hold no parameters."""

_PART = re.compile(r"(.*?)[-_.]?(\d+)-of-(\d+)$")
"""Stems of the parts of a checkpoint in several files."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The files of one checkpoint.

    Attributes:
        path: its file, its index or its folder.
        files: the files that hold tensors; none for a folder of torch.distributed.checkpoint.
        places: names to look for a step in, the surest first.
    """

    path: Path
    files: tuple[Path, ...]
    places: tuple[str, ...]

    def entries(self, label: str, *, allow_pickle: bool) -> dict[str, Entry]:
        """Its tensors, loaded when they are asked for.

        Raises:
            UnreadableError: if a file is missing, damaged or not complete.
            InputError: if a file needs unpickling and that is not allowed, or holds no parameters.
        """
        if not self.files:
            # What it needs of torch takes a second to import, a third of what this package takes.
            from spectral_edge.observe.snapshots.distributed import distributed

            return distributed(self.path, allow_pickle=allow_pickle)
        wanted = _weight_map(self.path) if self.path.name.endswith(INDEX) else None
        found: dict[str, Entry] = {}
        for file in self.files:
            if not file.is_file():
                raise UnreadableError(
                    str(file), expected="a part of the checkpoint", found="no such file", remedy="copy it again"
                )
            parts = mapped(file) if file.suffix == ".safetensors" else stored(file, label, allow_pickle=allow_pickle)
            found |= {n: e for n, e in parts.items() if wanted is None or wanted.get(n, file.name) == file.name}
        missing = sorted(set(wanted or ()) - set(found)) if self.path.name.endswith(INDEX[0]) else []
        if missing:
            raise UnreadableError(
                str(self.path),
                expected=f"{missing[0]} in {(wanted or {})[missing[0]]}",
                found="no such tensor",
                remedy="copy it again",
            )
        return found

    def ahead(self) -> None:
        """Asks the system to read the files before they are needed."""
        for file in self.files:
            read_ahead(file)


def expand(text: str) -> list[Checkpoint]:
    """The checkpoints that a path, a folder or a glob stands for.

    Raises:
        InputError: if there is nothing, or nothing of a known kind.
    """
    path = Path(text)
    if has_magic(text) and not path.exists():
        found = [Path(name) for name in glob(text, recursive=True)]
        folders = [one for place in found if place.is_dir() for one in [checkpoint_in(place)] if one is not None]
        files = [place for place in found if not place.is_dir()]
        return [*folders, *_grouped(files)]
    if not path.is_dir():
        return [_single(path)]
    if (path / METADATA).is_file():
        return [_folder(path)]
    here = _grouped(_files(path))
    if len(here) > 1:
        return here
    # A folder of folders, one for each checkpoint; a single one beside them is what training ended with.
    inner = [found for place in path.iterdir() if place.is_dir() for found in [checkpoint_in(place)] if found]
    return inner or here


def checkpoint_in(folder: Path) -> Checkpoint | None:
    """The one checkpoint in a folder, or None.

    Raises:
        InputError: if there are several.
    """
    if (folder / METADATA).is_file():
        return _folder(folder)
    found = _preferred(_grouped(_files(folder)))
    if len(found) > 1:
        names = ", ".join(sorted(checkpoint.path.name for checkpoint in found)[:3])
        raise InputError(
            str(folder),
            expected="one checkpoint in each sub-folder",
            found=f"{len(found)} ({names})",
            remedy="pass a glob that takes one of them",
        )
    if not found:
        nested = [place for place in sorted(folder.glob("*/" + METADATA)) if not place.parent.name.startswith("optim")]
        return Checkpoint(nested[0].parent, (), (folder.name, folder.parent.name)) if len(nested) == 1 else None
    return found[0]


def _preferred(found: Sequence[Checkpoint]) -> list[Checkpoint]:
    """Where a folder holds the same weights as safetensors and as a pickle, the former."""
    safe = [one for one in found if one.files[0].suffix == ".safetensors"]
    rest = [one for one in found if one.files[0].suffix != ".safetensors"]
    usual = {"pytorch_model.bin", "pytorch_model.bin.index.json"}
    return safe if safe and all(one.path.name in usual for one in rest) else [*safe, *rest]


def _files(folder: Path) -> list[Path]:
    return [
        entry
        for entry in folder.iterdir()
        if entry.is_file()
        and (entry.suffix in SUFFIXES or entry.name.endswith(INDEX))
        and not _COMPANION.match(entry.stem)
    ]


def _grouped(paths: Sequence[Path]) -> list[Checkpoint]:
    """Files as checkpoints: an index and its parts are one, and so are parts without an index."""
    found = [_single(path) for path in paths if path.name.endswith(INDEX)]
    taken = {file for checkpoint in found for file in checkpoint.files}
    parts: dict[tuple[Path, str, int], list[Path]] = {}
    for path in paths:
        if path.name.endswith(INDEX) or path in taken:
            continue
        part = _PART.match(path.stem)
        if part is None:
            found.append(_single(path))
        else:
            parts.setdefault((path.parent, part[1] + path.suffix, int(part[3])), []).append(path)
    for (folder, name, count), files in parts.items():
        # Also of parts that are missing: reading says so by name.
        first = _PART.match(files[0].stem)
        assert first is not None
        numbers = {int(match[2]) for file in files if (match := _PART.match(file.stem)) is not None}
        begin = 0 if 0 in numbers else 1
        stem, width = files[0].stem[: first.start(2)], len(first[2])
        rest = files[0].stem[first.end(2) :]
        listed = [folder / f"{stem}{number:0{width}d}{rest}{files[0].suffix}" for number in range(begin, begin + count)]
        found.append(Checkpoint(folder / name, tuple(listed), (Path(name).stem, folder.name)))
    return found


def _single(path: Path) -> Checkpoint:
    if not path.exists():
        raise InputError(str(path), expected="a checkpoint file", found="nothing there", remedy="check the path")
    if path.name.endswith(INDEX):
        ending = next(end for end in INDEX if path.name.endswith(end))
        try:
            files = tuple(sorted({path.parent / name for name in _weight_map(path).values()}))
        except UnreadableError:  # said when its turn comes, since the series may go on without it
            files = (path, *path.parent.glob(path.name.removesuffix(ending) + "-*-of-*"))
        return Checkpoint(path, files, (path.name.removesuffix(ending), path.parent.name))
    if path.suffix not in SUFFIXES:
        raise InputError(
            str(path),
            expected=f"a file that ends in {', '.join(SUFFIXES)}",
            found=path.suffix or "no ending",
            remedy="convert it to safetensors",
        )
    return Checkpoint(path, (path,), (path.stem, path.parent.name))


def _folder(path: Path) -> Checkpoint:
    return Checkpoint(path, (), (path.name, path.parent.name))


def _weight_map(path: Path) -> dict[str, str]:
    """Names of tensors with the file that holds each."""
    try:
        plain: Any = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        named = {str(name): str(file) for name, file in cast("dict[Any, Any]", plain).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        found = f"no {error}" if isinstance(error, KeyError) else str(error).splitlines()[0][:100]
        raise UnreadableError(
            str(path), expected="a JSON index with a weight_map", found=found, remedy="copy it again"
        ) from error
    odd = [file for file in named.values() if Path(file).name != file]
    if odd:
        raise InputError(str(path), expected="files beside it", found=repr(odd[0]), remedy="pass the files themselves")
    return named
