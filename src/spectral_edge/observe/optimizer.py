"""What the optimizer and its user say of the steps between two observations; logged with each row."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spectral_edge.errors import InputError, warn
from spectral_edge.observe.parameters import ParameterSource

_FROM_EACH = 1024
"""Values of a momentum buffer that are compared after a resume."""


class OptimizerWatch:
    """Learning rate, weight decay, momentum, clipping and step count of an optimizer.

    Args:
        optimizer: a torch optimizer, or None.

    Raises:
        InputError: if it is neither.
    """

    def __init__(self, optimizer: torch.optim.Optimizer | None) -> None:
        if optimizer is not None and not hasattr(optimizer, "param_groups"):
            raise InputError(
                "optimizer",
                expected="a torch optimizer",
                found=type(optimizer).__name__,
                remedy="call Monitor(model, optimizer)",
            )
        self._optimizer = optimizer
        self._clock = self._steps_taken()
        self._factors: list[float | Tensor] = []
        self._measured: Tensor | None = None
        self._said = False
        self._saved: dict[str, Any] | None = None

    @property
    def name(self) -> str | None:
        """The optimizer's class."""
        return None if self._optimizer is None else type(self._optimizer).__name__

    @property
    def momentum(self) -> float | None:
        """Adam's beta1 or SGD's momentum of the first parameter group; None where there is neither."""
        group = self._group()
        if "betas" in group:
            return float(group["betas"][0])
        return float(group["momentum"]) if "momentum" in group else None

    def measured(self, norm: Tensor, maximum: float) -> None:
        """Notes that the gradients of the coming step were clipped from this norm."""
        self._measured = _clip_factor(norm, maximum)

    def note_clip(self, factor: float | None, norm: float | Tensor | None, maximum: float | None) -> None:
        """Notes by how much the gradient of a step was clipped: given, from its norm, or as measured before."""
        if factor is not None:
            self._factors.append(factor)
        elif norm is not None and maximum is not None:
            self._factors.append(_clip_factor(norm, maximum))
        elif self._measured is not None:
            self._factors.append(self._measured)
        self._measured = None

    def collect(self, step: int, given: Mapping[str, float | Tensor | None]) -> tuple[dict[str, float], bool | None]:
        """What to log with a row, and whether the optimizer stepped since the last time; None where it cannot tell.

        Args:
            step: the step, for messages.
            given: the user's values by name.
        """
        group = self._group()
        metadata: dict[str, float] = {}
        for name, key in (("learning_rate", "lr"), ("weight_decay", "weight_decay")):
            if key in group:
                metadata[name] = float(group[key])
        # A gradient that is not finite was not clipped to anything: its step is one that a scaler skips.
        given_factors, self._factors = self._factors, []  # gone even if one of them is no number
        factors = [value for value in map(float, given_factors) if np.isfinite(value)]
        if factors:
            metadata["clip_factor"] = float(np.mean(factors))
        for name, value in given.items():
            if value is not None:
                metadata[name] = self._number(step, name, value)
        clock = self._steps_taken()
        stepped = None if clock is None or self._clock is None else clock > self._clock
        self._clock = clock
        return metadata, stepped

    @staticmethod
    def parameters(source: ParameterSource) -> list[Tensor]:
        """The tensors whose gradients are clipped together."""
        return [tensor for _, tensor in source.named_tensors() if isinstance(tensor, Tensor)]

    def lost(self) -> str | None:
        """After a resume, before the first observation: whether the optimizer's state was not restored, in words."""
        saved, self._saved = self._saved, None
        if saved is None:
            return None
        clock, before = self._steps_taken(), saved["clock"]
        if clock is not None and before is not None and clock < before:
            return (
                f"the optimizer counts {clock:.0f} steps where the checkpoint counted {before:.0f}: its state was not "
                "restored"
            )
        sample, momentum = self._momentum_sample(), self.momentum or 0.0
        if sample is None or saved["momentum"] is None or sample.shape != saved["momentum"].shape:
            return None
        old = saved["momentum"].to(sample.device)
        square = float(torch.dot(old, old))
        # What is left of the old momentum: its factor if it was restored; without it the gradient's part along it,
        # which is one minus the factor where gradients agree and nothing where they are noise.
        left = float(torch.dot(sample, old)) / square if square > 0 else momentum
        if left < momentum / 2:
            return (
                f"{left:.2f} of the checkpoint's momentum is left in the optimizer's, where one step leaves "
                f"{momentum:g}: its state was not restored"
            )
        return None

    def decay_factors(self) -> dict[int, float]:
        """Minus the factor of decoupled weight decay, lr * wd, by the id of each parameter."""
        groups = self._optimizer.param_groups if self._optimizer is not None else []
        return {
            id(parameter): float(group.get("lr", 0.0)) * float(group.get("weight_decay", 0.0))
            for group in groups
            for parameter in group["params"]
        }

    def state_dict(self) -> dict[str, Any]:
        """What the next row needs."""
        return {
            "clock": self._clock,
            "factors": [float(factor) for factor in self._factors],
            "taken": self._steps_taken(),
            "momentum": self._momentum_sample(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self._clock, self._factors = state["clock"], list(state["factors"])
        self._saved = {"clock": state["taken"], "momentum": state["momentum"]}

    def _group(self) -> Mapping[str, Any]:
        groups = self._optimizer.param_groups if self._optimizer is not None else []
        return groups[0] if groups else {}

    def _steps_taken(self) -> float | None:
        """The optimizer's own count of its steps, where it keeps one."""
        if self._optimizer is None:
            return None
        for state in self._optimizer.state.values():
            if "step" in state:
                return float(state["step"])
        return 0.0 if "betas" in self._group() else None

    def _momentum_sample(self) -> Tensor | None:
        """Some values of each momentum buffer, for optimizers that do not count their steps."""
        if self._optimizer is None or self._steps_taken() is not None:
            return None
        parts = [
            state["momentum_buffer"].detach().reshape(-1)[:_FROM_EACH].float().clone()
            for state in self._optimizer.state.values()
            if isinstance(state.get("momentum_buffer"), Tensor) and type(state["momentum_buffer"]) is Tensor
        ]
        return torch.cat(parts) if parts else None

    def _number(self, step: int, name: str, value: float | Tensor) -> float:
        """A value as a number; NaN, and one warning, where it is none."""
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError) as error:
            if not self._said:
                self._said = True
                warn(f"step {step}: {name} is not a number and was left out ({error})")
            return float("nan")


def _clip_factor(norm: float | Tensor, maximum: float) -> Tensor:
    """By how much clipping to `maximum` shrinks a gradient of this norm; kept on its device, so that nothing waits."""
    norm = torch.as_tensor(norm, dtype=torch.float32)
    return torch.where(torch.isfinite(norm), torch.clamp(maximum / (norm + 1e-6), max=1.0), torch.nan)
