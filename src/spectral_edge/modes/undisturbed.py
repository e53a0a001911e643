"""Measuring on a live model without a trace of it, and what the measuring cost."""

import random
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn


class Randomness:
    """The random states of torch, NumPy and Python as they are now, to begin from again.

    A loss that draws (dropout, augmentation) is one function of the parameters only if each evaluation begins from the
    same state.

    Args:
        tensors: whose devices' states count too.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._torch = torch.get_rng_state()
        devices = {tensor.device for tensor in tensors if tensor.device.type == "cuda"}
        self._devices = [(device, torch.cuda.get_rng_state(device)) for device in devices]
        self._numpy: Any = np.random.get_state()  # noqa: NPY002 - the state that a loss written with it draws from
        self._python = random.getstate()

    def restore(self) -> None:
        """Puts all of them back."""
        torch.set_rng_state(self._torch)
        for device, state in self._devices:
            torch.cuda.set_rng_state(state, device)
        np.random.set_state(self._numpy)  # noqa: NPY002
        random.setstate(self._python)


class Standing:
    """How a model stands: values of parameters and buffers, which tensor each buffer is, gradients, flags, randomness.

    Args:
        model: whose state is copied.
    """

    def __init__(self, model: nn.Module) -> None:
        parameters = list(model.parameters())
        # Which tensor a buffer is, or that it is none yet, may change as well as its values.
        self._buffers: list[tuple[nn.Module, str, Tensor | None]] = [
            (module, name, buffer) for module in model.modules() for name, buffer in vars(module)["_buffers"].items()
        ]
        tensors = [*parameters, *(buffer for _, _, buffer in self._buffers if buffer is not None)]
        self._values = [(tensor, tensor.detach().clone()) for tensor in tensors]
        self._gradients = [(p, p.grad, None if p.grad is None else p.grad.detach().clone()) for p in parameters]
        self._learns = [(p, p.requires_grad) for p in parameters]
        self._trains = [(module, module.training) for module in model.modules()]
        self._random = Randomness(tensors)

    def restore(self) -> None:
        """Puts everything back, bit for bit.

        What has not changed is not written, and versions are not counted up: a graph that was built before, of the next
        step for instance, can still be walked back.
        """
        for module, name, buffer in self._buffers:
            if getattr(module, name, None) is not buffer:
                setattr(module, name, buffer)
        for tensor, value in self._values:
            _put(tensor, value)
        for parameter, gradient, value in self._gradients:
            if gradient is not None and value is not None:
                _put(gradient, value)
            parameter.grad = gradient
        for parameter, learns in self._learns:
            if parameter.requires_grad != learns:
                parameter.requires_grad_(learns)
        for module, flag in self._trains:
            module.training = flag
        self._random.restore()


@contextmanager
def undisturbed(model: nn.Module) -> Generator[None]:
    """Puts back random states, parameters, buffers, gradients and flags of a model, bit for bit, on exit.

    Costs a copy of parameters, buffers and gradients. Optimizer states are not touched by anything in this package.

    Args:
        model: what is measured on.
    """
    standing = Standing(model)
    try:
        yield
    finally:
        standing.restore()


def _put(tensor: Tensor, value: Tensor) -> None:
    if tensor.layout != torch.strided:  # a sparse gradient
        with torch.no_grad():
            tensor.copy_(value)
    elif not torch.equal(tensor, value):
        tensor.data.copy_(value)


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
