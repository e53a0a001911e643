"""Decay and gradient parts, the commutator of two batches and ablations, each against what it must equal."""

import numpy as np
import pytest
import torch
from torch import nn

import spectral_edge as se
from spectral_edge import modes
from spectral_edge.errors import InputError
from spectral_edge.evaluate.lifecycle import lifecycle
from spectral_edge.modes.ablation import ablate
from spectral_edge.modes.commutator import commutator_defect, commutator_defect_pub
from spectral_edge.modes.lifecycle import DecayAccumulator, decay_trapezoid

WINDOW = 4


def vector(named):
    return np.concatenate([piece.detach().double().numpy().ravel() for piece in named.values()])


def network(dtype=torch.float64):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)
    x, y = torch.randn(64, 5, dtype=dtype), torch.randint(3, (64,))
    return model, x, y


def run(make, steps, every, *, dtype=torch.float64, between=lambda model, optimizer, step: None):
    """A watched run with the decay of every step kept by hand."""
    model, x, y = network(dtype)
    optimizer = make(model)
    monitor = se.Monitor(model, optimizer, window=WINDOW, every=every)
    accumulator = DecayAccumulator(monitor, model, optimizer)
    parameters = modes.named(model)
    by_hand = {name: torch.zeros_like(p) for name, p in parameters.items()}
    parts, expected, thetas = [], [], [vector(parameters)]
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        between(model, optimizer, step)
        for group in optimizer.param_groups:
            for name, p in parameters.items():
                if any(p is q for q in group["params"]) and p.grad is not None:
                    by_hand[name] -= group["lr"] * group["weight_decay"] * p.detach()
        optimizer.step()
        monitor.step()
        found = accumulator.observe()
        assert (found is None) == bool(step % every)
        if found is not None:
            parts.append([vector(piece) for piece in found])
            expected.append(vector(by_hand))
            by_hand = {name: torch.zeros_like(p) for name, p in parameters.items()}
            thetas.append(vector(parameters))
    return monitor, accumulator, np.array(parts), np.array(expected), np.array(thetas)


def adamw(model):
    """Two groups of different decay, as is usual."""
    weights = [p for p in model.parameters() if p.ndim == 2]
    biases = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": weights, "weight_decay": 0.8}, {"params": biases, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=5e-3)


# decay ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 5])
def test_decay_is_the_sum_over_steps(every):
    def schedule(model, optimizer, step):
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 / (1 + 0.1 * step)
        if step in (3, 4):
            model[0].weight.grad = None  # passed over by the optimizer, and its decay with it

    _, _, parts, expected, thetas = run(adamw, 30, every, between=schedule)
    np.testing.assert_allclose(parts[:, 1], expected, atol=1e-16)
    np.testing.assert_allclose(parts.sum(axis=1), np.diff(thetas, axis=0), atol=1e-15)
    assert np.abs(expected).max() > 1e-3


def test_without_momentum_coupled_decay_is_a_part_too():
    """SGD's gradient part must then be -eta times the sum of the loss's gradients."""
    gradients = []

    def keep(model, optimizer, step):
        gradients.append(np.concatenate([p.grad.numpy().ravel() for p in model.parameters()]))

    def sgd(model):
        return torch.optim.SGD(model.parameters(), lr=0.05, weight_decay=0.3)

    _, _, parts, _, _ = run(sgd, 20, 4, between=keep)
    expected = -0.05 * np.array(gradients).reshape(5, 4, -1).sum(axis=1)
    np.testing.assert_allclose(parts[:, 0], expected, atol=1e-15)


