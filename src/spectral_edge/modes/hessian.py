"""The Hessian of losses at the present parameters as an operator that keeps the graph of the gradient."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from spectral_edge.modes.gradients import by_name, graph_of_gradient, twice
from spectral_edge.modes.undisturbed import Meter
from spectral_edge.modes.vectors import Loss, Vector


class Hessian:
    """Products of one loss's Hessian with vectors.

    The gradient is computed once and its graph kept, so a product costs one more backward pass, and every product
    belongs to the same matrix even where the loss is random (dropout). Parameters must stay as they are meanwhile.

    Args:
        loss: gives the loss; see `gradients.twice` for what can be differentiated twice.
        parameters: the parameters themselves.
        meter: counts the gradient and the products.

    Attributes:
        gradient: of the same evaluation of the loss.

    Raises:
        InputError: if the loss is no scalar with a graph; a product, if the loss cannot be differentiated twice.
    """

    def __init__(self, loss: Loss, parameters: Mapping[str, Tensor], *, meter: Meter | None = None) -> None:
        self._parameters = dict(parameters)
        self._tensors = list(self._parameters.values())
        self._meter = meter
        with torch.enable_grad(), twice():
            first = graph_of_gradient(loss, self._parameters)
        self.gradient: Vector = by_name(self._parameters, [first.get(name) for name in self._parameters])
        # A gradient without a graph is constant: the loss is linear in that parameter.
        self._graph = {name: g for name, g in first.items() if g.requires_grad}
        if meter is not None:
            meter.gradients += 1

    def __matmul__(self, vector: Mapping[str, Tensor]) -> Vector:
        """The Hessian times a vector; missing names are zero (Pearlmutter 1994)."""
        names = [name for name in self._graph if name in vector]
        found: Sequence[Tensor | None] = [None] * len(self._tensors)
        if names:
            with twice():
                found = torch.autograd.grad(
                    [self._graph[name] for name in names],
                    self._tensors,
                    grad_outputs=[vector[name].to(self._graph[name]) for name in names],
                    retain_graph=True,
                    allow_unused=True,
                )
        if self._meter is not None:
            self._meter.hvps += 1
        return by_name(self._parameters, found)
