"""Curvature along modes, largest eigenvalues and tangent kernels against dense matrices, brute force, other solvers."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import spectral_edge as se
from spectral_edge.errors import InputError
from spectral_edge.modes import Meter, commutator_defect, dot, named, norm
from spectral_edge.modes.curvature import adiabatic_relax, mode_curvature
from spectral_edge.modes.hessian import Hessian
from spectral_edge.modes.lanczos import TopEigenvalues, top_eigenvalues
from spectral_edge.modes.ntk import tangent_kernel
from spectral_edge.modes.preconditioner import Preconditioner, preconditioner


class Quadratic(nn.Module):
    """A loss theta^T A theta / 2 for each of several matrices A."""

    def __init__(self, size=6, batches=5, dtype=torch.float64):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.weight = nn.Parameter(torch.randn(size - 2, generator=generator, dtype=dtype))
        self.bias = nn.Parameter(torch.randn(2, generator=generator, dtype=dtype))
        raw = torch.randn(batches, size, size, generator=generator, dtype=dtype)
        self.matrices = raw @ raw.mT / size

    def losses(self):
        return [lambda m=m: self.point() @ m @ self.point() / 2 for m in self.matrices]

    def point(self):
        return torch.cat([self.weight, self.bias])

    def vector(self, values):
        values = torch.as_tensor(np.asarray(values), dtype=self.weight.dtype)
        return {"weight": values[:-2], "bias": values[-2:]}


def network(dtype=torch.float64, *, seed=0, widths=(4, 8, 3)):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(widths[0], widths[1]), nn.Tanh(), nn.Linear(widths[1], widths[2])).to(dtype)
    x = torch.randn(24, widths[0], dtype=dtype)
    y = torch.randint(widths[2], (24,))
    return model, x, y


def flat(vector):
    return np.concatenate([piece.detach().double().numpy().ravel() for piece in vector.values()])


class Transformer(nn.Module):
    """A small causal transformer; attention by PyTorch's own function, or by products written out."""

    def __init__(self, *, fused=True, width=8, tokens=7):
        super().__init__()
        torch.manual_seed(0)
        self.fused = fused
        self.embedding = nn.Embedding(tokens, width)
        self.norm, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.head = nn.Linear(width, tokens, bias=False)

    def forward(self, x):
        h = self.embedding(x)
        q, k, v = (z.unflatten(-1, (2, -1)).transpose(1, 2) for z in self.qkv(self.norm(h)).chunk(3, dim=-1))
        if self.fused:
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = q @ k.mT / q.shape[-1] ** 0.5
            later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
            mixed = scores.masked_fill(later, -torch.inf).softmax(dim=-1) @ v
        h = h + self.out(mixed.transpose(1, 2).flatten(2))
        return self.head(h + self.feed(h))


def next_tokens(model, batches=4):
    x = torch.randint(7, (4 * batches, 6), generator=torch.Generator().manual_seed(1))

    def loss(i):
        logits = model(x[i::batches, :-1])
        return functional.cross_entropy(logits.flatten(0, 1), x[i::batches, 1:].flatten())

    return [lambda i=i: loss(i) for i in range(batches)]


def dense_hessian(model, loss):
    parameters = named(model)
    size = sum(p.numel() for p in parameters.values())
    first = torch.autograd.grad(loss(), list(parameters.values()), create_graph=True)
    joint = torch.cat([g.flatten() for g in first])
    rows = [torch.autograd.grad(joint[i], list(parameters.values()), retain_graph=True) for i in range(size)]
    return np.array([np.concatenate([g.numpy().ravel() for g in row]) for row in rows])


def given_scale(model, scale, *, rate=0.1, decay=0.0, penalty=0.0):
    names = named(model)
    return Preconditioner(
        model.vector(scale), dict.fromkeys(names, rate), dict.fromkeys(names, decay), dict.fromkeys(names, penalty)
    )


# products -------------------------------------------------------------------------------------------------------------


def test_products_share_one_gradient():
    model, x, y = network()

    def loss():
        return functional.cross_entropy(model(x), y)

    dense = dense_hessian(model, loss)
    meter = Meter()
    hessian = Hessian(loss, named(model), meter=meter)
    rng = np.random.default_rng(0)
    for _ in range(3):
        values = rng.standard_normal(len(dense))
        vector, offset = {}, 0
        for name, p in named(model).items():
            vector[name] = torch.from_numpy(values[offset : offset + p.numel()]).reshape(p.shape)
            offset += p.numel()
        np.testing.assert_allclose(flat(hessian @ vector), dense @ values, atol=1e-12)
    assert (meter.cost.gradients, meter.cost.hvps) == (1, 3)