def test_narrow_parameters_are_summed_wide():
    model = nn.Linear(4, 4, bias=False).to(torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    monitor = se.Monitor(model, optimizer, window=2, every=100)
    with DecayAccumulator(monitor, model, optimizer) as accumulator:
        start = model.weight.detach().clone()
        for _ in range(3):
            model.weight.grad = torch.zeros_like(model.weight)
            optimizer.step()
        assert torch.equal(model.weight, start)  # 1 - 1e-4 rounds to 1, and three zero gradients move nothing
        torch.testing.assert_close(accumulator.total["weight"], -3e-4 * start.float())
    model.weight.grad = torch.zeros_like(model.weight)
    optimizer.step()
    torch.testing.assert_close(accumulator.total["weight"], -3e-4 * start.float())  # the hook is gone
    accumulator.forget()
    assert not accumulator.total


def test_trapezoid_is_exact_on_a_straight_path():
    generator = torch.Generator().manual_seed(0)
    start = {"x": torch.randn(50, generator=generator, dtype=torch.float64)}
    one = {"x": 0.1 * torch.randn(50, generator=generator, dtype=torch.float64)}
    for steps in (1, 2, 7):
        exact = sum(-0.01 * (start["x"] + k * one["x"]) for k in range(steps))
        end, update = {"x": start["x"] + steps * one["x"]}, {"x": steps * one["x"], "y": torch.ones(2)}
        found = decay_trapezoid(end, update, {"x": 0.01 * steps}, steps=steps)
        torch.testing.assert_close(found["x"], exact, rtol=1e-13, atol=1e-15)
        assert not found["y"].any()


def test_trapezoid_error_falls_with_the_square_of_the_interval():
    """Along a circle the chord's ends miss the mean by (angle)^2 / 12."""
    errors = []
    for angle in (0.4, 0.2, 0.1):
        steps = 64
        at = torch.linspace(0, angle, steps + 1, dtype=torch.float64)
        path = torch.stack([at.cos(), at.sin()])
        exact = -path[:, :-1].sum(dim=1)
        update = {"x": path[:, -1] - path[:, 0]}
        found = decay_trapezoid({"x": path[:, -1]}, update, {"x": float(steps)}, steps=steps)["x"]
        errors.append(float((found - exact).norm() / exact.norm()))
    assert errors[0] == pytest.approx(0.4**2 / 12, rel=0.05)
    np.testing.assert_allclose(np.log2(np.array(errors[:-1]) / errors[1:]), 2, atol=0.02)


def test_trapezoid_error_is_recorded():
    monitor, _, parts, _, thetas = run(adamw, 25, 5)
    steps, errors = monitor.trace.metrics("lifecycle/trapezoid_error")
    assert steps.tolist() == [5, 10, 15, 20, 25]
    model, _, _ = network()
    decays = np.concatenate([np.full(p.numel(), float(p.ndim == 2)) for p in model.parameters()])
    update = np.diff(thetas, axis=0)
    rough = -5 * 5e-3 * 0.8 * decays * (thetas[1:] - 0.6 * update)
    expected = np.linalg.norm(rough - parts[:, 1], axis=1) / np.linalg.norm(parts[:, 1], axis=1)
    np.testing.assert_allclose(errors, expected, rtol=1e-9)
    assert (errors < 0.02).all()


def test_shares_by_mode_against_brute_force():
    monitor, _, parts, _, thetas = run(adamw, 40, 2)
    series = lifecycle(monitor.trace)
    updates = np.diff(thetas, axis=0)
    assert len(series.step) == 20 - WINDOW + 1
    for n, step in enumerate(series.step):
        end = step // 2
        right = np.linalg.svd(updates[end - WINDOW : end], full_matrices=False)[2]
        gradient, decay = right @ parts[end - 1, 0], right @ parts[end - 1, 1]
        np.testing.assert_allclose(np.abs(series.gradient[n]), np.abs(gradient), atol=1e-8)
        np.testing.assert_allclose(series.share[n], gradient**2 / (gradient**2 + decay**2), atol=1e-5)
        np.testing.assert_allclose(series.net[n, 0], gradient[0] / (gradient + decay)[0], rtol=1e-6)
        assert series.alignment[n, 0] == np.sign(gradient[0] * decay[0])
    whole = (parts[:, 0] * parts[:, 1]).sum(axis=1) / np.prod(np.linalg.norm(parts, axis=2), axis=1)
    np.testing.assert_allclose(series.cosine, whole[WINDOW - 1 :], atol=1e-12)
    first = lifecycle(monitor.trace, 2, group="0")
    np.testing.assert_allclose(
        first.decay_energy + lifecycle(monitor.trace, 2, group="2").decay_energy,
        lifecycle(monitor.trace, 2).decay_energy,
    )


def test_without_decay_shares_are_undefined():
    monitor, _, _, _, _ = run(lambda m: torch.optim.AdamW(m.parameters(), lr=5e-3, weight_decay=0.0), 12, 1)
    series = lifecycle(monitor.trace)
    assert len(series.step)
    for column in (series.share, series.net, series.alignment, series.cosine):
        assert np.isnan(column).all()
    assert np.isnan(monitor.trace.metrics("lifecycle/trapezoid_error")[1]).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.Adam(p, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
        lambda p: torch.optim.RMSprop(p, weight_decay=0.1),
    ],
)
def test_mixed_decay_has_no_part(make):
    model = nn.Linear(2, 2)
    optimizer = make(model.parameters())
    monitor = se.Monitor(model, optimizer)
    with pytest.raises(InputError, match="decoupled weight decay"):
        DecayAccumulator(monitor, model, optimizer)
    DecayAccumulator(monitor, model, optimizer, decoupled=True).close()


