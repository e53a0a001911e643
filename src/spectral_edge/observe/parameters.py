"""Which parameters are watched, under which names, in which groups."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from spectral_edge.errors import InputError
from spectral_edge.records import Inventory, TensorInfo


class Shaped(Protocol):
    """What a selector may ask of a tensor, live or recorded."""

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        ...


Selector = str | Sequence[str] | Callable[[str, Any], bool]
"""A glob over names, several globs, the preset "attention", or a predicate of name and tensor."""

_WRAPPERS = re.compile(r"^(?:(?:module|_orig_mod)\.)+|(?<=\.)_orig_mod\.")
_ATTENTION = re.compile(r"(^|[._])(\w*attn\w*|\w*attention\w*|[qkvo]_proj|[qkv]_lin|c_attn)([._]|$)")


@runtime_checkable
class ParameterSource(Protocol):
    """Anything that can name its trainable tensors anew at every observation."""

    def named_tensors(self) -> Iterable[tuple[str, Tensor]]:
        """Every trainable tensor once, in a stable order."""
        ...


@dataclass(frozen=True, slots=True)
class ModuleSource:
    """The trainable parameters of a module: tied tensors once, frozen ones never, wrapper prefixes removed."""

    module: nn.Module

    def named_tensors(self) -> Iterable[tuple[str, Tensor]]:
        """Every parameter that requires a gradient, under the first of its names."""
        for name, parameter in self.module.named_parameters(remove_duplicate=True):
            if parameter.requires_grad:
                yield normalise(name), parameter


@dataclass(frozen=True, slots=True)
class NamedSource:
    """A fixed mapping of names to tensors."""

    tensors: Mapping[str, Tensor]

    def named_tensors(self) -> Iterable[tuple[str, Tensor]]:
        """Every distinct tensor under the first of its names."""
        seen: set[tuple[int, tuple[int, ...], tuple[int, ...]]] = set()
        for name, tensor in self.tensors.items():
            key = (tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()))
            if tensor.numel() and key in seen:
                continue
            seen.add(key)
            yield normalise(name), tensor


def as_source(
    model: nn.Module | ParameterSource | Mapping[str, Tensor] | Iterable[tuple[str, Tensor]],
) -> ParameterSource:
    """A source from whatever a user holds.

    Raises:
        InputError: if it is none of a module, a source, a mapping or pairs of names and tensors.
    """
    if isinstance(model, nn.Module):
        return ModuleSource(model)
    if isinstance(model, ParameterSource):
        return model
    try:
        return NamedSource(dict(cast("Iterable[tuple[str, Tensor]]", model)))
    except (TypeError, ValueError) as error:
        raise InputError(
            "model",
            expected="a module, a ParameterSource, or named tensors",
            found=type(model).__name__,
            remedy="pass the torch.nn.Module, or model.named_parameters()",
        ) from error


def normalise(name: str) -> str:
    """A parameter's name without the prefixes that data-parallel and compile wrappers add."""
    return _WRAPPERS.sub("", name)


def is_attention(name: str, tensor: Shaped) -> bool:
    """Whether a tensor is one of the paper's attention matrices: projections of queries, keys, values and outputs."""
    return tensor.ndim == 2 and _ATTENTION.search(name) is not None and "norm" not in name


def matcher(selector: Selector) -> Callable[[str, Any], bool]:
    """A selector as a predicate."""
    if callable(selector):
        return selector
    if selector == "attention":
        return is_attention
    patterns = [selector] if isinstance(selector, str) else list(selector)
    # A name may hold brackets, which a pattern would take for a choice of characters.
    return lambda name, _: any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)


def layer_of(name: str) -> str:
    """The layer that a parameter belongs to: its path up to the first number, else its module's path.

    >>> layer_of("encoder.layers.0.self_attn.in_proj_weight"), layer_of("head.weight"), layer_of("scale")
    ('encoder.layers.0', 'head', 'scale')
    """
    parts = name.split(".")
    for position, part in enumerate(parts):
        if part.isdigit() and position + 1 < len(parts):
            return ".".join(parts[: position + 1])
    return ".".join(parts[:-1]) or name


class Selection:
    """The rule by which parameters are watched and grouped.

    It is applied at every observation, since parameters may appear, vanish or be replaced; what it chose is kept as
    long as the names, shapes and dtypes stay the same.

    Args:
        select: which tensors; None is all trainable ones.
        groups: named groups of the watched tensors; None makes one for each layer.
    """

    def __init__(self, select: Selector | None = None, groups: Mapping[str, Selector] | None = None) -> None:
        if groups is not None and not isinstance(groups, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError(
                "groups",
                expected="a mapping from names to globs",
                found=type(groups).__name__,
                remedy='for instance groups={"mlp": "*mlp*"}',
            )
        self.select = select
        self.groups = groups
        self._signature: list[tuple[str, torch.Size, torch.dtype]] = []
        self._chosen: tuple[Inventory, list[int]] | None = None

    def apply(self, source: ParameterSource) -> tuple[Inventory, list[Tensor]]:
        """The inventory and the tensors behind it, in order.

        Raises:
            InputError: if nothing is trainable, nothing matches, a group is empty, or a tensor is not real floating.
        """
        named = list(source.named_tensors())
        signature = [(name, tensor.shape, tensor.dtype) for name, tensor in named]
        if self._chosen is None or signature != self._signature:
            self._chosen, self._signature = self._choose(named), signature
        inventory, kept = self._chosen
        return inventory, [named[index][1] for index in kept]

    def _choose(self, named: list[tuple[str, Tensor]]) -> tuple[Inventory, list[int]]:
        if not named:
            raise InputError(
                "model",
                expected="at least one trainable parameter",
                found="none",
                remedy="unfreeze parameters before watching",
            )
        wanted = matcher(self.select) if self.select is not None else _everything
        indices = [index for index, (name, tensor) in enumerate(named) if tensor.numel() and wanted(name, tensor)]
        kept = [named[index] for index in indices]
        if not kept:
            raise InputError(
                "select",
                expected="a selection that matches a trainable parameter",
                found=repr(self.select),
                remedy=f"names look like {', '.join(name for name, _ in named[:3])}",
            )
        for name, tensor in kept:
            if not tensor.is_floating_point():
                raise InputError(
                    name,
                    expected="a real floating-point tensor",
                    found=str(tensor.dtype),
                    remedy="leave it out with select=",
                )
        tensors = tuple(TensorInfo(name, tuple(tensor.shape), _dtype(tensor)) for name, tensor in kept)
        trainable = sum(tensor.numel() for _, tensor in named)
        return Inventory(tensors, self._group(kept), trainable), indices

    def _group(self, kept: Sequence[tuple[str, Tensor]]) -> dict[str, tuple[int, ...]]:
        if self.groups is None:
            layers: dict[str, list[int]] = {}
            for index, (name, _) in enumerate(kept):
                layers.setdefault(layer_of(name), []).append(index)
            return {layer: tuple(members) for layer, members in layers.items()}
        grouped: dict[str, tuple[int, ...]] = {}
        for group, selector in self.groups.items():
            match = matcher(selector)
            grouped[group] = tuple(index for index, (name, tensor) in enumerate(kept) if match(name, tensor))
            if not grouped[group]:
                raise InputError(
                    f"group {group!r}",
                    expected="a pattern that matches a watched parameter",
                    found=repr(selector),
                    remedy=f"names look like {kept[0][0]}",
                )
        return grouped


def _everything(name: str, tensor: Shaped) -> bool:
    return True


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
