"""Directions of a live window, vectors of parameter space, gradients and Hessian-vector products."""

import numpy as np
import pytest
import torch
from torch import nn

import spectral_edge as se
from spectral_edge import modes


def trained(steps=8, *, window=4, dtype=torch.float64, **options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).to(dtype)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    monitor = se.Monitor(model, optimizer, window=window, every=1, **options)
    snapshots = [flat(modes.named(model))]
    for _ in range(steps):
        x = torch.randn(16, 5, dtype=dtype)
        nn.functional.mse_loss(model(x), x[:, :3]).backward()
        optimizer.step()
        optimizer.zero_grad()
        monitor.step()
        snapshots.append(flat(modes.named(model)))
    return model, monitor, np.diff(np.array(snapshots), axis=0)


def flat(vector):
    return np.concatenate([tensor.detach().double().numpy().ravel() for tensor in vector.values()])


@pytest.mark.parametrize("window", [2, 4, 8])
def test_directions_are_the_right_singular_vectors(window):
    _, monitor, updates = trained()
    found = monitor.modes(window=window)
    _, sigma, right = np.linalg.svd(updates[-window:], full_matrices=False)
    np.testing.assert_allclose(found.sigma, sigma, rtol=1e-9)
    for vector, expected in zip(found.directions, right, strict=True):
        assert abs(abs(flat(vector) @ expected) - 1) < 1e-9
        assert modes.norm(vector) == pytest.approx(1, abs=1e-9)
    np.testing.assert_allclose(found.gram, updates[-window:] @ updates[-window:].T, rtol=1e-9)
    for j, vector in enumerate(found.directions):
        np.testing.assert_allclose(updates[-window:] @ flat(vector), found.sigma[j] * found.left[:, j], atol=1e-9)
    assert found.step == 8


def test_the_newest_update_by_name():
    model, monitor, updates = trained()
    found = monitor.newest_update()
    assert list(found) == list(modes.named(model))
    np.testing.assert_allclose(flat(found), updates[-1], atol=1e-15)


def test_narrow_rings_give_wider_directions():
    _, monitor, _ = trained(dtype=torch.float32, ring_dtype=torch.bfloat16)
    assert all(piece.dtype == torch.float32 for piece in monitor.modes(2).directions[0].values())


@pytest.mark.parametrize(
    ("options", "call", "words"),
    [
        ({"engine": "sketch", "cells": 4096, "groups": {"all": "*"}}, lambda m: m.modes(), "exact engine"),
        ({}, lambda m: m.modes(5), "ask for fewer modes"),
        ({}, lambda m: m.modes(window=9), "smaller one"),
        ({}, lambda m: m.modes(window=1), "2 to 8"),
    ],
)
def test_what_cannot_be_formed_is_said(options, call, words):
    _, monitor, _ = trained(**options)
    with pytest.raises(se.InputError, match=words):
        call(monitor)


def test_an_unfilled_window_is_said():
    _, monitor, _ = trained(2)
    with pytest.raises(se.InputError, match="2 of 4 so far"):
        monitor.modes()
    _, monitor, _ = trained(0)
    with pytest.raises(se.InputError, match="call step"):
        monitor.newest_update()


def test_hvp_against_the_dense_hessian():
    torch.manual_seed(1)
    weight = torch.randn(4, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(2, dtype=torch.float64, requires_grad=True)
    unused = torch.randn(2, dtype=torch.float64, requires_grad=True)
    parameters = {"weight": weight, "bias": bias, "unused": unused}

    def loss():
        return (weight**4).sum() * bias[0] ** 2 + bias[1] * weight[0]

    def joint(point):
        return (point[:4] ** 4).sum() * point[4] ** 2 + point[5] * point[0]

    dense = torch.autograd.functional.hessian(joint, torch.cat([weight, bias]).detach())
    vector = modes.random_like(parameters, torch.Generator().manual_seed(2))
    meter = modes.Meter()
    with meter:
        found = modes.hvp(loss, parameters, vector, meter=meter)
    expected = dense @ torch.cat([vector["weight"], vector["bias"]])
    torch.testing.assert_close(torch.cat([found["weight"], found["bias"]]), expected)
    assert not found["unused"].any()
    assert meter.cost.hvps == 1
    assert meter.cost.seconds > 0
    assert all(p.grad is None for p in parameters.values())
    assert not modes.hvp(lambda: weight.sum(), parameters, vector)["weight"].any()


def test_nothing_is_disturbed():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
    x = torch.randn(8, 3)
    model(x).sum().backward()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = [p.grad.clone() for p in model.parameters()]
    kept = [p.grad for p in model.parameters()]
    random = torch.get_rng_state()
    with modes.undisturbed(model):
        model(x).sum().backward()
        for p in model.parameters():
            p.data += 1
        model[0].eval()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert all(p.grad is g for p, g in zip(model.parameters(), kept, strict=True))
    assert torch.equal(torch.get_rng_state(), random)
    assert model[0].training


def test_displacements_are_put_back_bit_for_bit():
    parameters = modes.named(nn.Linear(3, 3))
    before = {name: tensor.detach().clone() for name, tensor in parameters.items()}
    by = modes.random_like(parameters, torch.Generator().manual_seed(0))
    with modes.displaced(parameters, by, 0.1):
        torch.testing.assert_close(parameters["weight"].detach(), before["weight"] + 0.1 * by["weight"])
    assert all(torch.equal(parameters[name], before[name]) for name in before)


def test_vectors_with_missing_names():
    a, b = {"x": torch.ones(2), "y": torch.ones(3)}, {"y": torch.full((3,), 2.0), "z": torch.ones(1)}
    assert modes.dot(a, b) == 6
    total = modes.added(a, b, -1.0)
    assert {name: tensor.sum().item() for name, tensor in total.items()} == {"x": 2, "y": -3, "z": -1}
    assert modes.norm(modes.scaled(a, 2.0)) == pytest.approx(20**0.5)
