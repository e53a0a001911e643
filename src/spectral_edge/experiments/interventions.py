"""What is done to a run to learn what it depends on, each beside its control.

Suppression and kicks are measurements of the paper's companions. What they published leaves open when snapshots are
taken, about which point principal directions are, and what a step's usual length is; the choices here are ours.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from spectral_edge.errors import InputError
from spectral_edge.experiments.perturbation import Perturbation, Perturbed, flat, flat_gradient, pieces


class WeightDecay(Perturbation):
    """Changes the optimizer's weight decay; its control is the sham, which keeps it.

    Parameters that are spared on purpose, as norms often are, stay spared; where nothing decays, everything will.
    """

    usual = 0.0
    about = "weight decay is changed; strength: the new one"

    def __init__(self, task: Perturbed, *, strength: float, seed: int) -> None:
        super().__init__(task, strength=strength, seed=seed)
        groups = task.optimizer.param_groups
        if any("weight_decay" not in group for group in groups):
            raise InputError(
                "perturbation weight_decay",
                expected="an optimizer with weight decay",
                found=type(task.optimizer).__name__,
                remedy="choose another perturbation",
            )
        decays = [group["weight_decay"] for group in groups]
        self._decays = {index: old for index, old in enumerate(decays) if old > 0 or not any(decays)}

    def before(self) -> None:
        """Sets the decay on its even way from the old one to the new."""
        for index, old in self._decays.items():
            new = old + self.share * (self.strength - old) if self.share < 1 else self.strength
            self.task.optimizer.param_groups[index]["weight_decay"] = new


class Suppression(Perturbation):
    """What the suppressions share: a subspace that the run has moved in, and the gradient's part outside of it.

    Snapshots of the parameters are taken evenly over all steps before the perturbation, at first after each; when
    there are twice as many as the subspace has dimensions, every second is dropped and they come half as often. The
    subspace is spanned by the leading principal directions, about the origin, of their displacements from the initial
    parameters. A perturbation that begins before step 16 has fewer directions.

    The gradient is changed before it is clipped. Under Adam the parameters do not stay in the subspace.
    """

    usual = 1.0
    most = 1.0
    rank: ClassVar[int] = 16

    def __init__(self, task: Perturbed, *, strength: float, seed: int) -> None:
        super().__init__(task, strength=strength, seed=seed)
        self._snapshots = [flat(task.parameters)]
        self._seen, self._every = 0, 1
        self._basis: Tensor | None = None

    def watch(self) -> None:
        """Takes a snapshot, if one is due."""
        self._seen += 1
        if self._seen % self._every:
            return
        self._snapshots.append(flat(self.task.parameters))
        if len(self._snapshots) > 2 * self.rank:  # the initial parameters not counted
            self._snapshots, self._every = self._snapshots[::2], 2 * self._every

    def start(self) -> None:
        """Fixes the subspace and forgets the snapshots."""
        self._basis = self.span()
        self._snapshots = []

    def span(self) -> Tensor:
        """Orthonormal directions [at most 16, P] of the subspace."""
        displacements = torch.stack([each - self._snapshots[0] for each in self._snapshots[1:]])
        _, sizes, directions = torch.linalg.svd(displacements, full_matrices=False)
        # Directions that are no larger than the rounding of the largest are none.
        resolved = int((sizes > torch.finfo(sizes.dtype).eps * sizes[0]).sum().item())
        return directions[: min(self.rank, resolved)].contiguous()

    def gradients(self) -> None:
        """Replaces the gradient."""
        assert self._basis is not None  # fixed at the start, or in the checkpoint of a later step
        parameters = self.task.parameters
        gradient = flat_gradient(parameters)
        outside = gradient - self._basis.T @ (self._basis @ gradient)
        for parameter, piece in zip(parameters, pieces(self.changed(gradient, outside), parameters), strict=True):
            parameter.grad = None if parameter.grad is None else piece

    def changed(self, gradient: Tensor, outside: Tensor) -> Tensor:
        """The gradient [P] to go on with, given that part of it [P] which is orthogonal to the subspace."""
        return gradient - self.now * outside

    def state_dict(self) -> dict[str, Any]:
        """Snapshots and subspace too."""
        own = {"snapshots": self._snapshots, "seen": self._seen, "every": self._every, "basis": self._basis}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`'s value."""
        super().load_state_dict(state)
        self._snapshots, self._basis = list(state["snapshots"]), state["basis"]
        self._seen, self._every = state["seen"], state["every"]


