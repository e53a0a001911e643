"""What goes wrong in real training, as perturbations: each begins at a known step, abruptly or growing.

None of them draws from the task's own generator, so a faulty run is given the batches of its healthy twin, whatever it
then makes of them. Usual strengths are ours: enough to matter to a small network, too little to end the run.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from spectral_edge.errors import InputError
from spectral_edge.experiments.perturbation import Batch, Perturbation, Perturbed, flat_gradient, pieces


class OptimizerLost(Perturbation):
    """Empties the optimizer's state once, as when training goes on from a checkpoint of the weights alone.

    It has no ramp: what is lost is lost in one step.
    """

    most = 1.0
    about = "the optimizer's state is lost once; strength: share of the parameters that lose theirs"

    def start(self) -> None:
        """Forgets the state; the optimizer begins it anew, its step count included."""
        for index in _share_of(len(self.task.parameters), self.strength, self.generator):
            self.task.optimizer.state.pop(self.task.parameters[index], None)


class StaleGradients(Perturbation):
    """Applies old gradients, as a worker does that has fallen behind in asynchronous training."""

    usual = 5.0
    most = 100.0
    about = "the gradient of some steps ago is applied; strength: how many steps"

    def __init__(self, task: Perturbed, *, strength: float, seed: int) -> None:
        super().__init__(task, strength=strength, seed=seed)
        self._past: list[list[Tensor | None]] = []

    def watch(self) -> None:
        """Remembers the gradient as it was applied, which clipping again leaves as it is."""
        self._remember()

    def gradients(self) -> None:
        """Puts the old gradient in place of the new one; the oldest there is where the run is too young."""
        self._remember()
        delay = min(round(self.now), len(self._past) - 1)
        for parameter, old in zip(self.task.parameters, self._past[-1 - delay], strict=True):
            # A copy, because clipping works in place and a growing delay applies some gradients twice.
            parameter.grad = None if old is None else old.clone()

    def state_dict(self) -> dict[str, Any]:
        """The remembered gradients too."""
        return {**super().state_dict(), "past": self._past}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`'s value."""
        super().load_state_dict(state)
        self._past = [list(gradients) for gradients in state["past"]]

    def _remember(self) -> None:
        self._past.append([None if each.grad is None else each.grad.clone() for each in self.task.parameters])
        del self._past[: -1 - math.ceil(self.strength)]


