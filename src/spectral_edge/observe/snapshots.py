"""Parameter snapshots from files, arrays and state dicts, in step order."""

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from spectral_edge.errors import InputError

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
"""Files that are taken for checkpoints."""

_COMPANION = re.compile(r"(optimizer|scheduler|scaler|training_args|rng_state.*)$")
"""Stems of files that training scripts keep beside a checkpoint and that hold no parameters."""

_MARKED = tuple(
    re.compile(rf"(?<![a-z])(?:{words})s?[-_ =]?(\d+)(?!\d|\.\d)", re.IGNORECASE)
    for words in ("global_?step|step", "iteration|iter", "checkpoint|ckpt")
)
"""Words before a step number, the surest first."""

_WHOLE = re.compile(r"(?<!\d)(?<!\d\.)(?<!\de-)\d+(?!\d|\.\d|e-?\d)")
"""A whole number that is not part of a decimal one."""

_UNSAFE = re.compile(r"Unsupported (?:global: GLOBAL (\S+)|class (\S+)|operand)")
"""How torch says that a file needs full unpickling, and of what class."""

_NESTED = ("model", "state_dict", "model_state_dict", "module")
_BUFFER = re.compile(r"(^|\.)(running_mean|running_var|num_batches_tracked|masked_bias|inv_freq|position_ids)$")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The parameters at one step, loaded when asked for.

    Attributes:
        step: the optimizer step.
        label: what to call it in messages: a file's name, or its place in a sequence.
        load: gives the parameters by name.
    """

    step: int
    label: str
    load: Callable[[], dict[str, Tensor]]


def snapshots(source: Any, *, allow_pickle: bool = False) -> tuple[Iterator[Snapshot], list[int] | None]:
    """The snapshots of a source in step order, and all their steps where these are known beforehand.

    Args:
        source: a folder, a glob, a path, a sequence of these, or an iterable of arrays, state dicts, modules or
            (step, one of these).
        allow_pickle: load torch files that need full unpickling, which runs whatever code they hold.

    Raises:
        InputError: if it is of an unknown kind, a path is not there, or the steps of files cannot be told.
    """
    if isinstance(source, (str, Path)):
        return _from_paths(_expand(str(source)), allow_pickle=allow_pickle)
    if isinstance(source, (Mapping, nn.Module, Tensor)) or not isinstance(source, Iterable):
        raise InputError(
            "source",
            expected="several snapshots: paths, a glob, a folder, or an iterable",
            found=type(source).__name__,
            remedy="pass a list of (step, state_dict)",
        )
    if isinstance(source, Sequence) and source and all(isinstance(item, (str, Path)) for item in source):
        paths = [path for item in cast("Sequence[str | Path]", source) for path in _expand(str(item))]
        return _from_paths(paths, allow_pickle=allow_pickle)
    if isinstance(source, Sequence):
        listed = [_item(index, item) for index, item in enumerate(cast("Sequence[Any]", source))]
        return iter(listed), [snapshot.step for snapshot in listed]
    return (_item(index, item) for index, item in enumerate(cast("Iterable[Any]", source))), None


def is_parameter(name: str, tensor: Tensor) -> bool:
    """Whether an entry of a state dict is a trained parameter rather than a buffer, as far as its name tells."""
    return (
        tensor.is_floating_point()
        and _BUFFER.search(name) is None
        and not (name.endswith("attn.bias") and tensor.ndim == 4)
    )


def _item(index: int, item: Any) -> Snapshot:
    step = index
    if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], (int, np.integer)):
        step, item = int(item[0]), item[1]
    label = f"snapshot {index} (step {step})"
    return Snapshot(step, label, lambda: _parameters(item, label))


def _expand(text: str) -> list[Path]:
    path = Path(text)
    if has_magic(text) and not path.exists():
        return [Path(name) for name in glob(text, recursive=True)]
    if not path.is_dir():
        return [path]
    files = _checkpoints(path)
    if len(files) > 1:
        return files
    # A folder of folders, one for each checkpoint; a single file beside them is what training ended with.
    inner = [(folder, _checkpoints(folder)) for folder in path.iterdir() if folder.is_dir()]
    for folder, found in inner:
        if len(found) > 1:
            names = ", ".join(sorted(file.name for file in found)[:3])
            raise InputError(
                str(folder),
                expected="one checkpoint file in each sub-folder",
                found=f"{len(found)} ({names})",
                remedy="pass a glob that takes one of them; a checkpoint in several files is not supported yet",
            )
    return [found[0] for _, found in inner if found] or files


def _checkpoints(folder: Path) -> list[Path]:
    return [
        entry
        for entry in folder.iterdir()
        if entry.suffix in SUFFIXES and entry.is_file() and not _COMPANION.match(entry.stem)
    ]


def _from_paths(paths: list[Path], *, allow_pickle: bool) -> tuple[Iterator[Snapshot], list[int]]:
    for path in paths:
        if not path.is_file():
            found = "a folder" if path.is_dir() else "nothing there"
            remedy = "pass the files in it" if path.is_dir() else "check the path"
            raise InputError(str(path), expected="a checkpoint file", found=found, remedy=remedy)
        if path.suffix not in SUFFIXES:
            raise InputError(
                str(path),
                expected=f"a file that ends in {', '.join(SUFFIXES)}",
                found=path.suffix or "no ending",
                remedy="convert it to safetensors",
            )
    several = len({path.parent for path in paths}) > 1
    listed = [
        Snapshot(
            step,
            f"{path.parent.name}/{path.name}" if several else path.name,
            lambda path=path: _parameters(_load(path, allow_pickle=allow_pickle), path.name),
        )
        for step, path in _numbered(paths)
    ]
    return iter(listed), [snapshot.step for snapshot in listed]


def _numbered(paths: list[Path]) -> list[tuple[int, Path]]:
    """The files with their steps, in order: from their names, or else from those of the folders that hold one each."""
    steps = [_number(path.stem) for path in paths]
    if all(step is None for step in steps) and len({path.parent for path in paths}) > 1:
        steps = [_number(path.parent.name) for path in paths]
    if all(step is None for step in steps):
        return list(enumerate(sorted(paths, key=_natural)))
    ordered: list[tuple[int, Path]] = []
    for step, path in zip(steps, paths, strict=True):
        if step is None:
            raise InputError(
                str(path),
                expected="a step number in its name or its folder's, as for other files",
                found="none",
                remedy="pass a glob that leaves it out",
            )
        ordered.append((step, path))
    ordered.sort()
    for (before, one), (after, two) in pairwise(ordered):
        if before == after:
            raise InputError(
                f"{one} and {two}",
                expected="one snapshot a step",
                found=f"step {after} from both",
                remedy="pass one file for each step; a checkpoint sharded over several files is not supported yet",
            )
    return ordered


def _number(name: str) -> int | None:
    """The step in a name: after a word that says so, else its last whole number."""
    for pattern in _MARKED:
        if found := pattern.findall(name):
            return int(found[-1])
    found = _WHOLE.findall(name)
    return int(found[-1]) if found else None


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sorts 2 before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path))]


def _load(path: Path, *, allow_pickle: bool) -> Any:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")  # what does not load is said below
            return torch.load(path, map_location="cpu", weights_only=not allow_pickle)
    except Exception as error:  # each library raises its own kinds for a broken file
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
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise InputError(str(path), expected="a complete checkpoint", found=first, remedy="copy it again") from error


def _parameters(item: Any, label: str) -> dict[str, Tensor]:
    if isinstance(item, nn.Module):
        return {name: p.detach() for name, p in item.named_parameters() if p.requires_grad}
    if isinstance(item, (np.ndarray, Tensor)):
        tensor = torch.as_tensor(item)
        if tensor.is_floating_point():
            return {"parameters": tensor.reshape(-1)}
    if isinstance(item, Mapping):
        plain = cast("Mapping[str, Any]", item)
        for key in _NESTED:
            if isinstance(plain.get(key), (Mapping, nn.Module)):
                return _parameters(plain[key], label)
        tensors = {
            name: torch.as_tensor(value) for name, value in plain.items() if isinstance(value, (Tensor, np.ndarray))
        }
        kept = {name: tensor for name, tensor in tensors.items() if is_parameter(name, tensor)}
        if kept:
            return kept
    raise InputError(
        label,
        expected="an array, a state dict or a module with floating-point parameters",
        found=type(item).__name__,
        remedy="pass model.state_dict()",
    )