def test_products_of_linear_and_absent_parameters_are_zero():
    a, b, c = (torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(3))
    hessian = Hessian(lambda: (a**3).sum() + b.sum(), {"a": a, "b": b, "c": c})
    found = hessian @ {"a": torch.ones(3), "b": torch.ones(3)}
    torch.testing.assert_close(found["a"], 6 * a.detach())
    assert not found["b"].any()
    assert not found["c"].any()
    assert not (hessian @ {"b": torch.ones(3)})["a"].any()


def test_random_losses_give_one_matrix():
    """Dropout draws once: products are linear, which the Lanczos method needs."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 40), nn.Tanh(), nn.Dropout(0.5), nn.Linear(40, 2)).double()
    x = torch.randn(8, 5, dtype=torch.float64)
    hessian = Hessian(lambda: (model(x) ** 2).mean(), named(model))
    v = {name: torch.randn_like(p) for name, p in named(model).items()}
    np.testing.assert_array_equal(flat(hessian @ v), flat(hessian @ v))


# along modes ----------------------------------------------------------------------------------------------------------


def test_curvature_and_its_error_on_known_matrices():
    model = Quadratic(batches=5)
    rng = np.random.default_rng(1)
    directions = np.linalg.qr(rng.standard_normal((6, 3)))[0].T
    found = mode_curvature(model, [model.vector(v) for v in directions], model.losses())
    each = np.einsum("jp,bpq,jq->bj", directions, model.matrices.numpy(), directions)
    np.testing.assert_allclose(found.h_batches, each, rtol=1e-12)
    np.testing.assert_allclose(found.h, each.mean(axis=0))
    np.testing.assert_allclose(found.h_error, each.std(axis=0, ddof=1) / 5**0.5)
    np.testing.assert_array_equal(found.preconditioned, found.h)
    assert np.isnan(found.rates).all()
    assert (found.cost.hvps, found.cost.gradients) == (15, 5)


def test_quotient_is_exact_on_eigenvectors_and_inside_the_range_elsewhere():
    model = Quadratic(size=8)
    rng = np.random.default_rng(2)
    scale = 10 ** rng.uniform(-2, 1, 8)
    h = model.matrices.mean(dim=0).numpy()
    values, whitened = np.linalg.eigh(h / np.sqrt(np.outer(scale, scale)))
    displacements = (whitened / np.sqrt(scale)[:, None]).T
    directions = [q / np.linalg.norm(q) for q in displacements] + [
        v / np.linalg.norm(v) for v in rng.standard_normal((200, 8))
    ]
    metric = given_scale(model, scale)
    found = mode_curvature(model, [model.vector(v) for v in directions], model.losses(), preconditioner=metric)
    np.testing.assert_allclose(found.preconditioned[:8], values, rtol=1e-9)
    np.testing.assert_allclose(found.projected[:8], values, rtol=1e-7, atol=1e-9)
    low, high = values[0], values[-1]
    assert ((found.preconditioned > low) & (found.preconditioned < high))[8:].all()
    # Neither the plain projection nor the quotient of the whitened matrix at the displacement itself has this.
    plain = h / scale[:, None]
    _, worst = np.linalg.eigh(plain + plain.T)
    outside = mode_curvature(model, [model.vector(worst[:, 0])], model.losses(), preconditioner=metric)
    assert outside.projected[0] < 0 < low < outside.preconditioned[0]
    at_v = np.array([(v / np.sqrt(scale)) @ h @ (v / np.sqrt(scale)) for v in directions[:8]])
    assert np.abs(at_v / values - 1).max() > 0.5


def test_rates_are_those_of_the_step():
    """Groups with rates and decays of their own: the eigenvectors of the step's matrix contract at the given rates."""
    model = Quadratic(size=8)
    rng = np.random.default_rng(4)
    scale = 10 ** rng.uniform(-1, 1, 8)
    rate, decay, penalty = ({"weight": a, "bias": b} for a, b in ((0.02, 0.05), (0.3, 0.0), (0.0, 0.7)))
    metric = Preconditioner(model.vector(scale), rate, decay, penalty)

    def by(values):
        return np.r_[np.full(6, values["weight"]), np.full(2, values["bias"])]

    h = model.matrices.mean(dim=0).numpy()
    step = np.diag(by(rate)) @ ((h + np.diag(by(penalty))) / scale[:, None] + np.diag(by(decay)))
    values, vectors = np.linalg.eig(step)
    assert np.abs(values.imag).max() < 1e-12
    directions = [model.vector(v.real) for v in vectors.T]
    found = mode_curvature(model, directions, model.losses(), preconditioner=metric)
    np.testing.assert_allclose(found.stiffness, values.real, rtol=1e-8)
    assert found.rates_resolved.shape == (8,)


