"""One snapshot of the parameters, and what of a state dict is a parameter."""

import math
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from spectral_edge.errors import InputError
from spectral_edge.observe.shards import Shard

Named = dict[str, Any]
"""Tensors, or shards that load their values, by name."""

METADATA = ".metadata"
"""The file that makes a folder a checkpoint of torch.distributed.checkpoint."""

WRAPPERS = ("model", "state_dict", "model_state_dict", "module")
"""Keys under which training scripts keep the parameters beside other things."""

BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "masked_bias", "inv_freq", "position_ids")
"""Last parts of names of what is saved with the parameters and not trained."""


class UnreadableError(InputError):
    """A checkpoint that is damaged or not complete, so that a series may go on without it."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The parameters at one step, loaded while they are asked for.

    Attributes:
        step: the optimizer step.
        label: what to call it in messages: a file's name, or its place in a sequence.
        open: gives the parameters by name for the duration of a `with` block.
        ahead: tells the system that it will be read soon.
    """

    step: int
    label: str
    open: Callable[[], AbstractContextManager[Named]]
    ahead: Callable[[], None] = field(default=lambda: None)


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor that is loaded when it is asked for.

    Attributes:
        shape: its shape.
        dtype: its dtype.
        load: loads its values.
        done: called when these are no longer needed.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    load: Callable[[], Tensor]
    done: Callable[[], None] | None = None

    def shard(self) -> Shard:
        """As engines take it."""
        return Shard(self.load, self.shape, dtype=self.dtype, done=self.done)


def bytes_of(tensors: Mapping[str, Any]) -> int:
    """How many bytes the tensors of a snapshot are."""
    return sum(math.prod(tensor.shape) * tensor.dtype.itemsize for tensor in tensors.values())


def is_parameter(name: str, dtype: torch.dtype, dimensions: int) -> bool:
    """Whether an entry of a state dict is a trained parameter rather than a buffer, as far as its name tells."""
    return (
        dtype.is_floating_point
        and name.rpartition(".")[2] not in BUFFERS
        and not (name.endswith("attn.bias") and dimensions == 4)
    )


def parameters(entries: Mapping[str, Entry], label: str) -> Named:
    """The trained parameters among the tensors of a file.

    Raises:
        InputError: if there is none.
    """
    kept = {name: e.shard() for name, e in entries.items() if is_parameter(name, e.dtype, len(e.shape))}
    if not kept:
        raise _nothing(label, f"{len(entries)} tensors, none of them floating-point" if entries else "no tensor")
    return kept


def loaded(item: Any, label: str) -> Named:
    """The trained parameters of something that a user or a file holds.

    Raises:
        InputError: if it holds none.
    """
    if isinstance(item, nn.Module):
        return {name: p.detach() for name, p in item.named_parameters() if p.requires_grad}
    if isinstance(item, (np.ndarray, Tensor)):
        tensor = torch.as_tensor(item)
        if tensor.is_floating_point():
            return {"parameters": tensor.reshape(-1)}
    if isinstance(item, Mapping):
        plain = cast("Mapping[str, Any]", item)
        for key in WRAPPERS:
            if isinstance(plain.get(key), (Mapping, nn.Module)):
                return loaded(plain[key], label)
        kept = {name: tensor for name, tensor in _tensors(plain) if is_parameter(name, tensor.dtype, tensor.ndim)}
        if kept:
            return kept
    raise _nothing(label, type(item).__name__)


@contextmanager
def opened(entries: Callable[[], Mapping[str, Entry]], label: str) -> Generator[Named]:
    """The trained parameters among the tensors of a file for the duration; nothing of the file is kept then.

    Raises:
        InputError: if there is none.
    """
    found = parameters(entries(), label)
    try:
        yield found
    finally:
        # Whoever still names the shards must not keep a whole file in memory with them.
        for shard in found.values():
            shard.close()


def in_memory(step: int, label: str, item: Any) -> Snapshot:
    """A snapshot of something that a user holds."""
    return Snapshot(step, label, lambda: nullcontext(loaded(item, label)))


def _tensors(plain: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for name, value in plain.items():
        if isinstance(value, (Tensor, np.ndarray)):
            yield name, torch.as_tensor(value)
        elif isinstance(value, Shard):
            yield name, value


def _nothing(label: str, found: str) -> InputError:
    return InputError(
        label,
        expected="an array, a state dict or a module with floating-point parameters",
        found=found,
        remedy="pass model.state_dict()",
    )
