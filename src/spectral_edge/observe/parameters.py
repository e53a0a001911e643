"""Which parameters are watched, under which names, in which groups."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from spectral_edge.errors import InputError
from spectral_edge.observe.layout import Held, Selected
from spectral_edge.observe.shards import Block, Shard, as_shard
from spectral_edge.records import TensorInfo


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
    """Anything that can name its trainable tensors anew at every observation.

    A tensor may be a DTensor, or a `Shard` that says which part of a tensor this process holds.
    """

    def named_tensors(self) -> Iterable[tuple[str, "Tensor | Shard"]]:
        """Every trainable tensor once, in a stable order."""
        ...


@dataclass(frozen=True, slots=True)
class ModuleSource:
    """The trainable parameters of a module: tied tensors once, frozen ones never, wrapper prefixes removed."""

    module: nn.Module

    def named_tensors(self) -> Iterable[tuple[str, Tensor]]:
        """Every parameter that requires a gradient, under the first of its names."""
        named = [(name, p) for name, p in self.module.named_parameters(remove_duplicate=True) if p.requires_grad]
        plain = [normalise(name) for name, _ in named]
        if len(set(plain)) < len(plain):  # a wrapper with parameters of its own, of the same names
            return named
        return list(zip(plain, [p for _, p in named], strict=True))


@dataclass(frozen=True, slots=True)
class NamedSource:
    """A fixed mapping of names to tensors or shards."""

    tensors: Mapping[str, Any]

    def named_tensors(self) -> Iterable[tuple[str, Any]]:
        """Every distinct tensor under the first of its names."""
        seen: set[tuple[int, tuple[int, ...], tuple[int, ...]]] = set()
        for name, tensor in self.tensors.items():
            if pointer := _pointer(tensor):
                key = (pointer, tuple(tensor.shape), tuple(tensor.stride()))
                if key in seen:
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


@lru_cache(maxsize=65_536)
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
    if not isinstance(selector, Sequence) or not all(isinstance(one, str) for one in selector):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(
            "selector", expected="a glob, several, or a predicate", found=repr(selector), remedy='for instance "*mlp*"'
        )
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
        self._named: list[tuple[str, Any]] = []
        self._places: list[tuple[Any, ...] | None] = []
        self._signature: list[_Signature] = []
        self._indices: list[int] = []
        self._selected: Selected | None = None

    def apply(self, source: ParameterSource) -> Selected:
        """What is watched of a source, and what this process holds of it.

        Raises:
            InputError: if a tensor is not real floating, or is the partial sum of a sharded one.
        """
        named = list(source.named_tensors())
        if self._selected is not None and self._same(named):
            return self._selected
        names = [name for name, _ in named]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(
                twice,
                expected="each name once on a rank",
                found="two tensors of that name",
                remedy="give them different names; parts of one tensor as one Shard",
            )
        shards = [as_shard(name, held) for name, held in named]
        signature = [
            (name, s.shape, s.dtype, s.start, s.length, s.block) for (name, _), s in zip(named, shards, strict=True)
        ]
        if self._selected is None or signature != self._signature:
            self._selected, self._signature = self._choose(named, shards), signature
        self._selected = replace(self._selected, shards=tuple(shards[index] for index in self._indices))
        self._named, self._places = named, [_place(held) for _, held in named]
        return self._selected

    def _same(self, named: list[tuple[str, Any]]) -> bool:
        """Whether these are the tensors of before in the same memory, so that views of them still hold."""
        if len(named) != len(self._named):
            return False
        return all(
            held is before and place is not None and _place(held) == place
            for (_, held), (_, before), place in zip(named, self._named, self._places, strict=True)
        )

    def _choose(self, named: list[tuple[str, Any]], shards: list[Shard]) -> Selected:
        wanted = matcher(self.select) if self.select is not None else _everything
        self._indices = [i for i, (name, held) in enumerate(named) if shards[i].numel and wanted(name, held)]
        kept = [(named[index][0], named[index][1], shards[index]) for index in self._indices]
        problem = None
        if not named:
            problem = InputError(
                "model",
                expected="at least one trainable parameter",
                found="none",
                remedy="unfreeze parameters before watching",
            )
        elif not kept:
            problem = InputError(
                "select",
                expected="a selection that matches a trainable parameter",
                found=repr(self.select),
                remedy=f"names look like {', '.join(name for name, _ in named[:3])}",
            )
        odd = [(name, shard) for name, _, shard in kept if not shard.dtype.is_floating_point]
        for name, shard in odd:
            problem = InputError(
                name,
                expected="a real floating-point tensor",
                found=str(shard.dtype),
                remedy="leave it out with select=",
            )
        matches = {group: matcher(selector) for group, selector in (self.groups or {}).items()}
        held: list[Held] = []
        for name, tensor, shard in kept:
            groups = tuple(group for group, match in matches.items() if match(name, tensor))
            if self.groups is None:
                groups = (layer_of(name),)
            info = TensorInfo(name, shard.shape, str(shard.dtype).removeprefix("torch."))
            held.append(Held(info, groups, shard.start, shard.length, shard.block))
        trainable = {name: shard.numel for (name, _), shard in zip(named, shards, strict=True)}
        named_groups = None if self.groups is None else tuple(self.groups)
        return Selected(tuple(held), (), trainable, named_groups, problem, fatal=bool(odd))


_Signature = tuple[str, tuple[int, ...], torch.dtype, int, int, Block | None]


def _place(held: Any) -> tuple[Any, ...] | None:
    """Where and how a plain tensor's values lie; None for whatever has to be asked anew at every observation."""
    pointer = _pointer(held)
    return (pointer, held.shape, held.stride(), held.dtype) if pointer else None


def _pointer(held: Any) -> int:
    """Where a plain tensor's values lie; 0 for whatever has to be asked anew at every observation."""
    return held.data_ptr() if isinstance(held, Tensor) and type(held).__name__ != "DTensor" else 0


def _everything(name: str, tensor: Shaped) -> bool:
    return True
