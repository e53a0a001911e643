"""Gradients and Hessian-vector products by parameter name, which never touch `.grad`."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from spectral_edge.errors import InputError
from spectral_edge.modes.undisturbed import Meter
from spectral_edge.modes.vectors import Loss, Vector


def gradient(loss: Loss, parameters: Mapping[str, Tensor], *, meter: Meter | None = None) -> Vector:
    """The gradient of a loss; zero for parameters that it does not depend on.

    Args:
        loss: gives the loss.
        parameters: the parameters themselves.
        meter: counts it.

    Raises:
        InputError: if the loss is no scalar with a graph.
    """
    tensors = list(parameters.values())
    with torch.enable_grad():
        found = torch.autograd.grad(evaluated(loss), tensors, allow_unused=True)
    if meter is not None:
        meter.gradients += 1
    return by_name(parameters, found)


def hvp(
    loss: Loss, parameters: Mapping[str, Tensor], vector: Mapping[str, Tensor], *, meter: Meter | None = None
) -> Vector:
    """The Hessian of a loss times a vector, by differentiating the gradient's projection (Pearlmutter 1994).

    Args:
        loss: gives the loss; see `twice` for what can be differentiated twice.
        parameters: the parameters themselves.
        vector: missing names are zero.
        meter: counts it.

    Raises:
        InputError: if the loss is no scalar with a graph, or cannot be differentiated twice.
    """
    tensors = list(parameters.values())
    with torch.enable_grad(), twice():
        first = graph_of_gradient(loss, parameters)
        # A gradient without a graph is constant: the loss is linear in that parameter.
        terms = [
            (g * vector[name].detach().to(g)).sum() for name, g in first.items() if name in vector and g.requires_grad
        ]
        found: Sequence[Tensor | None] = [None] * len(tensors)
        if terms:
            found = torch.autograd.grad(torch.stack(terms).sum(), tensors, allow_unused=True)
    if meter is not None:
        meter.hvps += 1
    return by_name(parameters, found)


def loss_of(given: Loss) -> Loss:
    """The loss that a caller handed over.

    Raises:
        InputError: if it is no function.
    """
    if not callable(given):
        raise InputError(
            "loss",
            expected="a function that gives the loss",
            found=type(given).__name__,
            remedy="pass lambda: criterion(model(inputs), targets)",
        )
    return given


def evaluated(loss: Loss) -> Tensor:
    """The value of a loss.

    Raises:
        InputError: unless it is a function that gives a scalar tensor with a graph.
    """
    value = loss_of(loss)()
    if not isinstance(value, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(
            "loss",
            expected="a scalar tensor",
            found=type(value).__name__,
            remedy="return what backward() would be called on, without item() or float()",
        )
    if value.numel() != 1:
        raise InputError(
            "loss", expected="a scalar", found=f"shape {tuple(value.shape)}", remedy="take the batch's mean"
        )
    if not value.requires_grad:
        raise InputError(
            "loss",
            expected="a tensor with a graph",
            found="one without",
            remedy="compute it from the model's parameters, without detach() or torch.no_grad()",
        )
    return value


def losses_of(given: Sequence[Loss]) -> list[Loss]:
    """A list of losses that a caller handed over.

    Raises:
        InputError: if it is one loss, or holds anything but functions.
    """
    if callable(given) or isinstance(given, Tensor):
        raise InputError("losses", expected="a list of losses, one a batch", found="one", remedy="pass [loss]")
    return [loss_of(one) for one in given]


@contextmanager
def twice() -> Generator[None]:
    """Where a loss is evaluated that is to be differentiated twice.

    Attention is computed by plain matrix products here, since the fused kernels behind
    `torch.nn.functional.scaled_dot_product_attention` have no second derivative. That takes memory for all pairs of
    positions.

    Raises:
        InputError: for other operations without a second derivative.
    """
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    except RuntimeError as error:
        said = str(error).splitlines()[0] if str(error) else ""
        if not any(word in said for word in ("derivative", "double backward", "twice", "not implemented")):
            raise
        raise InputError(
            "loss",
            expected="one that can be differentiated twice",
            found=said,
            remedy="leave out kernels and compilation that give first derivatives only while measuring",
        ) from error


def graph_of_gradient(loss: Loss, parameters: Mapping[str, Tensor]) -> Vector:
    """The gradient with its own graph; parameters that the loss does not depend on are missing."""
    found: list[Tensor | None] = list(
        torch.autograd.grad(evaluated(loss), list(parameters.values()), create_graph=True, allow_unused=True)
    )
    return {name: dense(g) for name, g in zip(parameters, found, strict=True) if g is not None}


def by_name(parameters: Mapping[str, Tensor], found: Sequence[Tensor | None]) -> Vector:
    """What differentiation gave, by name and without graph; None is zero."""
    return {
        name: torch.zeros_like(tensor, requires_grad=False) if value is None else dense(value.detach())
        for (name, tensor), value in zip(parameters.items(), found, strict=True)
    }


def dense(tensor: Tensor) -> Tensor:
    """A tensor with all its values: embeddings may have sparse gradients."""
    return tensor if tensor.layout == torch.strided else tensor.to_dense()
