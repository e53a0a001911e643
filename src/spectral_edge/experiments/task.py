"""What the runner needs of a task, and the part of it that tasks with a fixed training set share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer


class TrainStep(NamedTuple):
    """What one optimizer step reports.

    Attributes:
        loss: training loss of the step's batch.
        grad_norm: norm of the gradient before clipping, None where it was not computed.
    """

    loss: float
    grad_norm: float | None


class Task(Protocol):
    """A model in training, as the runner sees it.

    Everything that decides the future of the run (weights, optimizer, batch generator) is in `state_dict`, so that a
    resumed run takes the same steps as one that was never interrupted. The global torch random state, which dropout
    draws from, is the runner's to save.

    Attributes:
        model: the network.
        optimizer: its optimizer.
        max_grad_norm: norm to which gradients are clipped, None where they are not.
        groups: name to globs of parameter names, for spectra of parts of the network.
    """

    @property
    def model(self) -> nn.Module: ...  # noqa: D102
    @property
    def optimizer(self) -> Optimizer: ...  # noqa: D102
    @property
    def max_grad_norm(self) -> float | None: ...  # noqa: D102
    @property
    def groups(self) -> Mapping[str, Sequence[str]]: ...  # noqa: D102

    def train_step(self) -> TrainStep:
        """Take one optimizer step."""
        ...

    def evaluate(self) -> dict[str, float]:
        """Metrics by name; `test_accuracy` is the one that grokking is judged by, where there is one."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides the future of the run, as tensors and plain types."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`'s value."""
        ...


class SampledTask(ABC):
    """A task whose batches are drawn with replacement from a fixed training set.

    The generator of the batches is this task's own and lives on the CPU, so that neither the device nor anything else
    that draws random numbers changes the batches.

    Args:
        model: the network.
        optimizer: its optimizer.
        train_size: number of training examples.
        batch_size: examples drawn a step.
        max_grad_norm: norm to which the gradient of all parameters together is clipped.
        seed: seed of the batches.
    """

    groups: Mapping[str, Sequence[str]] = {}

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        train_size: int,
        batch_size: int,
        max_grad_norm: float,
        seed: int,
    ) -> None:
        self.model, self.optimizer, self.max_grad_norm = model, optimizer, max_grad_norm
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._train_size, self._batch_size = train_size, batch_size
        self._generator = torch.Generator().manual_seed(seed)

    @abstractmethod
    def batch_loss(self, rows: torch.Tensor) -> torch.Tensor:
        """Mean loss of the training examples with these indices, shape [batch] (int64, on the CPU)."""

    @abstractmethod
    def evaluate(self) -> dict[str, float]:
        """Metrics by name."""

    def train_step(self) -> TrainStep:
        """Draw a batch and take one clipped optimizer step."""
        rows = torch.randint(self._train_size, (self._batch_size,), generator=self._generator)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.batch_loss(rows)
        loss.backward()
        grad_norm = clip_grad_norm_(self._parameters, self.max_grad_norm)
        self.optimizer.step()
        return TrainStep(loss.item(), grad_norm.item())

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimizer state and the batch generator's state."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`'s value."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._generator.set_state(state["generator"].cpu())
