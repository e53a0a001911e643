"""Gradients and Hessian-vector products by parameter name, which never touch `.grad`."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from spectral_edge.modes.undisturbed import Meter
from spectral_edge.modes.vectors import Loss, Vector


def gradient(loss: Loss, parameters: Mapping[str, Tensor], *, meter: Meter | None = None) -> Vector:
    """The gradient of a loss; zero for parameters that it does not depend on.

    Args:
        loss: gives the loss.
        parameters: the parameters themselves.
        meter: counts it.
    """
    tensors = list(parameters.values())
    with torch.enable_grad():
        found = torch.autograd.grad(loss(), tensors, allow_unused=True)
    if meter is not None:
        meter.gradients += 1
    return _by_name(parameters, found)


def hvp(
    loss: Loss, parameters: Mapping[str, Tensor], vector: Mapping[str, Tensor], *, meter: Meter | None = None
) -> Vector:
    """The Hessian of a loss times a vector, by differentiating the gradient's projection (Pearlmutter 1994).

    Args:
        loss: gives the loss; it must be twice differentiable (some fused attention kernels are not).
        parameters: the parameters themselves.
        vector: missing names are zero.
        meter: counts it.
    """
    tensors = list(parameters.values())
    with torch.enable_grad():
        first = _maybe(torch.autograd.grad(loss(), tensors, create_graph=True, allow_unused=True))
        terms = [
            (g * vector[name].to(g)).sum()
            for name, g in zip(parameters, first, strict=True)
            if g is not None and name in vector
        ]
        projection = torch.stack(terms).sum() if terms else None
        if projection is None or projection.grad_fn is None:  # a loss that is linear in the parameters
            found: Sequence[Tensor | None] = [None] * len(tensors)
        else:
            found = torch.autograd.grad(projection, tensors, allow_unused=True)
    if meter is not None:
        meter.hvps += 1
    return _by_name(parameters, found)


def _by_name(parameters: Mapping[str, Tensor], found: Sequence[Tensor | None]) -> Vector:
    return {
        name: torch.zeros_like(tensor) if value is None else value.detach()
        for (name, tensor), value in zip(parameters.items(), found, strict=True)
    }


def _maybe(found: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
    """The same, typed as what `allow_unused=True` gives."""
    return found
