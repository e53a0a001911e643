"""AdamW, SGD and Muon of the language families: what each moves, how far, and that joined ones are used as one."""

import io
import math

import numpy as np
import pytest
import torch
from torch import nn

import spectral_edge as se
from spectral_edge.experiments.families.gpt import GPT
from spectral_edge.experiments.families.optimizers import (
    Float32Muon,
    Joined,
    Rates,
    make_optimizer,
    orthogonalized,
    warmup_and_cosine,
)


def rates(**options):
    usual = {"adamw": 1e-2, "sgd": 0.1, "muon": 0.02, "beta2": 0.95, "momentum": 0.9, "weight_decay": 0.5}
    return Rates(**{**usual, **options})


def network(seed=0, *, biases=True):
    torch.manual_seed(seed)
    return GPT(vocabulary=11, layers=2, d_model=8, heads=2, d_feedforward=16, context=6, biases=biases)


def set_gradients(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def values(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def moved(model, before):
    return {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}


# ---- Muon


@pytest.mark.parametrize("shape", [(12, 12), (24, 6), (6, 24)])
def test_orthogonalized_keeps_singular_vectors_and_equalizes_values(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    u, sigma, v = np.linalg.svd(matrix.double().numpy(), full_matrices=False)
    rotated = u.T @ orthogonalized(matrix).double().numpy() @ v.T
    assert np.abs(rotated - np.diag(np.diag(rotated))).max() < 1e-4
    clear = sigma > 0.1 * sigma[0]
    assert np.all((np.diag(rotated)[clear] > 0.65) & (np.diag(rotated)[clear] < 1.25))


def muon_twin(weight, gradients, *, rate, decay):
    """The recipe written out in float64, one matrix at a time, by its polynomial on singular values."""
    weight, momentum = weight.copy(), np.zeros_like(weight)
    for gradient in gradients:
        momentum = 0.95 * momentum + 0.05 * gradient
        direction = 0.05 * gradient + 0.95 * momentum
        u, sigma, v = np.linalg.svd(direction, full_matrices=False)
        sigma = sigma / np.sqrt((sigma**2).sum())
        for _ in range(5):
            sigma = 3.4445 * sigma - 4.7750 * sigma**3 + 2.0315 * sigma**5
        weight = weight * (1 - rate * decay)
        weight = weight - rate * max(1.0, weight.shape[0] / weight.shape[1]) ** 0.5 * (u * sigma) @ v
    return weight


@pytest.mark.parametrize("shape", [(10, 10), (16, 4), (4, 16)])
def test_float32_muon_is_the_recipe(shape):
    draw = np.random.default_rng(2)
    start, gradients = draw.normal(size=shape), draw.normal(size=(6, *shape))
    weight = nn.Parameter(torch.tensor(start, dtype=torch.float32))
    optimizer = Float32Muon([weight], lr=0.02, weight_decay=0.3)
    for gradient in gradients:
        weight.grad = torch.tensor(gradient, dtype=torch.float32)
        optimizer.step()
    expected = muon_twin(start, gradients, rate=0.02, decay=0.3)
    np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_float32_muon_agrees_with_torch_to_its_rounding():
    start = torch.randn(12, 6, generator=torch.Generator().manual_seed(3))
    weights = [nn.Parameter(start.clone()) for _ in range(2)]
    optimizers = [Float32Muon([weights[0]], lr=0.02, weight_decay=0.1)]
    optimizers += [torch.optim.Muon([weights[1]], lr=0.02, weight_decay=0.1)]
    for step in range(5):
        gradient = torch.randn(12, 6, generator=torch.Generator().manual_seed(10 + step))
        for weight, optimizer in zip(weights, optimizers, strict=True):
            weight.grad = gradient.clone()
            optimizer.step()
    own, theirs = (weight.detach() - start for weight in weights)
    assert torch.linalg.vector_norm(own - theirs) < 0.02 * torch.linalg.vector_norm(own)
    states = [optimizer.state[weight]["momentum_buffer"] for weight, optimizer in zip(weights, optimizers, strict=True)]
    torch.testing.assert_close(*states)


def test_muon_moves_the_trunk_matrices_and_adamw_the_rest():
    model = network()
    matrices = {name for name, p in model.named_parameters() if name.startswith("blocks.") and p.ndim == 2}
    assert len(matrices) == 2 * 6
    for still, expected in (("adamw", matrices), ("muon", set(values(model)) - matrices)):
        model = network()
        optimizer = make_optimizer(
            "muon", model, trunk=model.trunk(), rates=rates(**{still: 1e-30, "weight_decay": 0.0})
        )
        before = values(model)
        set_gradients(model, 4)
        optimizer.step()
        # At a rate of 1e-30 a bias that is exactly zero still moves, by as little.
        far = {name for name in moved(model, before) if (model.get_parameter(name) - before[name]).abs().max() > 1e-20}
        assert far == expected


# ---- decay


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
def test_weights_shrink_equally_under_every_optimizer_and_norms_not_at_all(name):
    model = network()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    optimizer = make_optimizer(name, model, trunk=model.trunk(), rates=rates(weight_decay=0.1))
    for _ in range(60):
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    for parameter_name, parameter in model.named_parameters():
        # 1e-2 * 0.1 a step; SGD's momentum takes some ten steps to gather.
        expected = 1.0 if "norm" in parameter_name else (1 - 1e-3) ** (60 if name != "sgd" else 50)
        assert parameter.mean().item() == pytest.approx(expected, abs=3e-3)


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
def test_every_parameter_is_in_one_group(name):
    model = network()
    optimizer = make_optimizer(name, model, trunk=model.trunk(), rates=rates())
    grouped = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())


# ---- joined


def test_joined_is_its_parts():
    one, two = network(), network()
    joined = make_optimizer("muon", one, trunk=one.trunk(), rates=rates())
    assert isinstance(joined, Joined)
    apart = make_optimizer("muon", two, trunk=two.trunk(), rates=rates()).parts
    for step in range(4):
        for group in joined.param_groups:
            group["lr"] *= 0.9  # a schedule through the joined groups reaches the parts
        for part in apart:
            for group in part.param_groups:
                group["lr"] *= 0.9
        set_gradients(one, step)
        set_gradients(two, step)
        joined.step()
        for part in apart:
            part.step()
    assert moved(one, values(two)) == set()
    joined.zero_grad()
    assert all(parameter.grad is None for parameter in one.parameters())


def test_joined_goes_on_from_a_saved_state():
    model, twin = network(), network(seed=9)
    optimizer = make_optimizer("muon", model, trunk=model.trunk(), rates=rates())
    for step in range(3):
        set_gradients(model, step)
        optimizer.step()
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    restored = make_optimizer("muon", twin, trunk=twin.trunk(), rates=rates(muon=0.5, adamw=0.5))
    twin.load_state_dict(state["model"])
    restored.load_state_dict(state["optimizer"])
    assert [group["lr"] for group in restored.param_groups] == [0.02, 1e-2, 1e-2]
    for step in range(3, 6):
        for network_, its in ((model, optimizer), (twin, restored)):
            for group in its.param_groups:
                group["lr"] *= 0.5
            set_gradients(network_, step)
            its.step()
    assert moved(twin, values(model)) == set()


def test_state_that_is_lost_through_joined_is_lost_to_the_parts():
    model = network()
    optimizer = make_optimizer("muon", model, trunk=model.trunk(), rates=rates())
    set_gradients(model, 1)
    optimizer.step()
    assert len(optimizer.state) == len(list(model.parameters()))
    optimizer.state.clear()
    before, twin = values(model), network(seed=5)
    twin.load_state_dict(before)
    fresh = make_optimizer("muon", twin, trunk=twin.trunk(), rates=rates())
    for network_, its in ((model, optimizer), (twin, fresh)):
        set_gradients(network_, 2)
        its.step()
    assert moved(twin, values(model)) == set()


def test_a_closure_is_evaluated_once():
    model, calls = network(), []
    optimizer = make_optimizer("muon", model, trunk=model.trunk(), rates=rates())

    def closure():
        calls.append(torch.is_grad_enabled())
        set_gradients(model, 1)
        return 1.5

    assert optimizer.step(closure) == 1.5
    assert calls == [True]


@pytest.mark.parametrize(("name", "rate", "momentum"), [("adamw", 1e-2, 0.9), ("sgd", 0.1, 0.9), ("muon", 0.02, 0.95)])
def test_a_monitor_reads_rate_and_momentum(name, rate, momentum):
    model = network()
    optimizer = make_optimizer(name, model, trunk=model.trunk(), rates=rates())
    with se.Monitor(model, optimizer, window=3, every=1) as monitor:
        for step in range(6):
            for group in optimizer.param_groups:
                group["lr"] *= 0.5
            set_gradients(model, step)
            optimizer.step()
            reading = monitor.step()
        state, weights, saved = optimizer.state_dict(), model.state_dict(), monitor.state_dict()
        trace = monitor.trace
    assert reading is not None
    np.testing.assert_allclose(trace.row_metadata("learning_rate"), rate * 0.5 ** np.arange(1, 7))
    # A resumed run is not told that its optimizer's state was lost (warnings are errors here).
    twin = network(seed=7)
    twin.load_state_dict(weights)
    restored = make_optimizer(name, twin, trunk=twin.trunk(), rates=rates())
    restored.load_state_dict(state)
    with se.Monitor(twin, restored, window=3, every=1) as monitor:
        monitor.load_state_dict(saved)
        set_gradients(twin, 9)
        restored.step()
        assert monitor.step() is not None
    assert se.observe.optimizer.OptimizerWatch(restored).momentum == momentum


# ---- schedule


def test_warmup_and_cosine():
    factor = warmup_and_cosine(10, 110, floor=0.1)
    assert [factor(step) for step in (1, 5, 10)] == [0.1, 0.5, 1.0]
    assert factor(60) == pytest.approx(0.55)  # half way down
    assert factor(35) == pytest.approx(0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2)
    assert factor(110) == factor(5_000) == pytest.approx(0.1)
    falling = [factor(step) for step in range(10, 111)]
    assert falling == sorted(falling, reverse=True)


def test_no_warmup_and_no_floor():
    factor = warmup_and_cosine(0, 4, floor=0.0)
    assert [factor(step) for step in (0, 2, 4)] == pytest.approx([1.0, 0.5, 0.0])
