"""Vectors of parameter space: tensors by parameter name."""

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from spectral_edge.errors import InputError
from spectral_edge.observe import normalise

Vector = dict[str, Tensor]
"""A vector of parameter space: by parameter name, tensors shaped as the parameters. Missing names are zero."""

Loss = Callable[[], Tensor]
"""Gives the loss of a fixed batch on the model as it is now: a scalar tensor with a graph."""


def named(model: nn.Module | Mapping[str, Tensor] | Iterable[tuple[str, Tensor]]) -> Vector:
    """The trainable parameters themselves, tied ones once, by the names that a monitor uses.

    Args:
        model: a module, or named tensors.

    Raises:
        InputError: if it is neither.
    """
    found: Vector = {}
    known: set[int] = set()
    for name, tensor in _pairs(model):
        if tensor.requires_grad and id(tensor) not in known:
            known.add(id(tensor))
            found[normalise(name)] = tensor
    return found


def _pairs(model: nn.Module | Mapping[str, Tensor] | Iterable[tuple[str, Tensor]]) -> list[tuple[str, Tensor]]:
    if isinstance(model, nn.Module):
        return list(model.named_parameters())
    try:
        pairs: list[Any] = list(model.items() if isinstance(model, Mapping) else model)
        named_tensors = all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in pairs)
    except (TypeError, ValueError):
        pairs, named_tensors = [], False
    if not named_tensors:
        raise InputError(
            "model",
            expected="a module, or named tensors",
            found=type(model).__name__,
            remedy="pass the torch.nn.Module, or model.named_parameters()",
        )
    return pairs


def dot(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """Inner product in float64."""
    return sum(
        float(torch.dot(a[name].detach().double().flatten(), b[name].detach().double().flatten()))
        for name in a.keys() & b.keys()
    )


def norm(a: Mapping[str, Tensor]) -> float:
    """Euclidean norm in float64."""
    return dot(a, a) ** 0.5


def scaled(a: Mapping[str, Tensor], factor: float) -> Vector:
    """A multiple of a vector, as new tensors without graph."""
    return {name: tensor.detach() * factor for name, tensor in a.items()}


def added(a: Mapping[str, Tensor], b: Mapping[str, Tensor], factor: float = 1.0) -> Vector:
    """The sum a + factor b, as new tensors without graph."""
    found: Vector = {}
    for name in [*a, *(name for name in b if name not in a)]:
        if name not in b:
            found[name] = a[name].detach().clone()
        elif name not in a:
            found[name] = b[name].detach() * factor
        else:
            found[name] = torch.add(a[name].detach(), b[name].detach(), alpha=factor)
    return found


def random_like(a: Mapping[str, Tensor], generator: torch.Generator) -> Vector:
    """Independent standard normal values shaped as a vector, drawn on the generator's device."""
    return {
        name: torch.randn(tensor.shape, generator=generator, device=generator.device).to(tensor)
        for name, tensor in a.items()
    }


@contextmanager
def displaced(parameters: Mapping[str, Tensor], by: Mapping[str, Tensor], factor: float = 1.0) -> Generator[None]:
    """Parameters moved in place by a multiple of a vector, and put back bit for bit afterwards.

    Versions of the parameters are not counted up, so a graph that was built before stays valid; one that is built
    inside has to be used inside.

    Args:
        parameters: the parameters themselves.
        by: where to.
        factor: how far.
    """
    kept = {name: parameters[name].detach().clone() for name in parameters.keys() & by.keys()}
    try:
        with torch.no_grad():
            for name in kept:
                parameters[name].data.add_(by[name].to(parameters[name]), alpha=factor)
        yield
    finally:
        with torch.no_grad():
            for name, value in kept.items():
                parameters[name].data.copy_(value)