def test_rates_of_one_rate_and_decay_are_eta_times_their_sum():
    model = Quadratic(size=6)
    metric = given_scale(model, np.full(6, 0.5), rate=0.1, decay=0.3)
    v = np.eye(6)[1]
    found = mode_curvature(model, [model.vector(v)], model.losses(), preconditioner=metric)
    assert found.preconditioned[0] == pytest.approx(2 * found.h[0])
    assert found.rates[0] == pytest.approx(0.1 * (found.preconditioned[0] + 0.3))
    assert found.stiffness_error[0] == pytest.approx(0.1 * found.preconditioned_error[0])


def test_no_rate_without_a_restoring_force():
    model = Quadratic(size=6)
    model.matrices = -model.matrices
    found = mode_curvature(
        model, [model.vector(np.eye(6)[0])], model.losses(), preconditioner=given_scale(model, np.ones(6), decay=1e-3)
    )
    assert found.preconditioned[0] < 0
    assert np.isnan(found.rates[0])
    assert not found.rates_resolved[0]
    assert np.isnan(adiabatic_relax(0.3, np.r_[0.1, found.rates], position=1, every=1))


def test_errors_shrink_with_batches_and_cover_the_truth():
    """The mean of six lies within two standard errors in 89.8 % (Student's t); 400 repetitions, 4 s.e. of 1.5 %."""
    generator = np.random.default_rng(7)
    model = Quadratic(size=4)
    inside = 0
    for _ in range(400):
        noise = generator.standard_normal(6)
        model.matrices = torch.stack([torch.eye(4, dtype=torch.float64) * (2 + 0.5 * e) for e in noise])
        found = mode_curvature(model, [model.vector(np.eye(4)[0])], model.losses())
        inside += abs(found.h[0] - 2) < 2 * found.h_error[0]
    assert abs(inside / 400 - 0.898) < 4 * 0.0151


# the optimizer's metric -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize("amsgrad", [False, True])
def test_adam_metric_against_its_definition(kind, amsgrad):
    model, x, y = network()
    beta, eps = 0.9, 1e-3
    optimizer = kind(model.parameters(), lr=0.01, betas=(0.8, beta), eps=eps, amsgrad=amsgrad, weight_decay=0.2)
    moment = {name: torch.zeros_like(p) for name, p in named(model).items()}
    largest = {name: torch.zeros_like(p) for name, p in named(model).items()}
    for step in range(1, 8):
        optimizer.zero_grad()
        (functional.cross_entropy(model(x), y) * (10.0 if step < 3 else 0.1)).backward()
        for name, p in named(model).items():
            g = p.grad + (0.2 * p.detach() if kind is torch.optim.Adam else 0)
            moment[name] = beta * moment[name] + (1 - beta) * g**2
            largest[name] = torch.maximum(largest[name], moment[name])
        optimizer.step()
    found = preconditioner(optimizer, named(model))
    for name in moment:
        second = largest[name] if amsgrad else moment[name]
        torch.testing.assert_close(found.scale[name], (second / (1 - beta**7)).sqrt() + eps)
    expected = (0.0, 0.2) if kind is torch.optim.AdamW else (0.2, 0.0)
    assert {(found.penalty[name], found.decay[name]) for name in moment} == {expected}


def test_metric_predicts_the_next_step_of_adam():
    """Without momentum the step is -eta g / D with the moment of the step itself."""
    model, x, y = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, betas=(0.0, 0.99), weight_decay=0.1)
    before = {name: p.detach().clone() for name, p in named(model).items()}
    functional.cross_entropy(model(x), y).backward()
    optimizer.step()
    found = preconditioner(optimizer, named(model))
    for name, p in named(model).items():
        expected = -0.01 * (p.grad / found.scale[name] + 0.1 * before[name])
        torch.testing.assert_close(p.detach() - before[name], expected)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("dampening", [0.0, 0.5])
