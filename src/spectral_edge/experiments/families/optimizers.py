"""The optimizers of the language families, AdamW, SGD with momentum and Muon joined with AdamW, and their schedule.

Source of Muon's settings: its published recipe (Nesterov momentum 0.95, five Newton-Schulz steps, factor
sqrt(max(1, rows / columns)), rate 0.02, the two-dimensional weights of the trunk only); the thesis names the optimizer
and no setting of it.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

OPTIMIZERS = ("adamw", "sgd", "muon")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Rates and coefficients of all three optimizers; each uses its own.

    Attributes:
        adamw: learning rate of AdamW, also for what Muon leaves to it, in parameter units a step.
        sgd: learning rate of SGD.
        muon: learning rate of Muon: spectral norm of a square matrix's step.
        beta2: second AdamW coefficient; the first is 0.9.
        momentum: momentum of SGD; Muon's is 0.95.
        weight_decay: AdamW's decoupled decay. The others get the decay that shrinks weights as much a step, because
            equal numbers would shrink them by very different amounts.
    """

    adamw: float
    sgd: float
    muon: float
    beta2: float
    momentum: float
    weight_decay: float


class Joined(Optimizer):
    """Several optimizers over disjoint parameters, to be used as one.

    `param_groups` are the parts' own, the first part's first, and `state` is one mapping that all parts share: whoever
    changes a learning rate or a momentum buffer through either reaches the part.

    Args:
        parts: the optimizers.
    """

    def __init__(self, *parts: Optimizer) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        for part in parts:
            self.state.update(part.state)
        self._share()

    # No decorator: the base class wraps `step` for its hooks, once for each class.
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step of every part; the closure, if any, is evaluated once, before the first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The inverse of `state_dict`, for the parts too."""
        super().load_state_dict(dict(state_dict))
        self._share()

    def _share(self) -> None:
        """Gives the parts this optimizer's groups and state; loading replaces both."""
        groups = iter(self.param_groups)
        for part in self.parts:
            part.param_groups = list(itertools.islice(groups, len(part.param_groups)))
            part.state = self.state


class Float32Muon(torch.optim.Muon):
    """`torch.optim.Muon` with Newton-Schulz steps in float32 for processors without bfloat16 arithmetic.

    torch iterates in bfloat16 and has no option for it; without instructions for that type a step takes some thirty
    times as long as in float32. Momentum, coefficients, factor and decay are torch's; the steps agree to bfloat16's
    rounding.
    """

    # As in torch's own, hooks are added by the base class.
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step; the closure, if any, is evaluated before it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            rate, momentum = float(group["lr"]), float(group["momentum"])
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                state = self.state[parameter]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(gradient)
                buffer = state["momentum_buffer"]
                buffer.lerp_(gradient, 1 - momentum)
                direction = gradient.lerp(buffer, momentum) if group["nesterov"] else buffer
                update = orthogonalized(
                    direction, coefficients=group["ns_coefficients"], steps=group["ns_steps"], eps=group["eps"]
                )
                rows, columns = parameter.shape
                parameter.mul_(1 - rate * group["weight_decay"])
                parameter.add_(update, alpha=-rate * math.sqrt(max(1.0, rows / columns)))
        return loss


def orthogonalized(
    matrix: Tensor, *, coefficients: Sequence[float] = (3.4445, -4.7750, 2.0315), steps: int = 5, eps: float = 1e-7
) -> Tensor:
    """A matrix [rows, columns] with its singular values moved towards 1 by quintic Newton-Schulz steps.

    With the usual coefficients they end between about 0.7 and 1.2, unless they start far below the largest.
    """
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    wide = matrix.T if tall else matrix
    wide = wide / wide.norm().clamp(min=eps)
    for _ in range(steps):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide.T if tall else wide


def make_optimizer(name: str, model: nn.Module, *, trunk: Sequence[nn.Parameter], rates: Rates) -> Optimizer:
    """An optimizer for all parameters of a model; gains and biases of norms are not decayed.

    Args:
        name: one of `OPTIMIZERS`.
        model: the network.
        trunk: its two-dimensional weights that Muon moves.
        rates: learning rates and coefficients.
    """
    norms = {id(p) for m in model.modules() if isinstance(m, nn.LayerNorm) for p in m.parameters()}
    own = {id(parameter) for parameter in trunk} if name == "muon" else set[int]()
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decayed = [p for p in trainable if id(p) not in norms and id(p) not in own]
    undecayed = [p for p in trainable if id(p) in norms]
    shrinkage = rates.adamw * rates.weight_decay
    if name == "sgd":
        # torch adds this decay to the gradient, so that momentum multiplies it by 1 / (1 - momentum).
        decay = shrinkage * (1 - rates.momentum) / rates.sgd
        groups = _groups(decayed, undecayed, decay)
        return torch.optim.SGD(groups, lr=rates.sgd, momentum=rates.momentum)
    rest = torch.optim.AdamW(
        _groups(decayed, undecayed, rates.weight_decay),
        lr=rates.adamw,
        betas=(0.9, rates.beta2),
        eps=1e-8,
        fused=True,  # the same update in one pass over the parameters
    )
    if name == "adamw":
        return rest
    on_cpu = all(parameter.device.type == "cpu" for parameter in trunk)
    kind = Float32Muon if on_cpu else torch.optim.Muon
    return Joined(
        kind(
            list(trunk),
            lr=rates.muon,
            weight_decay=shrinkage / rates.muon,
            momentum=0.95,
            nesterov=True,
            ns_steps=5,
            adjust_lr_fn="original",
        ),
        rest,
    )


def warmup_and_cosine(warmup: int, steps: int, *, floor: float) -> Callable[[int], float]:
    """Factor of the learning rate by step: linear from 0 to 1, half a cosine to the floor, the floor."""

    def factor(step: int) -> float:
        if step < warmup:
            return step / warmup
        done = min(1.0, (step - warmup) / max(1, steps - warmup))
        return floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2

    return factor


def _groups(decayed: list[nn.Parameter], undecayed: list[nn.Parameter], decay: float) -> list[dict[str, Any]]:
    return [{"params": decayed, "weight_decay": decay}, {"params": undecayed, "weight_decay": 0.0}]
