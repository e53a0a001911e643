"""What an optimizer does to a gradient, read from its state: the metric that curvature along its updates refers to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from spectral_edge.errors import InputError
from spectral_edge.modes.vectors import Vector, named


@dataclass(frozen=True, slots=True)
class Preconditioner:
    """The slow step of an optimizer: -rate (gradient + penalty theta) / scale - rate decay theta, by coordinate.

    Momentum is left out of it but for the length of the step: a mode that changes little while momentum forgets
    moves as if each gradient were applied at once, at `rate`.

    Parameters that it does not name are ones that the optimizer does not move: for them D^-1 is zero, and a direction
    along them has no metric.

    Attributes:
        scale: D by parameter name, positive: sqrt of the bias-corrected second moment plus epsilon for Adam, else one.
        rate: learning rate by name; for SGD with momentum beta the sum of its steps, eta (1 - dampening) / (1 - beta).
        decay: decoupled weight decay omega by name, as AdamW has it, in units of a preconditioned curvature.
        penalty: coefficient by name of a penalty |theta|^2 / 2 that the optimizer adds to the loss (SGD, Adam), in
            units of a curvature.
        floor: the smallest that D can be by name, epsilon; missing where it has no floor.
    """

    scale: Vector
    rate: dict[str, float]
    decay: dict[str, float]
    penalty: dict[str, float]
    floor: dict[str, float] = field(default_factory=dict[str, float])

    def metric(self, vector: Mapping[str, Tensor]) -> float:
        """v^T D v, in float64."""
        return self._sum(vector, dict.fromkeys(vector, 1.0), power=1)

    def resistance(self, vector: Mapping[str, Tensor]) -> float:
        """v^T (D / eta) v, in float64: what a curvature is divided by to give a relaxation rate per step."""
        return self._sum(vector, {name: 1 / eta if eta else torch.inf for name, eta in self.rate.items()}, power=1)

    def restoring(self, vector: Mapping[str, Tensor]) -> float:
        """v^T (penalty + D omega) v, in float64: what decay adds to the curvature along a direction."""
        return self._sum(vector, self.penalty, power=0) + self._sum(vector, self.decay, power=1)

    def divided(self, vector: Mapping[str, Tensor], *, power: float = 1.0) -> Vector:
        """D^-power v, as new tensors."""
        return {
            name: piece.detach() / self.scale[name].to(piece) ** power
            if name in self.scale
            else torch.zeros_like(piece, requires_grad=False)
            for name, piece in vector.items()
        }

    def at_floor(self, vector: Mapping[str, Tensor], *, within: float = 10.0) -> float:
        """Share of v^T D v on coordinates that gradients have hardly ever reached, so that D is epsilon there.

        Args:
            vector: v.
            within: D counts as at its floor below this many epsilon.

        Returns:
            NaN where v^T D v is zero.
        """
        total = low = 0.0
        for name, piece in vector.items():
            if name not in self.scale:
                continue
            scale = self.scale[name].double()
            energy = piece.detach().double().to(scale) ** 2 * scale
            total += float(energy.sum())
            low += float(energy[scale <= within * self.floor.get(name, 0.0)].sum())
        return low / total if total else float("nan")

    def _sum(self, vector: Mapping[str, Tensor], factors: Mapping[str, float], *, power: int) -> float:
        total = 0.0
        for name, piece in vector.items():
            square = piece.detach().double() ** 2
            if name not in self.scale:
                if bool(square.any()):
                    raise InputError(
                        "direction",
                        expected="a displacement along parameters that the optimizer moves",
                        found=f"one along {name}",
                        remedy="read the preconditioner of all parameters, after a step with a gradient for each",
                    )
            elif factors[name]:
                total += factors[name] * float((square * self.scale[name].to(square) ** power).sum())
        return total


def metric_of(given: Preconditioner | None) -> Preconditioner | None:
    """The preconditioner that a caller handed over, or none.

    Raises:
        InputError: if it is something else.
    """
    if given is not None and not isinstance(given, Preconditioner):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(
            "preconditioner",
            expected="a Preconditioner",
            found=type(given).__name__,
            remedy="pass preconditioner=preconditioner(optimizer, model)",
        )
    return given


def preconditioner(optimizer: torch.optim.Optimizer, parameters: nn.Module | Mapping[str, Tensor]) -> Preconditioner:
    """Reads D, learning rate and decay of SGD, Adam or AdamW for each parameter; copies, so it outlives the state.

    For Adam D = sqrt(v / (1 - beta2^t)) + epsilon, elementwise, with the running maximum of v in its place for
    amsgrad (Kingma and Ba 2015; Reddi, Kale and Kumar 2018), at the optimizer's present step t.

    Args:
        optimizer: it has taken a step. Parameters that never had a gradient were not moved by it and are left out.
        parameters: a module, or the parameters themselves by name.

    Raises:
        InputError: for other optimizers, for `maximize`, and where no parameter has a state yet.
    """
    if not hasattr(optimizer, "param_groups"):
        raise InputError(
            "optimizer",
            expected="a torch optimizer",
            found=type(optimizer).__name__,
            remedy="call preconditioner(optimizer, model)",
        )
    found = Preconditioner({}, {}, {}, {})
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in named(parameters).items():
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
            state = optimizer.state.get(parameter, {})
            if "exp_avg_sq" not in state:
                continue
            decoupled = bool(group.get("decoupled_weight_decay", isinstance(optimizer, torch.optim.AdamW)))
            scale = _adam_scale(state, group)
            found.floor[name] = float(group["eps"])
        else:
            raise InputError(
                "optimizer",
                expected="SGD, Adam or AdamW",
                found=type(optimizer).__name__,
                remedy="construct a Preconditioner yourself",
            )
        found.scale[name], found.rate[name] = scale.reshape(parameter.shape), eta
        found.decay[name], found.penalty[name] = (omega, 0.0) if decoupled else (0.0, omega)
    if not found.scale:
        raise InputError(
            "optimizer",
            expected="a second moment in its state",
            found="none for any of these parameters",
            remedy="take a step with gradients first",
        )
    return found


def _adam_scale(state: Mapping[str, Any], group: Mapping[str, Any]) -> Tensor:
    moment: Tensor = state["max_exp_avg_sq"] if group["amsgrad"] else state["exp_avg_sq"]
    correction = 1 - float(group["betas"][1]) ** float(state["step"])
    return moment.detach().sqrt() / correction**0.5 + float(group["eps"])
