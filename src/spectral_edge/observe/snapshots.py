"""Parameter snapshots from files, arrays and state dicts, in step order."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from spectral_edge.errors import InputError

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
"""Files that are taken for checkpoints."""

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
        source: a folder, a glob, a path, a sequence of paths, or an iterable of arrays, state dicts, modules or
            (step, one of these).
        allow_pickle: load torch files that need full unpickling, which runs whatever code they hold.

    Raises:
        InputError: if there is nothing, or it is of an unknown kind.
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
        return _from_paths([Path(item) for item in cast("Sequence[str | Path]", source)], allow_pickle=allow_pickle)
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
    if has_magic(text):
        return [Path(name) for name in glob(text, recursive=True)]
    path = Path(text)
    if path.is_dir():
        return [entry for entry in path.iterdir() if entry.suffix in SUFFIXES]
    return [path]


def _from_paths(paths: list[Path], *, allow_pickle: bool) -> tuple[Iterator[Snapshot], list[int]]:
    for path in paths:
        if not path.is_file():
            raise InputError(str(path), expected="a checkpoint file", found="nothing there", remedy="check the path")
        if path.suffix not in SUFFIXES:
            raise InputError(
                str(path),
                expected=f"a file that ends in {', '.join(SUFFIXES)}",
                found=path.suffix or "no ending",
                remedy="convert it to safetensors",
            )
    numbers = [re.findall(r"\d+", path.stem) for path in paths]
    if all(numbers):
        ordered = sorted((int(found[-1]), path) for found, path in zip(numbers, paths, strict=True))
    else:
        ordered = list(enumerate(sorted(paths)))
    listed = [
        Snapshot(step, path.name, lambda path=path: _parameters(_load(path, allow_pickle=allow_pickle), path.name))
        for step, path in ordered
    ]
    return iter(listed), [snapshot.step for snapshot in listed]


def _load(path: Path, *, allow_pickle: bool) -> Any:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=not allow_pickle)
    except Exception as error:  # each library raises its own kinds for a broken file
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        unsafe = "weights_only" in str(error) or "Unsupported" in first
        remedy = (
            "allow_pickle=True runs the code inside; only if you trust the file" if unsafe else "copy the file again"
        )
        raise InputError(str(path), expected="a complete checkpoint", found=first, remedy=remedy) from error


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
            if isinstance(plain.get(key), Mapping):
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