def test_slow_modes_of_sgd_relax_at_the_given_rate(momentum, dampening):
    model = Quadratic(size=4, batches=4)
    model.matrices = torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)).expand(4, 4, 4)
    eta, penalty = 1e-5, 0.5
    optimizer = torch.optim.SGD(
        model.parameters(), lr=eta, momentum=momentum, dampening=dampening if momentum else 0.0, weight_decay=penalty
    )
    metric = preconditioner(optimizer, named(model))
    found = mode_curvature(model, [model.vector(v) for v in np.eye(4)], model.losses(), preconditioner=metric)

    def run(steps):
        for _ in range(steps):
            optimizer.zero_grad()
            model.losses()[0]().backward()
            optimizer.step()
        return model.point().detach().numpy().copy()

    early = run(200)
    late = run(2000)
    # Corrections are of relative order kappa / (1 - momentum).
    assert (np.abs(-np.log(late / early) / 2000 / found.rates - 1) < 2 * found.rates / (1 - momentum)).all()
    assert found.rates.max() / (1 - momentum) < 1e-2


def test_parameters_that_never_had_a_gradient_are_left_out():
    class Spare(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.spare = nn.Linear(4, 3).double(), nn.Parameter(torch.ones(2, dtype=torch.float64))

        def forward(self, x):
            return self.used(x)

    torch.manual_seed(0)
    model, x, y = Spare(), torch.randn(24, 4, dtype=torch.float64), torch.randint(3, (24,))
    losses = [lambda i=i: functional.cross_entropy(model(x[i::4]), y[i::4]) for i in range(4)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    monitor = se.Monitor(model, optimizer, window=3, every=1)
    for step in range(5):
        optimizer.zero_grad()
        losses[step % 4]().backward()
        optimizer.step()
        monitor.step()
    metric = preconditioner(optimizer, model)
    assert set(metric.scale) == {"used.weight", "used.bias"}
    found = monitor.modes(2)  # its directions name the spare parameter too, with zeros
    along = mode_curvature(model, found, losses, preconditioner=metric)
    used = [{name: v[name] for name in metric.scale} for v in found.directions]
    np.testing.assert_allclose(
        along.preconditioned, mode_curvature(model, used, losses, preconditioner=metric).preconditioned
    )
    top = top_eigenvalues(model, losses, count=2, preconditioner=metric)
    assert set(top.directions[0]) == set(metric.scale)
    assert (along.preconditioned <= top.values[0]).all()
    assert metric.divided({"spare": torch.ones(2)})["spare"].tolist() == [0, 0]
    with pytest.raises(InputError, match="one along spare"):
        metric.metric({"spare": torch.ones(2)})


def test_eigenvectors_that_epsilon_sets_are_said():
    """An embedding of which training saw half: a batch of the other half is steep where D is epsilon."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(8, 4), nn.Flatten(), nn.Linear(4, 3)).double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    x, y = torch.randint(4, (32, 1)), torch.randint(3, (32,))
    for _ in range(10):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    metric = preconditioner(optimizer, model)
    seen = top_eigenvalues(model, [lambda: functional.cross_entropy(model(x), y)], count=2, preconditioner=metric)
    assert (seen.at_floor < 1e-6).all()
    with pytest.warns(se.SpectralEdgeWarning, match="2 of 2 eigenvectors"):
        unseen = top_eigenvalues(
            model, [lambda: functional.cross_entropy(model(x + 4), y)], count=2, preconditioner=metric
        )
    assert (unseen.at_floor > 0.99).all()
    assert unseen.values[0] > 1e3 * seen.values[0]
    assert np.isnan(top_eigenvalues(model, [lambda: functional.cross_entropy(model(x), y)], count=1).at_floor).all()
    assert np.isnan(metric.at_floor({"0.weight": torch.zeros(8, 4)}))


def test_metric_of_unsuitable_optimizers():
    model, _, _ = network()
    with pytest.raises(InputError, match=r"preconditioner\(optimizer, model\)"):
        preconditioner(model, torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(InputError, match="take a step"):
        preconditioner(torch.optim.Adam(model.parameters()), named(model))
    with pytest.raises(InputError, match="RMSprop"):
        preconditioner(torch.optim.RMSprop(model.parameters()), named(model))
    with pytest.raises(InputError, match="maximize"):
        preconditioner(torch.optim.SGD(model.parameters(), lr=0.1, maximize=True), named(model))
    with pytest.raises(InputError, match="does not know"):
        preconditioner(torch.optim.SGD(network()[0].parameters(), lr=0.1), named(model))


def test_a_module_is_as_good_as_its_parameters():
    model, _, _ = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert preconditioner(optimizer, model).rate == preconditioner(optimizer, named(model)).rate


# a live run -----------------------------------------------------------------------------------------------------------


class Live:
    """Training with dropout and batch norm, which measuring must leave exactly as it would have been."""

    def __init__(self):
        torch.manual_seed(5)
        self.model = nn.Sequential(
            nn.Linear(6, 12), nn.BatchNorm1d(12), nn.Tanh(), nn.Dropout(0.3), nn.Linear(12, 3)
        ).double()
        self.x = torch.randn(64, 6, dtype=torch.float64)
        self.y = torch.randint(3, (64,))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2)
        self.monitor = se.Monitor(self.model, self.optimizer, window=4, every=1)

    def step(self):
        batch = torch.randint(64, (16,))
        self.optimizer.zero_grad()
        functional.cross_entropy(self.model(self.x[batch]), self.y[batch]).backward()
        self.optimizer.step()
        self.monitor.step()

    def losses(self):
        return [lambda i=i: functional.cross_entropy(self.model(self.x[i::4]), self.y[i::4]) for i in range(4)]

    def measure(self):
        metric = preconditioner(self.optimizer, named(self.model))
        directions = self.monitor.modes(2).directions
        mode_curvature(self.model, directions, self.losses(), preconditioner=metric)
        top_eigenvalues(self.model, self.losses(), count=2, preconditioner=metric, limit=40)
        tangent_kernel(self.model, self.x[:8], lambda f: functional.cross_entropy(f, self.y[:8]))

    def state(self):
        moments = [value for state in self.optimizer.state.values() for value in state.values()]
        gradients = [p.grad for p in self.model.parameters()]
        return [torch.get_rng_state(), *self.model.state_dict().values(), *moments, *gradients]


def test_measuring_leaves_the_run_as_it_was():
    runs = [Live(), Live()]
    torch.manual_seed(9)
    for step in range(10):
        runs[0].step()
        if step in (5, 8):
            before = [value.clone() for value in runs[0].state()]
            runs[0].measure()
            assert all(torch.equal(a, b) for a, b in zip(before, runs[0].state(), strict=True))
    torch.manual_seed(9)
    for _ in range(10):
        runs[1].step()
    assert all(torch.equal(a, b) for a, b in zip(runs[0].state(), runs[1].state(), strict=True))


def test_curvature_along_a_live_window():
    run = Live()
    run.model[3].p = 0.0
    for _ in range(8):
        run.step()
    found = run.monitor.modes(3)
    run.model.eval()
    measured = mode_curvature(run.model, found.directions, run.losses())
    dense = [dense_hessian(run.model, loss) for loss in run.losses()]
    for j, direction in enumerate(found.directions):
        v = flat({name: direction[name] for name in named(run.model)})
        np.testing.assert_allclose(measured.h_batches[:, j], [v @ h @ v for h in dense], rtol=1e-9)


def test_a_part_of_the_parameters():
    model = Quadratic(size=6)
    v = np.zeros(6)
    v[:4] = 0.5
    whole = mode_curvature(model, [model.vector(v)], model.losses())
    part = mode_curvature(model, [{"weight": model.vector(v)["weight"]}], model.losses())
    np.testing.assert_allclose(part.h_batches, whole.h_batches, rtol=1e-12)


def test_transformers_with_fused_attention_have_a_hessian():
    """The fused kernels have no second derivative; products agree with attention that is written out."""
    fused, plain = Transformer().double(), Transformer(fused=False).double()
    optimizer = torch.optim.AdamW(fused.parameters(), lr=1e-2)
    monitor = se.Monitor(fused, optimizer, window=3, every=1)
    losses = next_tokens(fused)
    for step in range(6):
        optimizer.zero_grad()
        losses[step % 4]().backward()
        optimizer.step()
        monitor.step()
    plain.load_state_dict(fused.state_dict())
    written = next_tokens(plain)
    found, metric = monitor.modes(2), preconditioner(optimizer, fused)
    for options in ({}, {"preconditioner": metric}):
        one, other = (mode_curvature(*each, **options) for each in ((fused, found, losses), (plain, found, written)))
        np.testing.assert_allclose(one.preconditioned, other.preconditioned, rtol=1e-8)
        one, other = (top_eigenvalues(*each, count=2, **options).values for each in ((fused, losses), (plain, written)))
        np.testing.assert_allclose(one, other, rtol=1e-6)
    pairs = [commutator_defect(m, [tuple(each[:2])]).defect for m, each in ((fused, losses), (plain, written))]
    np.testing.assert_allclose(*pairs, rtol=1e-8)
    x = torch.randint(7, (3, 5))
    kernels = [
        tangent_kernel(m, x, lambda f: functional.cross_entropy(f.flatten(0, 1), x.flatten())) for m in (fused, plain)
    ]
    np.testing.assert_allclose(kernels[0].kernel, kernels[1].kernel, atol=1e-9)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"directions": {"weight": torch.ones(4)}}, r"\[direction\]"),
        ({"directions": [torch.ones(4)]}, "by parameter name"),
        ({"directions": torch.ones(4)}, "by parameter name"),
        ({"losses": lambda: torch.ones(())}, r"\[loss\]"),
        ({"losses": [torch.ones(())] * 4}, "pass lambda"),
        ({"losses": [lambda: 1.0] * 4}, "without item"),
        ({"preconditioner": "adam"}, r"preconditioner\(optimizer, model\)"),
    ],
)
def test_arguments_of_another_kind_are_said(given, words):
    model = Quadratic()
    v = model.vector(np.eye(6)[0])
    arguments = {"directions": [v], "losses": model.losses(), "preconditioner": None, **given}
    with pytest.raises(InputError, match=words):
        mode_curvature(model, **arguments)
    if "directions" not in given:
        del arguments["directions"]
        with pytest.raises(InputError, match=words):
            top_eigenvalues(model, **arguments)


def test_directions_and_batches_that_do_not_fit():
    model = Quadratic()
    with pytest.raises(InputError, match="4 batches"):
        mode_curvature(model, [model.vector(np.eye(6)[0])], model.losses()[:3])
    with pytest.raises(InputError, match="trainable parameters"):
        mode_curvature(model, [{"other": torch.ones(2)}], model.losses())


def test_adiabatic_relax():
    rates = np.array([0.1, 0.3, 0.5])
    assert adiabatic_relax(0.8, rates, position=1, every=20) == pytest.approx(0.8 / (20 * 0.2))
    assert adiabatic_relax(0.8, rates, position=2, every=1) == pytest.approx(0.8 / 0.4)
    assert np.isnan(adiabatic_relax(0.8, rates, position=3, every=1))
    with pytest.raises(InputError, match="count from one"):
        adiabatic_relax(0.8, rates, position=0, every=1)


# largest eigenvalues --------------------------------------------------------------------------------------------------


def spread_metric(model):
    rng = np.random.default_rng(8)
    scale = {name: torch.from_numpy(10 ** rng.uniform(-2, 0, tuple(p.shape))) for name, p in named(model).items()}
    return Preconditioner(scale, {}, {}, {})


@pytest.mark.parametrize("solver", ["arpack", "eigenthings"])
@pytest.mark.parametrize("preconditioned", [False, True])
def test_largest_eigenvalues_against_the_dense_hessian(solver, preconditioned):
    if solver == "eigenthings":
        pytest.importorskip("hessian_eigenthings")
    model, x, y = network()
    losses = [lambda i=i: functional.cross_entropy(model(x[i::3]), y[i::3]) for i in range(3)]
    metric = spread_metric(model) if preconditioned else None
    dense = np.mean([dense_hessian(model, loss) for loss in losses], axis=0)
    scale = flat(metric.scale) if metric else np.ones(len(dense))
    expected = np.linalg.eigvalsh(dense / np.sqrt(np.outer(scale, scale)))[::-1]
    limit = 300 if solver == "arpack" else len(dense)
    found = top_eigenvalues(model, losses, count=4, preconditioner=metric, solver=solver, limit=limit, tolerance=1e-10)
    np.testing.assert_allclose(found.values, expected[:4], rtol=1e-8)
    assert (found.residuals < 1e-6 * expected[0]).all()
    for value, direction in zip(found.values, found.directions, strict=True):
        q = flat(direction)
        assert np.linalg.norm(q) == pytest.approx(1)
        np.testing.assert_allclose(dense @ q / scale, value * q, atol=1e-4 * expected[0])
    assert found.cost.gradients == 3
    assert found.cost.hvps % 3 == 0
    assert found.cost.seconds > 0


def test_eigenvector_and_mode_curvature_agree():
    model, x, y = network()
    losses = [lambda i=i: functional.cross_entropy(model(x[i::4]), y[i::4]) for i in range(4)]
    metric = spread_metric(model)
    rates = dict.fromkeys(metric.scale, 0.1)
    metric = Preconditioner(metric.scale, rates, dict.fromkeys(rates, 0.0), dict.fromkeys(rates, 0.0))
    top = top_eigenvalues(model, losses, count=3, preconditioner=metric, tolerance=1e-10)
    along = mode_curvature(model, top.directions, losses, preconditioner=metric)
    np.testing.assert_allclose(along.preconditioned, top.values, rtol=1e-8)
    np.testing.assert_allclose(along.stiffness, 0.1 * top.values, rtol=1e-8)


def test_residuals_are_honest_when_stopped_early():
    model, x, y = network(widths=(10, 30, 3))

    def loss():
        return functional.cross_entropy(model(x), y)

    found = top_eigenvalues(model, [loss], count=10, tolerance=1e-14, limit=1)
    assert np.isnan(found.values).any()
    done = len(found.directions)
    assert np.isfinite(found.values[:done]).all()
    assert np.isnan(found.residuals[done:]).all()
    dense = dense_hessian(model, loss)
    for value, residual, direction in zip(found.values, found.residuals, found.directions, strict=False):
        q = flat(direction)
        assert np.linalg.norm(dense @ q - value * q) == pytest.approx(residual, rel=1e-3, abs=1e-9)


def test_single_precision_and_few_parameters():
    model, x, y = network(torch.float32)
    found = top_eigenvalues(model, [lambda: functional.cross_entropy(model(x), y)], count=2)
    wide = copy.deepcopy(model).double()
    dense = dense_hessian(wide, lambda: functional.cross_entropy(wide(x.double()), y))
    np.testing.assert_allclose(found.values, np.linalg.eigvalsh(dense)[::-1][:2], rtol=1e-4)
    small = Quadratic(size=6, batches=1)
    all_of_them = top_eigenvalues(small, small.losses(), count=6)
    np.testing.assert_allclose(all_of_them.values, np.linalg.eigvalsh(small.matrices[0])[::-1], rtol=1e-10)
    assert all_of_them.outliers(float(all_of_them.values[2])) == 3
    assert all_of_them.outliers(-1.0) is None
    block = top_eigenvalues(small, small.losses(), count=2, parameters={"bias": small.bias})
    np.testing.assert_allclose(block.values, np.linalg.eigvalsh(small.matrices[0][-2:, -2:])[::-1], rtol=1e-10)


def test_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "hessian_eigenthings", None)
    small = Quadratic()
    with pytest.raises(se.errors.MissingExtraError, match=r"spectral-edge\[curvature\]"):
        top_eigenvalues(small, small.losses(), solver="eigenthings")
    with pytest.raises(InputError, match="at least one batch"):
        top_eigenvalues(small, [])
    with pytest.raises(InputError, match="fewer eigenvalues"):
        top_eigenvalues(small, small.losses(), count=7)
    with pytest.raises(InputError, match=r"arpack \| eigenthings"):
        top_eigenvalues(small, small.losses(), solver="lobpcg")
    empty = TopEigenvalues(np.array([np.nan]), np.array([np.nan]), (), Meter().cost, np.array([np.nan]))
    assert empty.outliers(0.0) == 0


@pytest.mark.parametrize("size", [6, 40])
def test_no_hessian_and_none_that_is_finite(size):
    model = Quadratic(size=size)
    flat_loss = top_eigenvalues(model, [lambda: model.point().sum()], count=2)
    np.testing.assert_array_equal(flat_loss.values, 0)
    np.testing.assert_array_equal(flat_loss.residuals, 0)
    with pytest.raises(InputError, match="finite Hessian"):
        top_eigenvalues(model, [lambda: model.point().square().sum() * float("nan")], count=2)


# tangent kernels ------------------------------------------------------------------------------------------------------


def brute_kernel(model, x, blocks):
    """Gauss-Newton eigenvalues from one backward pass for each output of each example."""
    rows = []
    for i in range(len(x)):
        outputs = model(x[i : i + 1]).flatten()
        grads = [torch.autograd.grad(o, list(model.parameters()), retain_graph=True) for o in outputs]
        rows.append(np.array([np.concatenate([g.numpy().ravel() for g in row]) for row in grads]))
    return sum(j.T @ block @ j for j, block in zip(rows, blocks, strict=True))


@pytest.mark.parametrize("memory", [1 << 30, 20_000])
@pytest.mark.parametrize("chunk", [5, 100])
def test_kernel_of_cross_entropy_against_brute_force(memory, chunk):
    model, x, y = network()
    found = tangent_kernel(model, x, lambda f: functional.cross_entropy(f, y), chunk=chunk, memory=memory)
    p = torch.softmax(model(x), dim=1).detach().numpy()
    blocks = [(np.diag(q) - np.outer(q, q)) / len(x) for q in p]
    expected = np.linalg.eigvalsh(brute_kernel(model, x, blocks))[::-1]
    count = min(len(expected), len(found.eigenvalues))
    np.testing.assert_allclose(found.eigenvalues[:count], expected[:count], atol=1e-12 * len(x))
    assert found.kernel.shape == (72, 72)
    assert found.outliers(float(expected[3])) in (3, 4)


def test_kernel_of_squared_loss_is_the_tangent_kernel():
    model, x, _ = network()
    target = torch.randn(24, 3, dtype=torch.float64)
    found = tangent_kernel(model, x, lambda f: ((f - target) ** 2).sum() / (2 * len(f)))
    rows = []
    for i in range(24):
        for c in range(3):
            g = torch.autograd.grad(model(x[i])[c], list(model.parameters()))
            rows.append(np.concatenate([piece.numpy().ravel() for piece in g]))
    jacobian = np.array(rows)
    np.testing.assert_allclose(found.kernel, jacobian @ jacobian.T / 24, atol=1e-13)


def test_kernel_and_hessian_agree_near_interpolation_only():
    model, x, _ = network(seed=1, widths=(4, 40, 1))
    x = x[:12]
    target = torch.sin(3 * x[:, :1])

    def loss():
        return ((model(x) - target) ** 2).sum() / (2 * len(x))

    def apart():
        kernel = tangent_kernel(model, x, lambda f: ((f - target) ** 2).sum() / (2 * len(f)))
        top = top_eigenvalues(model, [loss], count=5, tolerance=1e-10)
        return np.abs(top.values / kernel.eigenvalues[:5] - 1).max(), kernel, top

    before, _, _ = apart()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3000, tolerance_grad=1e-13, tolerance_change=0.0)

    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
    assert float(loss().detach()) < 1e-10
    after, kernel, top = apart()
    assert after < 1e-4 < 1e-2 < before
    threshold = float(np.sqrt(kernel.eigenvalues[2] * kernel.eigenvalues[3]))
    assert kernel.outliers(threshold) == top.outliers(threshold) == 3


def test_kernel_of_wrapped_tied_and_frozen_parameters():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(4, 4).double()
            self.second = nn.Linear(4, 4).double()
            self.second.weight = self.first.weight
            self.first.bias.requires_grad_(False)

        def forward(self, x):
            return self.second(torch.tanh(self.first(x)))

    torch.manual_seed(0)
    model = Tied()
    x = torch.randn(6, 4, dtype=torch.float64)
    found = tangent_kernel(model, x, lambda f: (f**2).sum() / 2)
    parameters = [model.first.weight, model.second.bias]
    rows = [torch.autograd.grad(o, parameters, retain_graph=True) for o in model(x).flatten()]
    jacobian = np.array([np.concatenate([g.numpy().ravel() for g in row]) for row in rows])
    np.testing.assert_allclose(found.kernel, jacobian @ jacobian.T, atol=1e-12)


def test_linear_losses_have_no_kernel_and_concave_ones_are_refused():
    model, x, _ = network()
    assert not tangent_kernel(model, x, lambda f: f.sum()).kernel.any()
    with pytest.raises(InputError, match="convex"):
        tangent_kernel(model, x, lambda f: -(f**2).sum())
    with pytest.raises(InputError, match="smaller probe set"):
        tangent_kernel(model, x, lambda f: f.sum(), limit=23)
    with pytest.raises(InputError, match="mean"):
        tangent_kernel(model, x, lambda f: f.sum(dim=1))


def test_kernels_of_losses_in_single_precision():
    """Class weights have the outputs' dtype, and a loss may compute in float32 whatever it is given."""
    narrow, x, y = network(torch.float32)
    wide = copy.deepcopy(narrow).double()
    weights = torch.tensor([0.5, 1.0, 2.0])
    expected = tangent_kernel(wide, x.double(), lambda f: functional.cross_entropy(f, y, weight=weights.double()))
    found = tangent_kernel(narrow, x, lambda f: functional.cross_entropy(f, y, weight=weights))
    np.testing.assert_allclose(found.eigenvalues[:5], expected.eigenvalues[:5], rtol=1e-4)
    rounded = tangent_kernel(wide, x.double(), lambda f: functional.cross_entropy(f.float(), y, weight=weights))
    np.testing.assert_allclose(rounded.eigenvalues[:5], expected.eigenvalues[:5], rtol=1e-4)
    half = copy.deepcopy(narrow).bfloat16()
    coarse = tangent_kernel(half, x.bfloat16(), lambda f: functional.cross_entropy(f, y, weight=weights))
    np.testing.assert_allclose(coarse.eigenvalues[:3], expected.eigenvalues[:3], rtol=0.1)


def test_norms_of_directions():
    """Quotients need no unit vectors."""
    model = Quadratic()
    metric = given_scale(model, np.linspace(0.5, 2, 6))
    v = model.vector(np.arange(1.0, 7.0))
    short = {name: piece / norm(v) for name, piece in v.items()}
    found = mode_curvature(model, [v, short], model.losses(), preconditioner=metric)
    assert found.preconditioned[0] == pytest.approx(found.preconditioned[1])
    assert found.h[0] == pytest.approx(found.h[1] * dot(v, v))