# commutator -----------------------------------------------------------------------------------------------------------


class Point(nn.Module):
    def __init__(self, values):
        super().__init__()
        self.theta = nn.Parameter(torch.as_tensor(values, dtype=torch.float64))


def quadratics(rng, size=6):
    """Two quadratic losses with their Hessians and centres."""
    point = Point(rng.standard_normal(size))
    made = []
    for _ in range(2):
        root, centre = rng.standard_normal((size, size)), rng.standard_normal(size)
        hessian = torch.from_numpy(root @ root.T / size)
        shift = torch.from_numpy(centre)
        made.append((hessian, shift, lambda h=hessian, c=shift: 0.5 * (point.theta - c) @ h @ (point.theta - c)))
    return point, made


def test_commutator_of_two_quadratics():
    """Their steps commute up to eta^2 (H_B g_A - H_A g_B) exactly, at any step size."""
    point, ((h_a, c_a, loss_a), (h_b, c_b, loss_b)) = quadratics(np.random.default_rng(0))
    theta = point.theta.detach()
    g_a, g_b = h_a @ (theta - c_a), h_b @ (theta - c_b)
    expected = float((h_b @ g_a - h_a @ g_b).norm())
    found = commutator_defect(point, [(loss_a, loss_b), (loss_a, loss_a)])
    assert found.defect[0] == pytest.approx(expected, rel=1e-12)
    assert found.defect[1] == 0.0  # a loss commutes with itself
    assert found.normalised[0] == pytest.approx(expected / float(g_a.norm() * g_b.norm()), rel=1e-12)
    assert found.median == pytest.approx(expected / 2)
    assert found.median_normalised == pytest.approx(found.normalised[0] / 2)
    assert (found.cost.gradients, found.cost.hvps) == (4, 4)
    for rate in (1e-3, 0.1):
        published = commutator_defect_pub(point, [(loss_a, loss_b)], learning_rate=rate)
        assert published[0] == pytest.approx(found.normalised[0], rel=1e-8)


def test_the_published_defect_converges_to_the_products():
    """By finite steps, in float64: the difference is of first order in the step."""
    model, x, y = network()
    parts = [torch.arange(0, 32), torch.arange(32, 64)]
    losses = [lambda part=part: nn.functional.cross_entropy(model(x[part]), y[part]) for part in parts]
    before = [p.detach().clone() for p in model.parameters()]
    exact = commutator_defect(model, [tuple(losses)]).normalised[0]
    errors = [
        abs(commutator_defect_pub(model, [tuple(losses)], learning_rate=rate)[0] / exact - 1)
        for rate in (0.04, 0.02, 0.01)
    ]
    np.testing.assert_allclose(np.log2(np.array(errors[:-1]) / errors[1:]), 1, atol=0.15)
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


def test_scales_of_the_defect():
    """Neither form is a pure number: losses times c and parameters times b move them by known powers."""
    rng = np.random.default_rng(3)
    point, ((_, _, loss_a), (_, _, loss_b)) = quadratics(rng)
    base = commutator_defect(point, [(loss_a, loss_b)])
    louder = commutator_defect(point, [(lambda: 5 * loss_a(), lambda: 5 * loss_b())])
    assert louder.defect[0] == pytest.approx(25 * base.defect[0])
    assert louder.normalised[0] == pytest.approx(base.normalised[0])
    rng = np.random.default_rng(3)
    wide, ((h_a, c_a, _), (h_b, c_b, _)) = quadratics(rng)
    with torch.no_grad():
        wide.theta.mul_(10)
    stretched = commutator_defect(
        wide,
        [
            (
                lambda: 0.5 * (wide.theta / 10 - c_a) @ h_a @ (wide.theta / 10 - c_a),
                lambda: 0.5 * (wide.theta / 10 - c_b) @ h_b @ (wide.theta / 10 - c_b),
            )
        ],
    )
    assert stretched.defect[0] == pytest.approx(base.defect[0] / 1e3)
    assert stretched.normalised[0] == pytest.approx(base.normalised[0] / 10)


