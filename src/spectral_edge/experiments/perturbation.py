"""What is done to a run on purpose, from a known step on: the frame that faults and interventions share.

A `Perturbation` is asked at four places of a step and changes what passes there. It knows the task only through what
`Perturbed` names, so the same fault serves a language model and a classifier. `kinds.KINDS` lists them by name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from spectral_edge.errors import InputError


class Batch(NamedTuple):
    """What one step is trained on; both have one entry per example along their first dimension.

    Attributes:
        inputs: what the network sees.
        targets: what it is to say; negative entries are not scored.
    """

    inputs: Tensor
    targets: Tensor


class Perturbed(Protocol):
    """What a perturbation may touch of a task."""

    @property
    def model(self) -> nn.Module: ...  # noqa: D102
    @property
    def optimizer(self) -> Optimizer: ...  # noqa: D102
    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        """The trainable parameters, in the model's order."""
        ...

    def layers(self) -> Sequence[nn.Module]:
        """The repeated blocks of the network, the first first."""
        ...

    def queries_and_keys(self) -> Sequence[tuple[Tensor, int, int]]:
        """Where attention logits come from: weights and biases, and the rows (from, to) that make queries and keys."""
        ...

    def gradient(self, batch: Batch) -> list[Tensor]:
        """The gradient of the loss of a batch for `parameters`; neither weights nor .grad change."""
        ...


class Perturbation:
    """Does nothing; the kinds override what they change.

    Everything that they remember must be in `state_dict`: a resumed run has to take the same steps.

    Args:
        task: the task that is perturbed.
        strength: how strong at full strength.
        seed: of whatever they draw.

    Attributes:
        usual: strength where none is given.
        least: the smallest strength that has a meaning.
        most: the largest.
        about: what is done, and what its strength is, in a sentence.
        share: how far it has grown, from 0 before the perturbation to 1; set by the frame before each step.
        now: the present strength, `share` of `strength`.
        begun: whether the perturbation has begun.
    """

    usual: ClassVar[float] = 1.0
    least: ClassVar[float] = 0.0
    most: ClassVar[float] = math.inf
    about: ClassVar[str] = "nothing is done: the sham"

    def __init__(self, task: Perturbed, *, strength: float, seed: int) -> None:
        self.check(strength)
        self.task, self.strength = task, strength
        self.generator = torch.Generator().manual_seed(seed + 90_001)
        self.share, self.now, self.begun = 0.0, 0.0, False

    @classmethod
    def check(cls, strength: float) -> None:
        """Raise `InputError` for a strength that has no meaning."""
        if not cls.least <= strength <= cls.most:
            upper = f" and at most {cls.most:g}" if cls.most < math.inf else ""
            raise InputError(
                "strength",
                expected=f"a number of at least {cls.least:g}{upper} ({cls.about})",
                found=f"{strength:g}",
                remedy=f"leave it out for {cls.usual:g}",
            )

    def start(self) -> None:
        """Called once, before the first perturbed step."""

    def before(self) -> None:
        """Called before every perturbed step, when the schedule has set the learning rate."""

    def rows(self, rows: Tensor) -> Tensor:
        """The examples to draw in place of these, int64 indices."""
        return rows

    def batch(self, batch: Batch) -> Batch:
        """The batch to train on in place of this one."""
        return batch

    def gradients(self) -> None:
        """May change .grad of the parameters, before it is clipped."""

    def watch(self) -> None:
        """Called after every step before the perturbation begins: for what has to be known by then."""

    def after(self) -> None:
        """May change the parameters, after the optimizer's step."""

    def state_dict(self) -> dict[str, Any]:
        """Whatever decides what it will do, as tensors and plain types."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`'s value."""
        self.generator.set_state(state["generator"].cpu())


class Frame:
    """When a perturbation acts: from a step on, at once or growing over a ramp.

    Args:
        perturbation: what is done.
        at: the step after which it begins.
        ramp: steps over which it grows to its full strength; 0 is abrupt.
    """

    def __init__(self, perturbation: Perturbation, *, at: int, ramp: int) -> None:
        self.perturbation, self.at, self.ramp = perturbation, at, ramp
        self._step = 0

    @property
    def acts(self) -> bool:
        """Whether the step under way is perturbed."""
        return self._step > self.at

    def enter(self) -> None:
        """To be called as a step begins."""
        self._step += 1
        acting = self.perturbation
        if not self.acts:
            return
        done = self._step - self.at
        acting.share = min(1.0, done / self.ramp) if self.ramp else 1.0
        acting.now = acting.strength * acting.share
        if not acting.begun:
            acting.begun = True
            acting.start()

    def leave(self) -> None:
        """To be called when the optimizer has taken the step."""
        if self.acts:
            self.perturbation.after()
        else:
            self.perturbation.watch()

    def state_dict(self) -> dict[str, Any]:
        """Where it stands, and what the perturbation remembers."""
        return {"step": self._step, "begun": self.perturbation.begun, "kind": self.perturbation.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`'s value."""
        self._step, self.perturbation.begun = state["step"], state["begun"]
        self.perturbation.load_state_dict(state["kind"])


def flat(tensors: Iterable[Tensor]) -> Tensor:
    """Tensors as one vector, float32 and in order."""
    return torch.cat([tensor.detach().reshape(-1).float() for tensor in tensors])


def flat_gradient(parameters: Iterable[nn.Parameter]) -> Tensor:
    """.grad of the parameters as one vector, float32 and in order; zeros where there is none."""
    return flat(torch.zeros_like(each) if each.grad is None else each.grad for each in parameters)


def pieces(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The inverse of `flat`: the vector cut into tensors of the shapes and types of others."""
    cut = vector.split([each.numel() for each in like])
    return [piece.view_as(each).to(each.dtype) for piece, each in zip(cut, like, strict=True)]