class FrozenLayer(Perturbation):
    """Takes the middle layer's updates back, weight decay and momentum included.

    That is what leaving the layer out of the optimizer does: its gradient is still there, and still counts in clipping.
    """

    most = 1.0
    about = "the updates of the middle layer are lost; strength: the share of them"

    def __init__(self, task: Perturbed, *, strength: float, seed: int) -> None:
        super().__init__(task, strength=strength, seed=seed)
        layers = task.layers()
        if not layers:
            raise _unsuitable("frozen_layer", "a network with layers")
        self._frozen = list(layers[len(layers) // 2].parameters())
        self._before: list[Tensor] = []

    def before(self) -> None:
        """Keeps the layer's weights."""
        self._before = [parameter.detach().clone() for parameter in self._frozen]

    @torch.no_grad()
    def after(self) -> None:
        """Takes them back, exactly at full strength."""
        for parameter, old in zip(self._frozen, self._before, strict=True):
            parameter.lerp_(old, self.now)


class Bfloat16Rounding(Perturbation):
    """Rounds weights to bfloat16 after every step, so that updates below half a unit in the last place are lost."""

    most = 1.0
    about = "weights are rounded to bfloat16 after every step; strength: share of the tensors that are"

    def __init__(self, task: Perturbed, *, strength: float, seed: int) -> None:
        super().__init__(task, strength=strength, seed=seed)
        # Drawn before anything else and from the seed alone: those already rounded stay so as the share grows.
        self._order = _share_of(len(task.parameters), 1.0, self.generator)

    @torch.no_grad()
    def after(self) -> None:
        """Rounds to nearest, ties to even."""
        for index in self._order[: math.ceil(self.now * len(self._order))]:
            parameter = self.task.parameters[index]
            parameter.copy_(parameter.to(torch.bfloat16))


class LearningRateHigh(Perturbation):
    """Multiplies the scheduled learning rate."""

    usual = 10.0
    least = 1.0
    about = "the learning rate is too high; strength: by what factor"

    def before(self) -> None:
        """Multiplies what the schedule has just set, by a factor that grows evenly from 1."""
        for group in self.task.optimizer.param_groups:
            group["lr"] *= _factor(self)


class LearningRateLow(LearningRateHigh):
    """The same with a factor below 1."""

    usual = 0.1
    least = 0.0
    most = 1.0
    about = "the learning rate is too low; strength: by what factor, below 1"


class BatchSmall(Perturbation):
    """Keeps the first examples of every batch and repeats them up to its size."""

    usual = 8.0
    least = 1.0
    about = "batches hold only some of their examples, repeated; strength: by what factor they are fewer"

    def rows(self, rows: Tensor) -> Tensor:
        """The first examples, over and over; at least one."""
        kept = max(1, round(len(rows) / _factor(self)))
        return rows[torch.arange(len(rows)) % kept]


class LabelCorruption(Perturbation):
    """Gives targets to the wrong examples."""

    usual = 0.2
    most = 1.0
    about = "targets are those of another example of the batch; strength: share of the targets"

    def batch(self, batch: Batch) -> Batch:
        """Exchanges targets position by position; one that is not scored stays so, and goes nowhere."""
        old, new = batch.targets, _exchanged(batch.targets, share=self.now, generator=self.generator)
        return Batch(batch.inputs, torch.where((old >= 0) & (new >= 0), new, old))


class InputCorruption(Perturbation):
    """Puts entries of other examples into the inputs, padding included."""

    usual = 0.1
    most = 1.0
    about = "entries of the inputs are those of another example of the batch; strength: share of the entries"

    def batch(self, batch: Batch) -> Batch:
        """Exchanges entries position by position, so that every position keeps its distribution."""
        return Batch(_exchanged(batch.inputs, share=self.now, generator=self.generator), batch.targets)


class RepeatedData(Perturbation):
    """Draws from a pool as small as a batch, as a loader does whose order starts anew again and again.

    The pool is the first perturbed batch.
    """

    most = 1.0
    about = "examples come from one batch again and again; strength: share of the examples that do"

    def __init__(self, task: Perturbed, *, strength: float, seed: int) -> None:
        super().__init__(task, strength=strength, seed=seed)
        self._pool: Tensor | None = None

    def rows(self, rows: Tensor) -> Tensor:
        """Examples drawn from the pool, with replacement, in place of a share of these."""
        self._pool = rows.clone() if self._pool is None else self._pool
        picks = torch.randint(len(self._pool), rows.shape, generator=self.generator)
        return torch.where(torch.rand(rows.shape, generator=self.generator) < self.now, self._pool[picks], rows)

    def state_dict(self) -> dict[str, Any]:
        """The pool too."""
        return {**super().state_dict(), "pool": self._pool}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`'s value."""
        super().load_state_dict(state)
        self._pool = None if state["pool"] is None else state["pool"].cpu()


class AttentionExplosion(Perturbation):
    """Lets queries and keys grow in every step, so that attention comes to look at one place only.

    They stop at a hundred times what they would be, logits at ten thousand times: growth for ever would end in
    infinities, which is another fault.
    """

    usual = 0.01
    about = "queries and keys grow after every step; strength: by what share of their size"
    limit: ClassVar[float] = 100.0

    def __init__(self, task: Perturbed, *, strength: float, seed: int) -> None:
        super().__init__(task, strength=strength, seed=seed)
        if not task.queries_and_keys():
            raise _unsuitable("attention_explosion", "a network with attention")
        self._grown = 1.0

    @torch.no_grad()
    def after(self) -> None:
        """Multiplies queries and keys alike, so logits grow by the square."""
        factor = min(1.0 + self.now, self.limit / self._grown)
        self._grown *= factor
        for tensor, first, last in self.task.queries_and_keys():
            tensor[first:last] *= factor

    def state_dict(self) -> dict[str, Any]:
        """How much they have grown too."""
        return {**super().state_dict(), "grown": self._grown}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`'s value."""
        super().load_state_dict(state)
        self._grown = state["grown"]


class ReplicaDrift(Perturbation):
    """Trains with a second replica whose weights move away unseen, and averages the gradients of the two.

    Every tensor of the other replica moves in a direction of its own that never changes, by a share of the length of
    this replica's step. Both replicas see the same batch: with no drift the average is the gradient itself.
    """

    usual = 1.0
    about = "half of the gradient comes from a replica that drifts away; strength: its drift in steps a step"

    def __init__(self, task: Perturbed, *, strength: float, seed: int) -> None:
        super().__init__(task, strength=strength, seed=seed)
        drawn = [torch.randn(each.shape, generator=self.generator) for each in task.parameters]
        self._directions = [(each / each.norm()).to(like) for each, like in zip(drawn, task.parameters, strict=True)]
        self._distances = torch.zeros(len(drawn), device=task.parameters[0].device)
        self._before: list[Tensor] = []
        self._batch: Batch | None = None

    def before(self) -> None:
        """Keeps the weights."""
        self._before = [parameter.detach().clone() for parameter in self.task.parameters]

    def batch(self, batch: Batch) -> Batch:
        """Keeps the batch for the other replica."""
        self._batch = batch
        return batch

    @torch.no_grad()
    def gradients(self) -> None:
        """Averages with the gradient at the other replica's weights."""
        parameters, batch = self.task.parameters, self._batch
        assert batch is not None  # the task asks for the batch first
        for parameter, direction, distance in zip(parameters, self._directions, self._distances, strict=True):
            parameter.add_(distance * direction)
        with torch.enable_grad():
            others = self.task.gradient(batch)
        for parameter, old, other in zip(parameters, self._before, others, strict=True):
            parameter.copy_(old)
            if parameter.grad is not None:
                parameter.grad.add_(other).div_(2)

    @torch.no_grad()
    def after(self) -> None:
        """Moves the other replica on."""
        pairs = zip(self.task.parameters, self._before, strict=True)
        self._distances += self.now * torch.stack([(new - old).float().norm() for new, old in pairs])

    def state_dict(self) -> dict[str, Any]:
        """How far the other replica is too; the directions follow from the seed."""
        return {**super().state_dict(), "distances": self._distances}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`'s value."""
        super().load_state_dict(state)
        self._distances = state["distances"].to(self._distances.device)


class LossSpikes(Perturbation):
    """Takes a wrong and overlong step now and then: at once, then in one step of `every`, by chance.

    The gradient is turned round and enlarged, and so is the learning rate, because clipping and Adam would make good
    for the size of a gradient.
    """

    usual = 10.0
    least = 1.0
    about = "now and then the gradient has the wrong sign and the step is too long; strength: by what factor"
    every: ClassVar[int] = 50

    def __init__(self, task: Perturbed, *, strength: float, seed: int) -> None:
        super().__init__(task, strength=strength, seed=seed)
        self._first, self._bad = False, False

    def start(self) -> None:
        """The first step is bad, so that it is known when the fault begins."""
        self._first = True

    def before(self) -> None:
        """Draws whether this step is bad, and makes it longer."""
        drawn = torch.rand((), generator=self.generator).item() < 1 / self.every
        self._bad, self._first = self._first or drawn, False
        if self._bad:
            for group in self.task.optimizer.param_groups:
                group["lr"] *= _factor(self)

    def gradients(self) -> None:
        """Turns and enlarges the gradient."""
        if self._bad:
            for parameter in self.task.parameters:
                if parameter.grad is not None:
                    parameter.grad *= -_factor(self)


class GradientNoise(Perturbation):
    """Adds Gaussian noise to every gradient, in no direction more than in another."""

    usual = 3.0
    about = "noise is added to the gradient; strength: its norm over the gradient's"

    def gradients(self) -> None:
        """Adds a vector of random direction and of `now` times the gradient's norm."""
        gradient = flat_gradient(self.task.parameters)
        noise = torch.randn(gradient.shape, generator=self.generator).to(gradient.device)
        noise *= self.now * gradient.norm() / noise.norm()
        for parameter, piece in zip(self.task.parameters, pieces(noise, self.task.parameters), strict=True):
            if parameter.grad is not None:
                parameter.grad += piece


FAULTS: dict[str, type[Perturbation]] = {
    "optimizer_lost": OptimizerLost,
    "stale_gradients": StaleGradients,
    "frozen_layer": FrozenLayer,
    "bf16_rounding": Bfloat16Rounding,
    "learning_rate_high": LearningRateHigh,
    "learning_rate_low": LearningRateLow,
    "batch_small": BatchSmall,
    "label_corruption": LabelCorruption,
    "input_corruption": InputCorruption,
    "repeated_data": RepeatedData,
    "attention_explosion": AttentionExplosion,
    "replica_drift": ReplicaDrift,
    "loss_spikes": LossSpikes,
    "gradient_noise": GradientNoise,
}
"""Every fault by its name."""


def _factor(perturbation: Perturbation) -> float:
    """A factor that grows or falls evenly from 1 to the strength."""
    return 1.0 + (perturbation.strength - 1.0) * perturbation.share


def _share_of(count: int, share: float, generator: torch.Generator) -> list[int]:
    """A share of the numbers below `count`, in random order; none only where the share is 0."""
    return torch.randperm(count, generator=generator)[: math.ceil(share * count)].tolist()


def _exchanged(values: Tensor, *, share: float, generator: torch.Generator) -> Tensor:
    """Values [n, ...] of which a share of the entries is another example's at the same position."""
    examples = len(values)
    if examples < 2:
        return values
    own = torch.arange(examples).view(-1, *[1] * (values.dim() - 1))
    others = (own + torch.randint(1, examples, values.shape, generator=generator)) % examples
    chosen = torch.rand(values.shape, generator=generator) < share
    return torch.where(chosen.to(values.device), values.gather(0, others.to(values.device)), values)


def _unsuitable(fault: str, expected: str) -> InputError:
    return InputError(f"perturbation {fault}", expected=expected, found="none", remedy="choose another perturbation")
