"""The tangent kernel of a network on a few examples, and its outliers, from Jacobians of each example.

With J the Jacobian of all outputs on the probe set and Lambda the second derivative of the loss in the outputs, the
generalised Gauss-Newton matrix J^T Lambda J shares its non-zero eigenvalues with K = Lambda^1/2 J J^T Lambda^1/2,
which has only as many rows as there are outputs. For a squared loss Lambda is a multiple of the identity and K is the
tangent kernel divided by the number of examples; for cross-entropy Lambda holds diag(p) - p p^T of each example.
The Hessian differs from the Gauss-Newton matrix by a term that vanishes with the residuals.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap  # pyright: ignore[reportUnknownVariableType, reportPrivateImportUsage]

from spectral_edge.errors import InputError
from spectral_edge.modes.gradients import evaluated, twice
from spectral_edge.modes.undisturbed import Cost, Meter, undisturbed
from spectral_edge.modes.vectors import named

Array = NDArray[np.float64]
OutputLoss = Callable[[Tensor], Tensor]
"""Outputs [n, ...] to the loss that training minimises, a sum or mean over examples of a loss of each."""


@dataclass(frozen=True, slots=True)
class TangentKernel:
    """The tangent kernel of n examples with C outputs each.

    Attributes:
        kernel: Lambda^1/2 J J^T Lambda^1/2 [n C, n C], loss per squared parameter unit; example by example.
        eigenvalues: of it [n C], largest first: the non-zero ones are those of the Gauss-Newton matrix.
        cost: of the measurement; `gradients` counts backward passes of one chunk of examples for one output.
    """

    kernel: Array
    eigenvalues: Array
    cost: Cost

    def outliers(self, threshold: float) -> int:
        """How many eigenvalues reach a threshold, for instance 1 / (eta W s)."""
        return int((self.eigenvalues >= threshold).sum())


def tangent_kernel(
    model: nn.Module,
    inputs: Tensor,
    output_loss: OutputLoss,
    *,
    chunk: int = 32,
    limit: int = 256,
    memory: int = 1 << 30,
) -> TangentKernel:
    """The tangent kernel on a probe set, with the loss's second derivative in the outputs inserted.

    The model is evaluated in evaluation mode, as an example's own output must not depend on the others, and is as it
    was afterwards.

    Args:
        model: maps inputs [n, ...] to outputs [n, ...].
        inputs: the probe examples.
        output_loss: the loss as a function of the outputs, with the examples' targets inside it. It gets the outputs in
            the model's own dtype, in float32 at least.
        chunk: examples whose Jacobians are formed at once.
        limit: largest number of examples.
        memory: bytes that Jacobians may take at a time; parameters are worked through in parts where that needs it.

    Raises:
        InputError: if there is no example or more than the limit, or the loss is no scalar, not twice differentiable or
            not convex in the outputs.
    """
    if not 1 <= len(inputs) <= limit:
        raise InputError(
            "inputs", expected=f"1 to {limit} examples", found=str(len(inputs)), remedy="take a smaller probe set"
        )
    with undisturbed(model), (meter := Meter()), twice():
        model.eval()
        factors = _output_factors(model, inputs, output_loss, meter)
        rows, outputs = len(inputs) * factors.shape[-1], factors.shape[-1]
        kernel = torch.zeros(rows, rows, dtype=torch.float64)
        for part in _parts(model, memory // (24 * rows)):  # as it is, in float64, weighted
            pieces = [_jacobian(model, part, inputs[i : i + chunk], meter) for i in range(0, len(inputs), chunk)]
            jacobian = torch.cat(pieces).reshape(len(inputs), outputs, -1).double().cpu()
            weighted = (factors @ jacobian).reshape(rows, -1)
            kernel += weighted @ weighted.T
    values = np.linalg.eigvalsh(kernel.numpy())[::-1]
    return TangentKernel(kernel.numpy(), np.ascontiguousarray(values), meter.cost)


def _output_factors(model: nn.Module, inputs: Tensor, output_loss: OutputLoss, meter: Meter) -> Tensor:
    """Symmetric square roots of the second derivatives of the loss in each example's outputs [n, C, C], float64."""
    with torch.no_grad():
        outputs = model(inputs).detach()
    outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32)).requires_grad_(True)
    with torch.enable_grad():
        loss = evaluated(lambda: output_loss(outputs))
        (first,) = torch.autograd.grad(loss, outputs, create_graph=True)
        flat = first.reshape(len(inputs), -1)
        rows: list[Tensor] = []
        for c in range(flat.shape[1]):
            # The loss adds over examples, so one pass gives row c of every example's block.
            if not flat.requires_grad:
                rows.append(torch.zeros_like(flat))
                continue
            (second,) = torch.autograd.grad(flat[:, c].sum(), outputs, retain_graph=True)
            meter.gradients += 1
            rows.append(second.reshape(len(inputs), -1))
    blocks = torch.stack(rows, dim=1).detach().double().cpu()
    values, vectors = torch.linalg.eigh((blocks + blocks.mT) / 2)
    # What the loss itself computes in float32, whatever it is given, is off by some of its rounding units.
    coarsest = max(torch.finfo(dtype).eps for dtype in (loss.dtype, outputs.dtype))
    if bool((values < -(coarsest**0.5) * values.abs().max()).any()):
        raise InputError(
            "output_loss",
            expected="a loss that is convex in the outputs",
            found=f"a second derivative of {float(values.min()):.3g}",
            remedy="use the Hessian's own eigenvalues",
        )
    return (vectors * values.clamp_min(0).sqrt()[:, None, :]) @ vectors.mT


def _parts(model: nn.Module, most: int) -> list[dict[str, Tensor]]:
    """The trainable parameters by the model's own names, in parts of at most so many elements or one tensor."""
    tensors = {id(tensor) for tensor in named(model).values()}
    parts: list[dict[str, Tensor]] = []
    room = 0
    for name, tensor in model.named_parameters():
        if id(tensor) not in tensors:
            continue
        if not parts or tensor.numel() > room:
            parts.append({})
            room = most
        parts[-1][name] = tensor.detach()
        room -= tensor.numel()
    return parts


def _jacobian(model: nn.Module, part: Mapping[str, Tensor], inputs: Tensor, meter: Meter) -> Tensor:
    """The outputs' derivatives in some parameters for each example [n, C, elements]."""

    def outputs(parameters: dict[str, Tensor], example: Tensor) -> Tensor:
        return functional_call(model, parameters, (example[None],)).flatten()

    found: dict[str, Tensor] = vmap(jacrev(outputs), in_dims=(None, 0))(dict(part), inputs)
    pieces = [piece.detach().flatten(2) for piece in found.values()]
    meter.gradients += pieces[0].shape[1]
    return torch.cat(pieces, dim=2)