class SuppressOrthogonal(Suppression):
    """Weakens the gradient's part outside the subspace, so that training has to go on inside."""

    about = "the gradient orthogonal to the trajectory's 16 directions is weakened; strength: share that is removed"


class SuppressRandom(Suppression):
    """The control that does the same with a random subspace of as many dimensions."""

    about = "the gradient orthogonal to 16 random directions is weakened; strength: share that is removed"

    def __init__(self, task: Perturbed, *, strength: float, seed: int) -> None:
        super().__init__(task, strength=strength, seed=seed)
        self._snapshots = []

    def watch(self) -> None:
        """Nothing has to be known."""

    def span(self) -> Tensor:
        """Directions from the seed alone."""
        size = sum(each.numel() for each in self.task.parameters)
        drawn = torch.randn(size, min(self.rank, size), generator=self.generator)
        return torch.linalg.qr(drawn)[0].T.contiguous().to(self.task.parameters[0].device)


class SuppressNormMatched(Suppression):
    """The control that only shortens the gradient, to the length that suppression would leave.

    Adam divides by the gradient's own size, so under Adam it changes little beyond the first steps.
    """

    about = "the gradient is shortened as suppress_orthogonal would; strength: share that would be removed"

    def changed(self, gradient: Tensor, outside: Tensor) -> Tensor:
        """The gradient at the length of the other's."""
        kept = super().changed(gradient, outside).norm()
        return gradient * (kept / gradient.norm().clamp_min(torch.finfo(gradient.dtype).tiny))


class Kicks(Perturbation):
    """Moves the parameters at random now and then; its control is the sham.

    The usual step is the mean length of the last steps before the perturbation, weight decay included.
    """

    usual = 100.0
    about = "a random kick every 50 steps; strength: its length in usual steps"
    every: ClassVar[int] = 50

    def __init__(self, task: Perturbed, *, strength: float, seed: int) -> None:
        super().__init__(task, strength=strength, seed=seed)
        self._last: Tensor | None = flat(task.parameters)
        self._watched, self._taken, self._usual_step = 0, 0, 0.0

    def watch(self) -> None:
        """Follows the length of steps: a mean over all, then one that forgets after about 50."""
        new = flat(self.task.parameters)
        assert self._last is not None  # until the start
        self._watched += 1
        self._usual_step += ((new - self._last).norm().item() - self._usual_step) / min(self._watched, 50)
        self._last = new

    def start(self) -> None:
        """The usual step is known by now."""
        self._last = None

    @torch.no_grad()
    def after(self) -> None:
        """Kicks after the first perturbed step, and after every fiftieth from there."""
        if self._taken % self.every == 0:
            parameters = self.task.parameters
            size = sum(each.numel() for each in parameters)
            kick = torch.randn(size, generator=self.generator).to(parameters[0].device)
            kick *= self.now * self._usual_step / kick.norm()
            for parameter, piece in zip(parameters, pieces(kick, parameters), strict=True):
                parameter += piece
        self._taken += 1

    def state_dict(self) -> dict[str, Any]:
        """The usual step and where it stands between kicks too."""
        own = {"last": self._last, "watched": self._watched, "taken": self._taken, "usual_step": self._usual_step}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`'s value."""
        super().load_state_dict(state)
        self._last, self._watched = state["last"], state["watched"]
        self._taken, self._usual_step = state["taken"], state["usual_step"]


INTERVENTIONS: dict[str, type[Perturbation]] = {
    "weight_decay": WeightDecay,
    "suppress_orthogonal": SuppressOrthogonal,
    "suppress_random": SuppressRandom,
    "suppress_norm_matched": SuppressNormMatched,
    "kicks": Kicks,
}
"""Every intervention by its name."""