def test_a_flat_batch_has_no_normalised_defect():
    point = Point([1.0, 2.0])
    flat = (lambda: (point.theta * 0).sum(), lambda: (point.theta**2).sum())
    found = commutator_defect(point, [flat])
    assert found.defect[0] == 0.0
    assert np.isnan(found.normalised[0])
    assert np.isnan(commutator_defect_pub(point, [flat])[0])
    for call in (commutator_defect, commutator_defect_pub):
        with pytest.raises(InputError, match="at least one pair"):
            call(point, [])


# ablation -------------------------------------------------------------------------------------------------------------


def test_every_arm_moves_where_it_says():
    torch.manual_seed(0)
    model = nn.Linear(20, 30)
    before = [p.detach().clone() for p in model.parameters()]
    direction = modes.random_like(modes.named(model), torch.Generator().manual_seed(1))
    seen = []

    def score():
        seen.append(vector(modes.named(model)))
        return 0.0

    found = ablate(model, direction, score, generator=torch.Generator().manual_seed(2), draws=3)
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    theta, v = seen[0], vector(direction)
    v /= np.linalg.norm(v)
    np.testing.assert_allclose(seen[1], theta - (v @ theta) * v, atol=1e-7)
    np.testing.assert_allclose(seen[2], theta * (1 - found.share), atol=1e-7)
    moved = np.linalg.norm(np.array(seen) - theta, axis=1)
    np.testing.assert_allclose(moved[[1, 2, 3, 5, 7]], found.displacement, rtol=1e-4)
    np.testing.assert_allclose(moved[[4, 6, 8]], found.unmatched_displacement, rtol=1e-3)
    for matched, without in zip(seen[3::2], seen[4::2], strict=True):
        noise = (matched - theta) / np.linalg.norm(matched - theta)
        assert abs(noise @ v) < 0.2  # 630 dimensions
        assert without @ noise == pytest.approx(0, abs=1e-6)
    assert found.cost.losses == 9
    assert found.share == pytest.approx(found.displacement / np.linalg.norm(theta))


def test_effects_of_a_linear_and_a_quadratic_score():
    torch.manual_seed(0)
    model = nn.Linear(100, 100, bias=False).double()
    weight = model.weight
    direction = {"weight": weight.detach().clone() + 0.02 * torch.randn_like(weight)}
    start = weight.detach().clone()

    def distance():
        return float((weight.detach() - start).square().sum())

    found = ablate(model, direction, distance, generator=torch.Generator().manual_seed(9), draws=40)
    square = found.displacement**2
    np.testing.assert_allclose([found.removed, found.shrunk, *found.random], square, rtol=1e-9)
    assert found.ratio_matched == pytest.approx(1, rel=1e-9)  # an isotropic score knows no direction
    # Unmatched displacements are <r, theta>: their mean square is |theta|^2 / P, with relative error sqrt(2 / 40).
    expected = found.share**2 * weight.numel()
    assert found.ratio_pub == pytest.approx(expected, rel=4 * np.sqrt(2 / 40))
    assert found.ratio_pub > 1000


def test_an_effect_of_nothing_has_no_ratio():
    model = nn.Linear(3, 3)
    direction = {"weight": torch.ones(3, 3)}
    found = ablate(model, direction, lambda: 1.0, generator=torch.Generator().manual_seed(0))
    assert np.isnan(found.ratio_matched)
    assert np.isnan(found.ratio_pub)
    assert found.displacement == pytest.approx(abs(float(model.weight.sum().detach())) / 3, rel=1e-5)
    assert len(found.random) == 8


@pytest.mark.parametrize(
    ("direction", "draws", "words"),
    [
        ({"weight": torch.zeros(3, 3)}, 8, "got zero"),
        ({"other": torch.ones(3, 3)}, 8, "other names"),
        ({"weight": torch.ones(3, 3)}, 0, "at least 1"),
    ],
)
def test_what_cannot_be_removed_is_said(direction, draws, words):
    with pytest.raises(InputError, match=words):
        ablate(nn.Linear(3, 3), direction, lambda: 0.0, generator=torch.Generator(), draws=draws)
