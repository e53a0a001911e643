"""What of each observed update decoupled weight decay did, and what is left for the gradient."""

import math
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from spectral_edge.errors import InputError
from spectral_edge.modes.loss_path import Watch
from spectral_edge.modes.vectors import Vector, added, named, norm

GRADIENT_PART, DECAY_PART = "lifecycle/gradient", "lifecycle/decay"
"""Probes: the two parts of the update that ends at the observation."""
TRAPEZOID_ERROR = "lifecycle/trapezoid_error"
"""Metric: distance of the decay part from its approximation by the interval's two ends, relative to its norm."""

_DECOUPLED = ("AdamW", "Adafactor", "Muon")


class DecayAccumulator:
    """Sums the steps -eta omega theta of decoupled weight decay between observations; also a context manager.

    A hook of the optimizer adds each step's decay before the step is taken, at the learning rate that then holds: one
    vector of parameter size and one pass over it a step. Steps that a gradient scaler skips are not counted, as the
    optimizer skips their decay too. Call `observe()` after every `monitor.step()`.

    Args:
        monitor: a `Monitor` with the exact engine, in one process.
        model: whose parameters decay.
        optimizer: with decoupled decay: AdamW, Adam with decoupled_weight_decay, Adafactor, Muon; or SGD without
            momentum, where coupled decay is the same step.
        decoupled: True for another optimizer known to subtract eta omega theta from what it started its step with.

    Raises:
        InputError: if the optimizer mixes decay into its gradient, so that an update has no decay part.
    """

    def __init__(
        self, monitor: Watch, model: nn.Module, optimizer: torch.optim.Optimizer, *, decoupled: bool | None = None
    ) -> None:
        if not (_decouples(optimizer) if decoupled is None else decoupled):
            raise InputError(
                "optimizer",
                expected="decoupled weight decay",
                found=f"{type(optimizer).__name__}, which mixes decay into the gradient",
                remedy="use AdamW, or say decoupled=True if the optimizer is known to decay apart from the gradient",
            )
        self._monitor, self._optimizer = monitor, optimizer
        self._parameters = named(model)
        self._names = {id(parameter): name for name, parameter in self._parameters.items()}
        self._total: Vector = {}
        self._rates: dict[str, float] = {}
        self._steps = 0
        self._hook = optimizer.register_step_pre_hook(self._before_step)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Takes the hook off the optimizer."""
        self._hook.remove()

    @property
    def total(self) -> Vector:
        """The decay since the last observation, by parameter name; parameters that do not decay are missing."""
        return self._total

    def forget(self) -> None:
        """Starts anew, for instance where a checkpoint was loaded."""
        self._total, self._rates, self._steps = {}, {}, 0

    @torch.no_grad()
    def observe(self) -> tuple[Vector, Vector] | None:
        """At an observation step, splits the newest update and records both parts as probes.

        Returns:
            The gradient part and the decay part, which sum to the update; None where the last step was not observed.
        """
        if not self._monitor.observed:
            return None
        update = self._monitor.newest_update()
        decay = {name: self._total.get(name, torch.zeros_like(piece)) for name, piece in update.items()}
        gradient = added(update, decay, -1.0)
        rough = decay_trapezoid(self._parameters, update, self._rates, steps=self._steps)
        self.forget()
        self._monitor.probe(**{GRADIENT_PART: gradient, DECAY_PART: decay})
        size = norm(decay)
        self._monitor.log(**{TRAPEZOID_ERROR: norm(added(rough, decay, -1.0)) / size if size else math.nan})
        return gradient, decay

    @torch.no_grad()
    def _before_step(self, *given: Any) -> None:
        self._steps += 1
        for group in self._optimizer.param_groups:
            rate = float(group["lr"]) * float(group.get("weight_decay", 0.0))
            # Optimizers pass over parameters without a gradient, and with them over their decay.
            moving = [p for p in group["params"] if id(p) in self._names and p.grad is not None]
            if not rate or not moving:
                continue
            for p in moving:
                name = self._names[id(p)]
                if name not in self._total:
                    self._total[name] = torch.zeros_like(p, dtype=torch.promote_types(p.dtype, torch.float32))
                self._rates[name] = self._rates.get(name, 0.0) + rate
            wide = [p.detach().to(self._total[self._names[id(p)]]) for p in moving]
            totals = [self._total[self._names[id(p)]] for p in moving]
            torch._foreach_add_(totals, wide, alpha=-rate)  # pyright: ignore


def decay_trapezoid(
    parameters: Mapping[str, Tensor], update: Mapping[str, Tensor], rates: Mapping[str, float], *, steps: int
) -> Vector:
    """The decay between two observations from the parameters at its ends, at a constant rate and along a straight path.

    Decay acts on what each step starts with, so the mean over the steps is theta_{t+1} - (1 + 1/s) d / 2 and not the
    chord's middle: the difference is all of the error at one step an observation. Needs no pass at each step.

    Args:
        parameters: at the later end.
        update: d, from the earlier to the later end.
        rates: sum of eta omega over the steps between, by parameter name; missing names do not decay.
        steps: number s of steps between.
    """
    back = 0.5 * (1.0 + 1.0 / max(steps, 1))
    return {
        name: -rates[name] * (parameters[name].detach() - back * piece) if name in rates else torch.zeros_like(piece)
        for name, piece in update.items()
    }


def _decouples(optimizer: torch.optim.Optimizer) -> bool:
    groups = optimizer.param_groups
    if isinstance(optimizer, torch.optim.SGD):
        return not any(group["momentum"] or group["maximize"] for group in groups)
    if any("decoupled_weight_decay" in group for group in groups):
        return all(group.get("decoupled_weight_decay") for group in groups)
    return type(optimizer).__name__ in _DECOUPLED
