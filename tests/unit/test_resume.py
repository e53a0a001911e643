"""A resume that did not restore weights or optimizer state is seen, a proper one is not suspected."""

import pytest
import torch
from torch import nn

import spectral_edge as se
from spectral_edge.errors import Outcome

ENGINES = [{"engine": "exact"}, {"engine": "sketch", "cells": 64, "backend": "torch"}]


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))


def optimizers(kind, model):
    if kind == "sgd":
        return torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    return torch.optim.AdamW(model.parameters(), lr=1e-3)


def train(model, optimizer, monitor, steps, seed):
    generator = torch.Generator().manual_seed(seed)
    reading = None
    for _ in range(steps):
        x, y = torch.randn(8, 6, generator=generator), torch.randn(8, 3, generator=generator)
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
        reading = monitor.step() or reading
    return reading


def checkpoint(kind, options):
    model = network()
    optimizer = optimizers(kind, model)
    monitor = se.Monitor(model, optimizer, window=3, every=2, **options)
    train(model, optimizer, monitor, 21, seed=1)
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "monitor": monitor.state_dict()}


def resumed(kind, options, saved, *, weights=True, state=True, some=None):
    model = network()
    for tensor in model.parameters():
        nn.init.normal_(tensor)
    if weights:
        model.load_state_dict(saved["model"])
    if some:
        nn.init.normal_(model.get_parameter(some), std=0.3)
    optimizer = optimizers(kind, model)
    monitor = se.Monitor(model, optimizer, window=3, every=2, **options)
    if state:
        optimizer.load_state_dict(saved["optimizer"])
    monitor.load_state_dict(saved["monitor"])
    return model, optimizer, monitor


@pytest.mark.parametrize("options", ENGINES, ids=["exact", "sketch"])
@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_a_proper_resume_is_not_suspected(kind, options):
    saved = checkpoint(kind, options)
    model, optimizer, monitor = resumed(kind, options, saved)
    assert train(model, optimizer, monitor, 6, seed=2) is not None
    assert Outcome.NOT_RESTORED not in [note.outcome for note in monitor.trace.notes]


@pytest.mark.parametrize("options", ENGINES, ids=["exact", "sketch"])
@pytest.mark.parametrize("lost", ["all weights", "one layer"])
def test_weights_that_were_not_restored_are_seen(options, lost):
    saved = checkpoint("adamw", options)
    some = "2.weight" if lost == "one layer" else None
    model, optimizer, monitor = resumed("adamw", options, saved, weights=lost == "one layer", some=some)
    rows = len(monitor.trace.steps)
    with pytest.warns(se.SpectralEdgeWarning, match="over twenty times any before it"):
        train(model, optimizer, monitor, 2, seed=2)
    # The jump is no update: it is left out, and the window starts anew from these weights.
    assert len(monitor.trace.steps) == rows
    assert train(model, optimizer, monitor, 4, seed=3) is None
    assert train(model, optimizer, monitor, 2, seed=4) is not None
    assert monitor.trace.lag_rows()[-1, 0] < 1.0


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_optimizer_state_that_was_not_restored_is_seen(kind):
    options = ENGINES[0]
    saved = checkpoint(kind, options)
    model, optimizer, monitor = resumed(kind, options, saved, state=False)
    with pytest.warns(se.SpectralEdgeWarning, match="its state was not restored"):
        train(model, optimizer, monitor, 1, seed=2)
    assert Outcome.NOT_RESTORED in [note.outcome for note in monitor.trace.notes]


def test_a_group_that_wakes_up_after_a_resume_is_not_suspected():
    """An expert that had hardly moved gets its first tokens: two hundred times its updates, a tenth of the model's."""
    weights = {"busy.w": torch.zeros(50), "idle.w": torch.zeros(50)}

    def moved(monitor, steps, idle):
        for _ in range(steps):
            weights["busy.w"] += torch.randn(50)
            weights["idle.w"] += idle * torch.randn(50)
            reading = monitor.step()
        return reading

    first = se.Monitor(weights, window=3, every=1, engine="exact")
    moved(first, 6, 5e-4)
    second = se.Monitor(weights, window=3, every=1, engine="exact")
    second.load_state_dict(first.state_dict())
    assert moved(second, 1, 0.1) is not None


@pytest.mark.parametrize("options", ENGINES, ids=["exact", "sketch"])
def test_probes_that_are_known_by_name(options):
    model = network()
    groups = [{"params": model[0].parameters()}, {"params": model[2].parameters(), "weight_decay": 0.0, "lr": 1e-2}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.3)
    monitor = se.Monitor(model, optimizer, window=3, every=1, **options)
    for _ in range(5):
        train(model, optimizer, monitor, 1, seed=3)
        parameters = {name: p.detach() for name, p in model.named_parameters()}
        decay = {name: -3e-4 * p if name.startswith("0") else None for name, p in parameters.items()}
        given = {"given": {name: p.grad for name, p in model.named_parameters()}, "reduced": decay}
        monitor.probe(gradient="gradient", decay="decay", **given)
    for name, other in (("gradient", "given"), ("decay", "reduced")):
        for ours, theirs in zip(monitor.trace.probes(name), monitor.trace.probes(other), strict=True):
            assert ours.square.sum() > 0
            torch.testing.assert_close(ours.square, theirs.square, rtol=1e-6, atol=0)
            torch.testing.assert_close(ours.lags, theirs.lags, rtol=1e-5, atol=1e-12, equal_nan=True)
            torch.testing.assert_close(ours.following, theirs.following, rtol=1e-5, atol=1e-12, equal_nan=True)
    with pytest.warns(se.SpectralEdgeWarning, match="parameters, gradient, decay"):
        monitor.probe(odd="momentum")
