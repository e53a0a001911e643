"""The Hessian of losses at the present parameters as an operator that keeps the graph of the gradient."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from spectral_edge.modes.undisturbed import Meter
from spectral_edge.modes.vectors import Loss, Vector


class Hessian:
    """Products of one loss's Hessian with vectors.

    The gradient is computed once and its graph kept, so a product costs one more backward pass, and every product
    belongs to the same matrix even where the loss is random (dropout). Parameters must stay as they are meanwhile.

    Args:
        loss: gives the loss; twice differentiable.
        parameters: the parameters themselves.
        meter: counts the gradient and the products.
    """

    def __init__(self, loss: Loss, parameters: Mapping[str, Tensor], *, meter: Meter | None = None) -> None:
        self._parameters = dict(parameters)
        self._tensors = list(self._parameters.values())
        self._meter = meter
        with torch.enable_grad():
            first: list[Tensor | None] = list(
                torch.autograd.grad(loss(), self._tensors, create_graph=True, allow_unused=True)
            )
        # A gradient without a graph is constant: the loss is linear in that parameter.
        self._gradient = {
            name: g for name, g in zip(self._parameters, first, strict=True) if g is not None and g.requires_grad
        }
        if meter is not None:
            meter.gradients += 1

    def __matmul__(self, vector: Mapping[str, Tensor]) -> Vector:
        """The Hessian times a vector; missing names are zero (Pearlmutter 1994)."""
        names = [name for name in self._gradient if name in vector]
        found: Sequence[Tensor | None] = [None] * len(self._tensors)
        if names:
            found = torch.autograd.grad(
                [self._gradient[name] for name in names],
                self._tensors,
                grad_outputs=[vector[name].to(self._gradient[name]) for name in names],
                retain_graph=True,
                allow_unused=True,
            )
        if self._meter is not None:
            self._meter.hvps += 1
        return {
            name: torch.zeros_like(tensor, requires_grad=False) if value is None else value.detach()
            for (name, tensor), value in zip(self._parameters.items(), found, strict=True)
        }
