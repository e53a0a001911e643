"""Small perturbed tasks, and what each step of theirs would have been if nothing were done to it."""

import copy
import functools
import io

import torch
from torch import nn

from spectral_edge.experiments import SampledTask, configure
from spectral_edge.experiments.kinds import KINDS
from spectral_edge.experiments.perturbation import Batch, Frame

LOOSE = 1e9
"""A norm that no gradient reaches: .grad is then the gradient as the perturbation left it."""


def tiny(*, kind=None, at=0, ramp=0, strength=None, seed=3, weight_decay=1.0, **options):
    """An arithmetic task of 1,079 parameters, healthy or perturbed after step `at`."""
    settings = {"p": 7, "d_model": 8, "d_feedforward": 8, "batch_size": 8, "max_grad_norm": LOOSE, **options}
    task = configure("arithmetic", **settings).task.build(seed=seed, weight_decay=weight_decay, device="cpu")
    return task if kind is None else perturb(task, kind, at=at, ramp=ramp, strength=strength, seed=seed)


def perturb(task, kind, *, at=0, ramp=0, strength=None, seed=3):
    """The task with a perturbation, as the runner binds it."""
    strength = KINDS[kind].usual if strength is None else strength
    task.frame = Frame(KINDS[kind](task, strength=strength, seed=seed), at=at, ramp=ramp)
    return task


def saved(task):
    """The task's state, by way of a file's bytes."""
    file = io.BytesIO()
    torch.save(task.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def advance(task, steps):
    for _ in range(steps):
        task.train_step()
    return task


def healthy_step(task, **options):
    """The tiny task as it is after a step that starts from the perturbed task's state and is not perturbed.

    It is the same object at every call with the same options.
    """
    twin = _twin(**options)
    state = task.state_dict()
    # An optimizer goes on with the very tensors that it is given.
    twin.load_state_dict({**state, "optimizer": copy.deepcopy(state["optimizer"])})
    return advance(twin, 1)


@functools.cache
def _twin(**options):
    return tiny(**options)


def weights(task):
    return [parameter.detach().clone() for parameter in task.parameters]


def gradients(task):
    return [parameter.grad.clone() for parameter in task.parameters]


def vector(tensors):
    return torch.cat([tensor.detach().double().flatten() for tensor in tensors])


def equal(one, two):
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


class Perceptron(SampledTask):
    """A task without layers, attention or weight decay."""

    def __init__(self):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            model = nn.Sequential(nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 4))
        super().__init__(
            model,
            torch.optim.Rprop(model.parameters(), lr=1e-3),
            train_size=16,
            batch_size=4,
            max_grad_norm=1.0,
            seed=1,
        )

    def batch(self, rows):
        return Batch(torch.eye(16)[rows], rows % 4)

    def batch_loss(self, batch):
        return nn.functional.cross_entropy(self.model(batch.inputs), batch.targets)

    def evaluate(self):
        return {}
