"""What an optimizer does to a gradient, read from its state: the metric that curvature along its updates refers to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spectral_edge.errors import InputError
from spectral_edge.modes.vectors import Vector


@dataclass(frozen=True, slots=True)
class Preconditioner:
    """The slow step of an optimizer: -rate (gradient + penalty theta) / scale - rate decay theta, by coordinate.

    Momentum is left out of it but for the length of the step: a mode that changes little while momentum forgets
    moves as if each gradient were applied at once, at `rate`.

    Attributes:
        scale: D by parameter name, positive: sqrt of the bias-corrected second moment plus epsilon for Adam, else one.
        rate: learning rate by name; for SGD with momentum beta the sum of its steps, eta (1 - dampening) / (1 - beta).
        decay: decoupled weight decay omega by name, as AdamW has it, in units of a preconditioned curvature.
        penalty: coefficient by name of a penalty |theta|^2 / 2 that the optimizer adds to the loss (SGD, Adam), in
            units of a curvature.
    """

    scale: Vector
    rate: dict[str, float]
    decay: dict[str, float]
    penalty: dict[str, float]

    def metric(self, vector: Mapping[str, Tensor]) -> float:
        """v^T D v, in float64."""
        return self._sum(vector, dict.fromkeys(vector, 1.0), power=1)

    def resistance(self, vector: Mapping[str, Tensor]) -> float:
        """v^T (D / eta) v, in float64: what a curvature is divided by to give a relaxation rate per step."""
        return self._sum(
            vector, {name: 1 / self.rate[name] if self.rate[name] else torch.inf for name in vector}, power=1
        )

    def restoring(self, vector: Mapping[str, Tensor]) -> float:
        """v^T (penalty + D omega) v, in float64: what decay adds to the curvature along a direction."""
        return self._sum(vector, self.penalty, power=0) + self._sum(vector, self.decay, power=1)

    def divided(self, vector: Mapping[str, Tensor], *, power: float = 1.0) -> Vector:
        """D^-power v, as new tensors."""
        return {name: piece.detach() / self.scale[name].to(piece) ** power for name, piece in vector.items()}

    def _sum(self, vector: Mapping[str, Tensor], factors: Mapping[str, float], *, power: int) -> float:
        total = 0.0
        for name, piece in vector.items():
            square = piece.detach().double() ** 2
            if factors[name]:
                total += factors[name] * float((square * self.scale[name].to(square) ** power).sum())
        return total


def preconditioner(optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor]) -> Preconditioner:
    """Reads D, learning rate and decay of SGD, Adam or AdamW for each parameter; copies, so it outlives the state.

    For Adam D = sqrt(v / (1 - beta2^t)) + epsilon, elementwise, with the running maximum of v in its place for
    amsgrad (Kingma and Ba 2015; Reddi, Kale and Kumar 2018), at the optimizer's present step t.

    Args:
        optimizer: it has taken a step.
        parameters: the parameters themselves, by name.

    Raises:
        InputError: for other optimizers, for `maximize`, and where a parameter has no state yet.
    """
    found = Preconditioner({}, {}, {}, {})
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in parameters.items():
        group = groups.get(id(parameter))
        if group is None:
            raise InputError(
                f"parameter {name}",
                expected="one that the optimizer updates",
                found="one that it does not know",
                remedy="pass the optimizer of these parameters",
            )
        if group.get("maximize"):
            raise InputError(
                "optimizer", expected="one that minimises", found="maximize=True", remedy="negate the loss instead"
            )
        eta, omega = float(group["lr"]), float(group["weight_decay"])
        if isinstance(optimizer, torch.optim.SGD):
            momentum = float(group["momentum"])
            # torch applies dampening to every gradient but the first.
            eta *= (1 - float(group["dampening"])) / (1 - momentum) if momentum else 1.0
            decoupled, scale = False, torch.ones_like(parameter, requires_grad=False)
        elif isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW):
            decoupled = bool(group.get("decoupled_weight_decay", isinstance(optimizer, torch.optim.AdamW)))
            scale = _adam_scale(name, optimizer.state.get(parameter, {}), group)
        else:
            raise InputError(
                "optimizer",
                expected="SGD, Adam or AdamW",
                found=type(optimizer).__name__,
                remedy="construct a Preconditioner yourself",
            )
        found.scale[name], found.rate[name] = scale.reshape(parameter.shape), eta
        found.decay[name], found.penalty[name] = (omega, 0.0) if decoupled else (0.0, omega)
    return found


def _adam_scale(name: str, state: Mapping[str, Any], group: Mapping[str, Any]) -> Tensor:
    if "exp_avg_sq" not in state:
        raise InputError(
            f"parameter {name}",
            expected="a second moment in the optimizer's state",
            found="none",
            remedy="take a step with a gradient for it first",
        )
    moment: Tensor = state["max_exp_avg_sq"] if group["amsgrad"] else state["exp_avg_sq"]
    correction = 1 - float(group["betas"][1]) ** float(state["step"])
    return moment.detach().sqrt() / correction**0.5 + float(group["eps"])
