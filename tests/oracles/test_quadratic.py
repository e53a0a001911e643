"""Quadratics and deep linear networks against closed forms, brute force, PyTorch and the dense problem behind them."""

import numpy as np
import pytest
import torch

from spectral_edge.errors import InputError
from spectral_edge.plots.simulations import quadratic as picture
from spectral_edge.simulate.quadratic import QuadraticModel
from spectral_edge.theory.linear_network import LinearNetwork, mode_flow, mode_strength
from spectral_edge.theory.quadratic import Quadratic, State, rows, window_sigma, windows
from spectral_edge.theory.signal_flow import expected_energy, steady_energy_pub

ETA, W = 0.01, 10


@pytest.mark.parametrize(
    ("kappa", "every"), [(0.001, 1), (0.01, 1), (0.1, 1), (0.1, 10), (0.1, 100), (0.5, 200), (1.5, 3)]
)
def test_6_energy_of_a_settled_mode_for_every_relaxation(kappa, every):
    """Acceptance test 6, kappa s from .001 to 100, within three standard errors; the last case oscillates."""
    curvature, noise, runs = np.array([kappa / ETA]), np.array([4.0]), 2000
    model = Quadratic(curvature=curvature, noise=noise)
    rng = np.random.default_rng(6)
    path = model.descend(model.settled(runs, ETA, rng), steps=W * every, rate=ETA, every=every, generator=rng)
    energy = (rows(path) ** 2).sum(axis=1)[:, 0]
    exact = expected_energy(rate=ETA, curvature=curvature, window=W, noise=noise, every=every)[0]
    error = energy.std(ddof=1) / np.sqrt(runs)
    assert energy.mean() == pytest.approx(exact, abs=3 * error)
    # The same number, three ways: the fixed point as published misses it wherever kappa s is not of order one.
    assert exact == pytest.approx(W * model.row_covariance(ETA, every)[0, 0], rel=1e-9)
    published = steady_energy_pub(rate=ETA, curvature=curvature, window=W, source=noise)[0]
    if kappa * every <= 0.1:
        assert published / exact > 4
    assert abs(published - energy.mean()) > 3 * error


def test_limits_of_the_expected_energy():
    flat = expected_energy(rate=ETA, curvature=np.array([0.0, 1e-9, 1e-4]), window=W, noise=2.0, every=10)
    np.testing.assert_allclose(flat, W * 10 * ETA**2 * 2.0, rtol=1e-5)
    stiff = np.array([0.05, 0.1])
    coarse = expected_energy(rate=ETA, curvature=stiff, window=W, noise=2.0, every=100_000)
    published = steady_energy_pub(rate=ETA, curvature=stiff, window=W, source=2.0)
    np.testing.assert_allclose(coarse / published, 2.0, rtol=1e-3)
    # A mean update adds its square once for each row.
    drifting = expected_energy(rate=ETA, curvature=0.0, window=W, noise=2.0, every=10, drift=0.3)
    assert drifting == pytest.approx(W * 10 * ETA**2 * 2.0 + W * 0.09)
    with pytest.raises(InputError, match="kappa"):
        expected_energy(rate=1.0, curvature=2.0, window=W, noise=1.0)
    assert np.isnan(steady_energy_pub(rate=ETA, curvature=-1.0, window=W, source=1.0))


def test_decay_does_move_the_ratio():
    """R of two modes at omega = 0, .1, 1, 10: by Eq. 38, and exactly at s = 1000 and s = 1."""
    curvature, noise = np.array([0.1, 1.0]), np.array([10 / 3, 1.0])

    def ratio(energy):
        return np.sqrt(energy[0] / energy[1])

    options = {"rate": ETA, "curvature": curvature, "window": W}
    decays = (0.0, 0.1, 1.0, 10.0)
    published = [ratio(steady_energy_pub(source=noise, decay=decay, **options)) for decay in decays]
    coarse = [ratio(expected_energy(noise=noise, every=1000, decay=decay, **options)) for decay in decays]
    fine = [ratio(expected_energy(noise=noise, decay=decay, **options)) for decay in decays]
    np.testing.assert_allclose(published, [5.77, 4.28, 2.46, 1.91], atol=0.005)
    np.testing.assert_allclose(coarse, [4.58, 3.97, 2.46, 1.90], atol=0.005)
    np.testing.assert_allclose(fine, 1.82, atol=0.005)
    # Decay compresses R towards the ratio of the sources, from above.
    assert (np.diff(published) < 0).all()
    assert (np.diff(coarse) < 0).all()
    assert ratio(steady_energy_pub(source=noise, decay=1e5, **options)) == pytest.approx(np.sqrt(10 / 3), rel=1e-5)


