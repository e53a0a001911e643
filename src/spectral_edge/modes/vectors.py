"""Vectors of parameter space: tensors by parameter name."""

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from spectral_edge.observe import normalise

Vector = dict[str, Tensor]
"""A vector of parameter space: by parameter name, tensors shaped as the parameters. Missing names are zero."""

Loss = Callable[[], Tensor]
"""Gives the loss of a fixed batch on the model as it is now: a scalar tensor with a graph."""


def named(model: nn.Module | Mapping[str, Tensor] | Iterable[tuple[str, Tensor]]) -> Vector:
    """The trainable parameters themselves, tied ones once, by the names that a monitor uses.

    Args:
        model: a module, or named tensors.
    """
    if isinstance(model, nn.Module):
        model = model.named_parameters()
    items = model.items() if isinstance(model, Mapping) else model
    found: Vector = {}
    known: set[int] = set()
    for name, tensor in items:
        if tensor.requires_grad and id(tensor) not in known:
            known.add(id(tensor))
            found[normalise(name)] = tensor
    return found


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

    Args:
        parameters: the parameters themselves.
        by: where to.
        factor: how far.
    """
    kept = {name: parameters[name].detach().clone() for name in parameters.keys() & by.keys()}
    try:
        with torch.no_grad():
            for name in kept:
                parameters[name].add_(by[name].to(parameters[name]), alpha=factor)
        yield
    finally:
        with torch.no_grad():
            for name, value in kept.items():
                parameters[name].copy_(value)
