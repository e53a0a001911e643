"""Directions of a live window, vectors of parameter space, gradients and Hessian-vector products."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

import spectral_edge as se
from spectral_edge import modes
from spectral_edge.modes.hessian import Hessian


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
        ({}, lambda m: m.modes("a"), "pass a whole number"),
        ({}, lambda m: m.modes(1.5), "pass a whole number"),
        ({}, lambda m: m.modes(1, window="all"), "pass a whole number"),
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


class Drawing(nn.Module):
    """Buffers that are reassigned or come into being in the forward pass, and noise from every source."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("cache", None)
        self.register_buffer("count", torch.zeros(1), persistent=False)

    def forward(self, x):
        h = self.layer(x + 0.1 * torch.rand(1) + 0.1 * np.random.rand() + 0.1 * random.random())  # noqa: NPY002
        self.mean = 0.9 * self.mean + 0.1 * h.detach().mean(dim=0)
        self.cache = h.detach()
        self.count += 1
        return h


def test_reassigned_buffers_flags_and_other_random_numbers_are_put_back():
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
    model = Drawing()
    model.layer.bias.requires_grad_(False)
    buffers = dict(model.named_buffers())
    values = {name: buffer.clone() for name, buffer in buffers.items()}
    with modes.undisturbed(model):
        inside = [model(torch.ones(1, 3)).sum().item() for _ in range(2)]
        model.layer.weight.requires_grad_(False)
        model.layer.bias.requires_grad_(True)
    assert inside[0] != inside[1]
    assert all(buffer is buffers[name] and torch.equal(buffer, values[name]) for name, buffer in model.named_buffers())
    assert model.cache is None
    assert model.layer.weight.requires_grad
    assert not model.layer.bias.requires_grad
    with modes.undisturbed(model):
        again = [model(torch.ones(1, 3)).sum().item() for _ in range(2)]
    assert again == inside


def test_a_graph_that_was_built_before_can_still_be_walked_back():
    """Measuring between a forward pass and its backward pass, with displacements."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    x = torch.randn(5, 3)
    expected = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    ahead = model(x).square().sum()
    parameters = modes.named(model)
    with modes.undisturbed(model):
        with modes.displaced(parameters, modes.scaled(parameters, 0.5)):
            displaced = float(model(x).square().sum().detach())
        for p in parameters.values():
            p.data += 1
    assert displaced != float(ahead.detach())
    found = torch.autograd.grad(ahead, list(model.parameters()))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_sparse_gradients_are_put_back():
    model = nn.Embedding(5, 2, sparse=True)
    model(torch.tensor([1, 3])).sum().backward()
    kept, values = model.weight.grad, model.weight.grad.to_dense()
    with modes.undisturbed(model):
        model(torch.tensor([1, 3])).sum().backward()
    assert model.weight.grad is kept
    assert torch.equal(kept.to_dense(), values)


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


@pytest.mark.parametrize("given", [5, [torch.ones(2, requires_grad=True)], {"a": 1.0}, [("a", "b", "c")]])
def test_what_is_no_model_is_said(given):
    with pytest.raises(se.InputError, match=r"torch\.nn\.Module"):
        modes.named(given)


# losses ---------------------------------------------------------------------------------------------------------------

WEIGHT = torch.ones(3, requires_grad=True)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (torch.ones(()), "pass lambda"),
        (lambda: 1.0, r"without item\(\)"),
        (lambda: WEIGHT**2, "mean"),
        (lambda: (WEIGHT**2).sum().detach(), "graph"),
    ],
)
def test_losses_that_cannot_be_differentiated_are_said(loss, words):
    parameters = {"w": WEIGHT}
    for call in (
        lambda: modes.gradient(loss, parameters),
        lambda: modes.hvp(loss, parameters, parameters),
        lambda: Hessian(loss, parameters),
    ):
        with pytest.raises(se.InputError, match=words):
            call()


def test_losses_without_a_second_derivative_are_said():
    """Attention in a fused kernel that the loss insists on; without that it is computed by plain products."""
    x = torch.randn(1, 1, 4, 8)
    parameters = {"w": torch.ones(8, requires_grad=True)}

    def loss():
        y = x * parameters["w"]
        return functional.scaled_dot_product_attention(y, y, y).square().sum()

    def fused():
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return loss()

    modes.gradient(fused, parameters)
    with pytest.raises(se.InputError, match="differentiated twice"):
        modes.hvp(fused, parameters, parameters)
    with pytest.raises(se.InputError, match="differentiated twice"):
        Hessian(fused, parameters) @ parameters
    products = [flat(modes.hvp(loss, parameters, parameters)), flat(Hessian(loss, parameters) @ parameters)]
    np.testing.assert_allclose(*products, rtol=1e-5)
    assert np.abs(products[0]).min() > 0

    def broken():
        raise RuntimeError("something of the user's own")

    with pytest.raises(RuntimeError, match="the user's own"):
        modes.hvp(broken, parameters, parameters)


def test_embeddings_with_sparse_gradients_have_a_hessian():
    torch.manual_seed(0)
    x, y = torch.randint(6, (12, 3)), torch.randint(2, (12,))
    head = nn.Linear(4, 2)
    weights = torch.randn(6, 4)
    found = []
    for sparse in (False, True):
        embedding = nn.Embedding(6, 4, sparse=sparse, _weight=weights.clone())
        parameters = {"e": embedding.weight, "h": head.weight}

        def loss(embedding=embedding):
            return nn.functional.cross_entropy(head(torch.tanh(embedding(x)).mean(dim=1)), y)

        v = modes.random_like(parameters, torch.Generator().manual_seed(1))
        hessian = Hessian(loss, parameters)
        found.append([flat(each) for each in (modes.gradient(loss, parameters), hessian.gradient, hessian @ v)])
        np.testing.assert_allclose(flat(modes.hvp(loss, parameters, v)), found[-1][2], atol=1e-6)
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
