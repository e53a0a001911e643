"""What the runner needs of a task, and the part of it that tasks with a fixed training set share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from spectral_edge.experiments.perturbation import Batch, Frame


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
        frame: a perturbation and when it acts, set by the runner where the run has one.
    """

    frame: Frame | None

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
        schedule: factor of the learning rate by step, counted from 1; constant by default.

    Attributes:
        step: optimizer steps taken.
        frame: a perturbation and when it acts, if any.
    """

    groups: Mapping[str, Sequence[str]] = {}
    frame: Frame | None = None

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        train_size: int,
        batch_size: int,
        max_grad_norm: float,
        seed: int,
        schedule: Callable[[int], float] | None = None,
    ) -> None:
        self.model, self.optimizer, self.max_grad_norm = model, optimizer, max_grad_norm
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.step = 0
        self._train_size, self._batch_size = train_size, batch_size
        self._generator = torch.Generator().manual_seed(seed)
        self._schedule = schedule
        self._rates = [group["lr"] for group in optimizer.param_groups]

    @abstractmethod
    def batch(self, rows: Tensor) -> Batch:
        """The training examples with these indices, shape [batch] (int64, on the CPU), on the task's device."""

    @abstractmethod
    def batch_loss(self, batch: Batch) -> Tensor:
        """Mean loss of a batch."""

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss of a batch that is trained, and the one that is reported; here they are the same."""
        loss = self.batch_loss(batch)
        return loss, loss

    @abstractmethod
    def evaluate(self) -> dict[str, float]:
        """Metrics by name."""

    def layers(self) -> Sequence[nn.Module]:
        """The repeated blocks of the network, the first first."""
        return ()

    def queries_and_keys(self) -> Sequence[tuple[Tensor, int, int]]:
        """Where attention logits come from: weights and biases, and the rows (from, to) that make queries and keys.

        Found here for torch's own attention, whose one matrix holds queries, keys and values one below the other.
        """
        found: list[tuple[Tensor, int, int]] = []
        for module in self.model.modules():
            if isinstance(module, nn.MultiheadAttention):
                own = dict(module.named_parameters(recurse=False))
                stacked = [own[name] for name in ("in_proj_weight", "in_proj_bias") if name in own]
                found += [(each, 0, 2 * module.embed_dim) for each in stacked]
        return found

    def settle(self) -> None:  # noqa: B027  (most tasks have nothing to do here)
        """Called when the optimizer has taken its step; a task that constrains its weights does it here."""

    def draw(self) -> Tensor:
        """Indices of the next step's examples, int64 [batch], on the CPU."""
        return torch.randint(self._train_size, (self._batch_size,), generator=self._generator)

    def gradient(self, batch: Batch) -> list[Tensor]:
        """The gradient of the loss of a batch for `parameters`; neither weights nor .grad change."""
        loss = self.batch_loss(batch)
        return list(torch.autograd.grad(loss, self.parameters, allow_unused=True, materialize_grads=True))

    def train_step(self) -> TrainStep:
        """Draw a batch and take one clipped optimizer step."""
        self.step += 1
        factor = 1.0 if self._schedule is None else self._schedule(self.step)
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor  # set anew in every step, so that what a perturbation does to it never adds up
        frame, acting = self.frame, None
        if frame is not None:
            frame.enter()
            acting = frame.perturbation if frame.acts else None
        if acting is not None:
            acting.before()
        rows = self.draw()
        batch = self.batch(rows if acting is None else acting.rows(rows))
        if acting is not None:
            batch = acting.batch(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss, reported = self.losses(batch)
        loss.backward()
        if acting is not None:
            acting.gradients()
        grad_norm = clip_grad_norm_(self.parameters, self.max_grad_norm)
        self.optimizer.step()
        self.settle()
        if frame is not None:
            frame.leave()
        return TrainStep(reported.item(), grad_norm.item())

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimizer state, the batch generator's state and where a perturbation stands."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self._generator.get_state(),
            "step": self.step,
        }
        return state if self.frame is None else {**state, "frame": self.frame.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`'s value."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._generator.set_state(state["generator"].cpu())
        self.step = state["step"]
        if self.frame is not None:
            self.frame.load_state_dict(state["frame"])
