"""Measuring on a live model without a trace of it, and what the measuring cost."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn


@contextmanager
def undisturbed(model: nn.Module) -> Generator[None]:
    """Puts back random states, parameters, buffers, gradients and training flags, bit for bit, on exit.

    Costs a copy of parameters and buffers. Optimizer states are not touched by anything in this package.

    Args:
        model: what is measured on.
    """
    tensors: list[Tensor] = [*model.parameters(), *model.buffers()]
    kept = [tensor.detach().clone() for tensor in tensors]
    # Gradients are kept as they are: nothing here writes into them, yet a caller's loss may call backward().
    gradients = [(p, p.grad, None if p.grad is None else p.grad.detach().clone()) for p in model.parameters()]
    training = [(module, module.training) for module in model.modules()]
    random = torch.get_rng_state()
    devices = {tensor.device for tensor in tensors if tensor.device.type == "cuda"}
    on_devices = [(device, torch.cuda.get_rng_state(device)) for device in devices]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in zip(tensors, kept, strict=True):
                tensor.copy_(value)
            for parameter, gradient, value in gradients:
                if gradient is not None and value is not None:
                    gradient.copy_(value)
                parameter.grad = gradient
        for module, flag in training:
            module.training = flag
        torch.set_rng_state(random)
        for device, state in on_devices:
            torch.cuda.set_rng_state(state, device)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a measurement took.

    Attributes:
        losses: evaluations of a loss without gradient.
        gradients: gradients of a loss.
        hvps: Hessian-vector products.
        seconds: time in seconds, of everything between entering and leaving the meter.
    """

    losses: int = 0
    gradients: int = 0
    hvps: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.losses + other.losses,
            self.gradients + other.gradients,
            self.hvps + other.hvps,
            self.seconds + other.seconds,
        )


class Meter:
    """Counts losses, gradients and Hessian-vector products while it is entered; also a context manager.

    Attributes:
        losses: evaluations of a loss without gradient so far.
        gradients: gradients so far.
        hvps: Hessian-vector products so far.
    """

    def __init__(self) -> None:
        self.losses = 0
        self.gradients = 0
        self.hvps = 0
        self._seconds = 0.0
        self._entered: float | None = None

    def __enter__(self) -> Self:
        self._entered = time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._entered is not None:
            self._seconds += time.perf_counter() - self._entered
            self._entered = None

    @property
    def cost(self) -> Cost:
        """What was counted so far."""
        running = 0.0 if self._entered is None else time.perf_counter() - self._entered
        return Cost(self.losses, self.gradients, self.hvps, self._seconds + running)