@pytest.mark.parametrize("averaging", [False, True])
def test_second_moments_with_momentum_decay_and_correlated_noise(averaging):
    covariance = np.array([[1.0, 0.6], [0.6, 2.0]])
    model = Quadratic(curvature=np.array([0.5, 3.0]), noise=covariance, decay=0.2, momentum=0.9, averaging=averaging)
    every, runs, rng = 7, 4000, np.random.default_rng(3)
    path = model.descend(model.settled(runs, ETA, rng), steps=every, rate=ETA, every=every, generator=rng)
    update = path[:, -1] - path[:, 0]
    outer = update[:, :, None] * update[:, None, :]
    error = outer.std(axis=0) / np.sqrt(runs)
    exact = model.row_covariance(ETA, every)
    assert (np.abs(outer.mean(axis=0) - exact) < 4 * error).all()
    # A twin without Lyapunov's equation: the covariance iterated until it stands still, from nothing.
    step, gain = model.transition(ETA), model.gain
    into = np.concatenate([-ETA * gain * np.eye(2), gain * np.eye(2)])
    both = np.zeros((4, 4))
    for _ in range(60_000 if averaging else 20_000):
        both = step @ both @ step.T + into @ covariance @ into.T
    np.testing.assert_allclose(model.stationary(ETA), both, rtol=1e-7, atol=1e-12)


def test_descent_equals_pytorch_with_a_schedule():
    curvature, start = np.array([0.3, 2.0, 7.0]), np.array([1.0, -2.0, 0.5])
    rates = 0.02 * (1 + np.cos(np.linspace(0, np.pi, 40))) / 2
    model = Quadratic(curvature=curvature, noise=np.zeros(3), momentum=0.8)
    path = model.descend(model.start(start[None]), steps=40, rate=rates, every=4)[0]
    theta = torch.nn.Parameter(torch.tensor(start))
    optimizer = torch.optim.SGD([theta], lr=rates[0], momentum=0.8)
    kept = [start]
    for t in range(40):
        # The library applies the rate to the buffer of the same step, as PyTorch does.
        optimizer.param_groups[0]["lr"] = rates[t]
        optimizer.zero_grad()
        (torch.tensor(curvature) * theta**2).sum().div(2).backward()
        optimizer.step()
        if (t + 1) % 4 == 0:
            kept.append(theta.detach().numpy().copy())
    np.testing.assert_allclose(path, kept, rtol=1e-12)


def test_modes_stand_for_a_dense_preconditioned_problem():
    """theta <- (1 - eta omega) theta - eta D^-1 H theta, in 20 raw coordinates, has the modes' singular values."""
    rng = np.random.default_rng(5)
    root = rng.standard_normal((20, 20))
    hessian, scale = root @ root.T / 20, rng.uniform(0.5, 2.0, 20)
    inner = hessian / np.sqrt(np.outer(scale, scale))
    curvature, basis = np.linalg.eigh(inner)
    theta = rng.standard_normal(20)
    raw = [theta]
    for _ in range(30):
        raw.append((1 - 0.05 * 0.1) * raw[-1] - 0.05 * (hessian @ raw[-1]) / scale)
    model = Quadratic(curvature=curvature, noise=np.zeros(20), decay=0.1)
    start = basis.T @ (np.sqrt(scale) * theta)
    path = model.descend(model.start(start[None]), steps=30, rate=0.05)[0]
    whitened = np.diff(np.array(raw) * np.sqrt(scale), axis=0)
    np.testing.assert_allclose(rows(path) @ basis.T, whitened, atol=1e-12)
    found = window_sigma(rows(path), W)
    assert found.shape == (21, 10)
    np.testing.assert_allclose(found[3], np.linalg.svd(whitened[3:13], compute_uv=False), atol=1e-12)


def test_target_drive_and_refusals():
    model = Quadratic(curvature=np.array([1.0, 2.0]), noise=np.array([0.0, 0.0]), decay=0.5)
    state = model.start(np.zeros((1, 2)))
    aimed = model.descend(state, steps=4000, rate=0.01, target=np.array([3.0, 3.0]))[0, -1]
    # Decay pulls the resting point to zero: h target / (h + omega).
    np.testing.assert_allclose(aimed, [2.0, 2.4], rtol=1e-8)
    moving = model.descend(state, steps=50, rate=0.01, target=np.full((50, 2), 3.0))
    driven = model.descend(state, steps=50, rate=0.01, drive=np.full((50, 2), -3.0) * model.curvature)
    np.testing.assert_allclose(moving, driven, rtol=1e-13)
    with pytest.raises(InputError, match="to contract"):
        Quadratic(curvature=np.array([0.0]), noise=np.array([1.0])).stationary(0.1)
    with pytest.raises(InputError, match="momentum"):
        Quadratic(curvature=np.array([1.0]), noise=np.array([1.0]), momentum=1.0)
    with pytest.raises(InputError, match="noise"):
        Quadratic(curvature=np.array([1.0]), noise=np.array([1.0, 2.0]))
    with pytest.raises(InputError, match="decay"):
        Quadratic(curvature=np.array([1.0]), noise=np.array([1.0]), decay=-1.0)
    with pytest.raises(InputError, match="at least 4 rows"):
        windows(np.zeros((3, 2)), 4)
    assert isinstance(model.settled(3, 0.01, np.random.default_rng(0)), State)


def test_gradients_of_linear_networks_are_pytorchs():
    rng = np.random.default_rng(2)
    network = LinearNetwork(target=rng.standard_normal((4, 3)), depth=3, width=5)
    layers = network.random_start(0.5, rng)
    tensors = [torch.tensor(layer, requires_grad=True) for layer in layers]
    ((tensors[2] @ tensors[1] @ tensors[0] - torch.tensor(network.target)) ** 2).sum().div(2).backward()
    for found, tensor in zip(network.gradients(layers), tensors, strict=True):
        np.testing.assert_allclose(found, tensor.grad.numpy(), rtol=1e-12)


def test_two_layers_follow_the_closed_form_to_first_order_in_the_rate():
    rng = np.random.default_rng(4)
    network = LinearNetwork(target=rng.standard_normal((4, 6)))
    strengths = np.linalg.svd(network.target, compute_uv=False)
    small = np.full(4, 1e-3)
    horizon = 4.0
    errors = []
    for rate in (0.02, 0.01, 0.005):
        path = network.descend(network.aligned_start(small), rate=rate, steps=round(horizon / rate))
        true = mode_strength(path.steps * rate, target=strengths, start=small)
        errors.append(np.abs(path.singular_values - true).max())
    order = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(order, 1.0, atol=0.25)
    times = np.linspace(0, horizon, 30)
    flow = network.flow(network.aligned_start(small), times)
    np.testing.assert_allclose(flow.singular_values, mode_strength(times, target=strengths, start=small), atol=1e-6)
    assert path.loss[-1] < 1e-2 * path.loss[0]
    # Aligned modes share no weight: every mode's share of an update is its own direction, so at most 4 directions.
    assert (np.linalg.matrix_rank(path.rows[::40], tol=1e-10)) <= 4


@pytest.mark.parametrize(("depth", "decay"), [(2, 0.0), (3, 0.0), (3, 0.05), (4, 0.0)])
def test_modes_of_any_depth(depth, decay):
    network = LinearNetwork(target=np.diag([3.0, 1.0]), depth=depth)
    times = np.linspace(0, 3.0, 20)
    start = np.array([0.2, 0.2])
    full = network.flow(network.aligned_start(start), times, decay=decay)
    modes = mode_flow(times, target=np.array([3.0, 1.0]), start=start, depth=depth, decay=decay)
    np.testing.assert_allclose(full.singular_values, np.sort(modes, axis=1)[:, ::-1], atol=1e-6)


def test_strong_modes_are_learned_first_from_random_weights_too():
    rng = np.random.default_rng(0)
    network = LinearNetwork(target=np.diag([4.0, 2.0, 1.0]), width=6)
    path = network.descend(network.random_start(0.01, rng), rate=0.01, steps=900, every=5, noise=0.01, generator=rng)
    half = [int(path.steps[np.argmax(path.singular_values[:, k] > s / 2)]) for k, s in enumerate((4.0, 2.0, 1.0))]
    assert 0 < half[0] < half[1] < half[2]
    # The time to learn goes as 1 / s up to a logarithm.
    assert half[2] / half[0] == pytest.approx(4.0, rel=0.25)
    with pytest.raises(InputError, match="depth"):
        LinearNetwork(target=np.eye(2), depth=1)
    with pytest.raises(InputError, match="width"):
        LinearNetwork(target=np.eye(3), width=2).aligned_start(0.1)


def test_simulation_of_the_hierarchy():
    result = QuadraticModel(every=(1, 1000), runs=200).run()
    assert result.worst < 4
    assert result.slope[0] == pytest.approx(0.0, abs=0.01)
    assert result.slope[1] == pytest.approx(-0.34, abs=0.02)
    assert result.slope_pub == pytest.approx(-0.5)
    assert result.published_over_exact[0, 0] == pytest.approx(5000, rel=0.01)
    assert result.published_over_exact[1, -1] == pytest.approx(0.475, abs=0.005)
    assert len(picture.draw(result).axes) == 2
    # Over the narrower range of curvatures that is stiff at s = 1000 the slope is that of the published law.
    stiff = QuadraticModel(every=(1000,), curvature=(1.0, 3.0, 10.0), runs=50).run()
    assert stiff.slope[0] == pytest.approx(-0.49, abs=0.02)


def test_simulation_with_momentum_uses_the_exact_moments():
    assert QuadraticModel(every=(1, 50), momentum=0.9, runs=300, seed=1).run().worst < 4
    assert QuadraticModel(every=(5,), momentum=0.9, averaging=True, weight_decay=1.0, runs=300).run().worst < 4


@pytest.mark.parametrize(
    "wrong", [{"curvature": (1.0,)}, {"every": ()}, {"every": (0,)}, {"learning_rate": 0.0}, {"runs": 1}]
)
def test_simulation_refuses(wrong):
    with pytest.raises(InputError):
        QuadraticModel(**wrong)
