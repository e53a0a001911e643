"""The Dyson diffusion against its matrix, its integrator against closed forms, its laws against direct draws.

Statistical tolerances are four standard errors unless said; seeds are fixed.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate as quadrature
from scipy.optimize import minimize
from scipy.stats import ks_2samp

from spectral_edge.errors import InputError
from spectral_edge.plots.simulations.dyson import draw
from spectral_edge.simulate.dyson import Dyson as Simulated
from spectral_edge.theory import dyson, laguerre, residual, spacings
from spectral_edge.theory.dyson import Dyson


def matrices(width, parameters, beta, draws, rng):
    """Matrices of standard normal components, complex for beta = 2, quaternions as pairs of rows for beta = 4."""
    shape = (draws, width, parameters)
    if beta == 1:
        return rng.standard_normal(shape)
    a, b = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape) for _ in range(2))
    return a if beta == 2 else np.block([[a, b], [-b.conj(), a.conj()]])


def values(matrix):
    return np.linalg.svd(matrix, compute_uv=False)


@st.composite
def chamber(draw):
    """Ordered positive values with their diffusion, gaps from .01 to 3."""
    width = draw(st.integers(1, 6))
    gaps = np.array(draw(st.lists(st.floats(0.01, 3.0), min_size=width, max_size=width)))
    law = Dyson(
        parameters=width + draw(st.integers(1, 40)),
        beta=draw(st.sampled_from([1.0, 1.7, 2.0, 4.0])),
        damping=draw(st.sampled_from([0.0, 0.3])),
    )
    return np.cumsum(gaps[::-1])[::-1][None].copy(), law


@given(chamber())
def test_the_drift_is_minus_the_gradient_of_a_convex_potential(case):
    sigma, law = case
    width, step = sigma.shape[-1], 1e-6
    moved = step * np.eye(width)
    gradient = (dyson.potential(sigma + moved, law) - dyson.potential(sigma - moved, law)) / (2 * step)
    assert np.allclose(-gradient, dyson.sigma_drift(sigma, law)[0], rtol=1e-4, atol=1e-4)
    slopes = (dyson.sigma_drift(sigma + moved, law) - dyson.sigma_drift(sigma - moved, law)) / (2 * step)
    hessian = dyson.hessian(sigma, law)[0]
    assert np.allclose(-slopes, hessian, rtol=1e-4, atol=1e-4 * np.abs(hessian).max())
    assert np.linalg.eigvalsh(hessian).min() > 0
    assert dyson.potential(-sigma, law)[0] == np.inf


@given(chamber())
def test_the_two_forms_are_one_process_by_ito(case):
    sigma, law = case
    expected = 2 * sigma * dyson.sigma_drift(sigma, law) + 1
    found = dyson.eigenvalue_drift(sigma**2, law)
    assert np.allclose(found, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


@given(chamber())
def test_radial_part_of_the_drift_is_a_constant(case):
    """Sum sigma_j drift_j = (beta W P - W) / 2 - kappa sum sigma_j^2, so |X|^2 grows by beta W P in unit time."""
    sigma, law = case
    width = sigma.shape[-1]
    found = (sigma * dyson.sigma_drift(sigma, law)).sum()
    expected = (law.beta * width * law.parameters - width) / 2 - law.damping * (sigma**2).sum()
    scale = np.abs(sigma * dyson.sigma_drift(sigma, law)).sum()
    assert found == pytest.approx(expected, abs=1e-11 * max(scale, 1) * 1e3)


@pytest.mark.parametrize("beta", [1, 2, 4])
def test_the_drift_is_that_of_the_matrix(beta):
    """X + sqrt(h) N drawn directly; the noise along each mode is taken off as a control variate."""
    rng = np.random.default_rng(beta)
    sigma, parameters, time, draws = np.array([5.0, 4.0, 2.6, 1.5]), 7, 1e-3, 8000
    start = np.zeros((4, parameters))
    start[range(4), range(4)] = sigma
    kept = np.kron(np.eye(2), start) if beta == 4 else start
    noise = np.sqrt(time) * matrices(4, parameters, beta, draws, rng)
    moved = values(kept + noise)
    moved = moved[:, ::2] if beta == 4 else moved
    along = np.stack([noise[:, j, j].real for j in range(4)], axis=-1)
    change = (moved - sigma - along) / time
    error = change.std(axis=0) / np.sqrt(draws)
    predicted = dyson.sigma_drift(sigma[None], Dyson(parameters=parameters, beta=beta))[0]
    assert (np.abs(change.mean(axis=0) - predicted) < 4 * error + 0.02).all()
    assert (error < 0.1).all()


@given(chamber(), st.floats(1e-4, 1e4), st.integers(0, 2**31))
def test_any_step_keeps_order_and_sign_and_solves_its_equation(case, step, seed):
    sigma, law = case
    increment = np.sqrt(step) * np.random.default_rng(seed).standard_normal(sigma.shape)
    after = dyson.implicit_step(sigma, increment, step, law)
    assert (np.diff(after) < 0).all()
    assert (after > 0).all()
    left, right = after - step * dyson.sigma_drift(after, law), sigma + increment
    assert np.allclose(left, right, rtol=1e-6, atol=1e-6 * (np.abs(right).max() + np.sqrt(step)))
    if law.damping == 0:
        width = sigma.shape[-1]
        growth = ((sigma + increment) ** 2).sum() + step * (law.beta * width * law.parameters - width)
        assert (after**2).sum() == pytest.approx(growth + dyson.step_bias(after, step, law)[0], rel=1e-6)


def test_a_step_is_the_minimiser_that_a_general_method_finds():
    law, step = Dyson(parameters=9, beta=1.5, damping=0.2), 0.7
    target = np.array([2.0, 2.4, -0.5])

    def cost(x):
        return float(dyson.potential(x, law)) + ((x - target) ** 2).sum() / (2 * step)

    best = minimize(cost, np.array([4.0, 3.0, 1.0]), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13})
    zero = np.zeros((1, 3))
    assert np.allclose(dyson.implicit_step(zero, target[None], step, law)[0], best.x, atol=1e-5)


@pytest.mark.parametrize(("beta", "least"), [(1.0, 0.65), (2.0, 0.85), (4.0, 0.9)])
def test_strong_order(beta, least):
    """Order 1; nearly so at beta = 1, where levels meet closely. Errors against 16 times finer steps."""
    rng = np.random.default_rng(3)
    law, paths, fine = Dyson(parameters=6, beta=beta), 400, 384
    start = np.tile([4.0, 2.5, 1.2], (paths, 1))
    noise = rng.standard_normal((fine, paths, 3)) / np.sqrt(fine)
    exact = dyson.integrate(start, noise, 1 / fine, law)[-1]
    errors = []
    for steps in (4, 8, 16, 32):
        coarse = noise.reshape(steps, fine // steps, paths, 3).sum(axis=1)
        off = dyson.integrate(start, coarse, 1 / steps, law)[-1] - exact
        errors.append(np.sqrt((off**2).sum(axis=-1).mean()))
    order = -np.polyfit(np.log([4, 8, 16, 32]), np.log(errors), 1)[0]
    assert least < order < 1.15


def test_paths_follow_a_matrix_driven_by_the_same_noise():
    """dB_j = u_j^T dX v_j read from the matrix at its left end: order one half, as for any such Ito integral."""
    rng = np.random.default_rng(4)
    width, parameters, paths, fine = 3, 6, 200, 512
    law = Dyson(parameters=parameters, beta=1.0)
    start = np.zeros((paths, width, parameters))
    start[:, range(width), range(width)] = [4.0, 2.5, 1.2]
    noise = rng.standard_normal((fine, paths, width, parameters)) / np.sqrt(fine)
    exact = values(start + noise.sum(axis=0))
    errors = []
    for steps in (8, 32, 128, 512):
        coarse = noise.reshape(steps, fine // steps, *start.shape).sum(axis=1)
        matrix, sigma = start, values(start)
        for increment in coarse:
            left, _, right = np.linalg.svd(matrix, full_matrices=False)
            along = np.einsum("nij,nik,njk->nj", left, increment, right)
            sigma = dyson.implicit_step(sigma, along, 1 / steps, law)
            matrix = matrix + increment
        errors.append(np.abs(sigma - exact).mean())
    order = -np.polyfit(np.log([8, 32, 128, 512]), np.log(errors), 1)[0]
    assert 0.4 < order < 1.0
    assert errors[-1] < 0.03


@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_weak_order_is_one(beta):
    """Means of |X|^2 and det X X^T against (B3). The same noise at every step length; its own sum is taken off."""
    rng = np.random.default_rng(5)
    law, paths, fine = Dyson(parameters=6, beta=beta), 4000, 64
    start = np.tile([4.0, 2.5, 1.2], (paths, 1))
    exact = laguerre.expected_symmetric(start[:1], 1.0, law)[0]
    noise = rng.standard_normal((fine, paths, 3)) / np.sqrt(fine)
    bias, determinant = [], []
    for steps in (4, 8, 16, 32):
        path = dyson.integrate(start, noise.reshape(steps, fine // steps, paths, 3).sum(axis=1), 1 / steps, law)
        bias.append(-dyson.step_bias(path[1:].reshape(-1, 3), 1 / steps, law).sum() / paths)
        determinant.append(path[-1].prod(axis=-1) ** 2)
        measured = (path[-1] ** 2).sum(axis=-1)
        assert measured.mean() + bias[-1] == pytest.approx(exact[1], abs=4 * measured.std() / np.sqrt(paths))
    assert 0.75 < -np.polyfit(np.log([4, 8, 16, 32]), np.log(bias), 1)[0] < 1.1
    extrapolated = 2 * determinant[-1] - determinant[-2]
    assert extrapolated.mean() == pytest.approx(exact[3], abs=4 * extrapolated.std() / np.sqrt(paths))
    assert determinant[0].mean() < exact[3] - 4 * determinant[0].std() / np.sqrt(paths)


@pytest.mark.parametrize("beta", [1, 2])
@pytest.mark.parametrize("damping", [0.0, 0.4])
def test_moments_are_those_of_the_matrix(beta, damping):
    rng = np.random.default_rng(6)
    sigma, parameters, time, draws = np.array([3.0, 2.0, 0.5]), 5, 0.8, 40_000
    law = Dyson(parameters=parameters, beta=beta, damping=damping)
    start = np.zeros((3, parameters))
    start[range(3), range(3)] = sigma
    variance = (1 - np.exp(-2 * damping * time)) / (2 * damping) if damping else time
    direct = np.exp(-damping * time) * start + np.sqrt(variance) * matrices(3, parameters, beta, draws, rng)
    found = values(direct)
    square = found**2
    pairs = [square.sum(axis=-1), (square.sum(axis=-1) ** 2 - (square**2).sum(axis=-1)) / 2, square.prod(axis=-1)]
    exact = laguerre.expected_symmetric(sigma, time, law)
    assert exact[0] == 1
    for sample, mean in zip(
        [*pairs, (square**2).sum(axis=-1)], [*exact[1:], laguerre.expected_square(sigma, time, law)], strict=True
    ):
        assert sample.mean() == pytest.approx(mean, abs=4 * sample.std() / np.sqrt(draws))
    drawn = laguerre.transition_sample(sigma[None], time, law, draws=10_000, generator=rng)[0]
    for j in range(3):
        assert ks_2samp(drawn[:, j], found[:10_000, j]).pvalue > 1e-3


@pytest.mark.parametrize("beta", [1, 2, 4])
def test_bidiagonal_matrices_have_the_law_of_full_ones(beta):
    rng = np.random.default_rng(7)
    direct = values(matrices(3, 5, beta, 4000, rng))
    direct = direct[:, ::2] if beta == 4 else direct
    drawn = laguerre.laguerre_sample(3, Dyson(parameters=5, beta=beta), draws=4000, generator=rng)
    for j in range(3):
        assert ks_2samp(drawn[:, j], direct[:, j]).pvalue > 1e-3


@pytest.mark.parametrize("beta", [1.0, 1.5, 2.0])
def test_the_damped_process_comes_to_the_laguerre_ensemble(beta):
    """From zero, after eight relaxation times: law of each singular value, and the mean square in closed form."""
    rng = np.random.default_rng(8)
    law, paths, step = Dyson(parameters=6, beta=beta, damping=1.0), 2000, 0.02
    noise = np.sqrt(step) * rng.standard_normal((200, paths, 3))
    end = dyson.integrate(np.zeros((paths, 3)), noise, step, law)[-1]
    drawn = laguerre.stationary_sample(3, law, draws=20_000, generator=rng)
    exact = laguerre.expected_symmetric(np.zeros(3), 50.0, law)[1]
    assert exact == pytest.approx(beta * 3 * 6 / 2, rel=1e-9)
    assert (drawn**2).sum(axis=-1).mean() == pytest.approx(exact, rel=0.01)
    # The step's bias, of relative order kappa step, is allowed for.
    shift = end.mean(axis=0) - drawn.mean(axis=0)
    assert (np.abs(shift) < 4 * end.std(axis=0) / np.sqrt(paths) + 0.02).all()
    assert np.allclose(end.std(axis=0), drawn.std(axis=0), rtol=0.08)


def test_expected_determinant_from_zero_is_the_product_of_chi_squares():
    found = laguerre.expected_symmetric(np.zeros(4), 2.0, Dyson(parameters=9, beta=1.0))
    assert found[4] == pytest.approx(2.0**4 * 9 * 8 * 7 * 6)


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0, 4.0])
def test_spacing_laws(beta):
    whole, _ = quadrature.quad(lambda r: float(spacings.ratio_density(np.array(r), beta)), 0, 1)
    assert whole == pytest.approx(1, abs=1e-9)
    for weight in (np.ones_like, np.asarray):
        moment, _ = quadrature.quad(
            lambda s, w=weight: float(w(s) * spacings.spacing_density(np.array(s), beta)), 0, 12
        )
        assert moment == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("beta", [1, 2])
def test_close_encounters_have_the_exponent_of_repulsion(beta):
    """The share of spacings below e grows as e^(beta + 1), so halving e divides it by 2^(beta + 1)."""
    rng = np.random.default_rng(9)
    sigma = laguerre.laguerre_sample(5, Dyson(parameters=30, beta=beta), draws=40_000, generator=rng)
    spacing = sigma[:, :-1] - sigma[:, 1:]
    spacing = spacing / spacing.mean(axis=0)
    wide, narrow = (spacing < 0.3).sum(), (spacing < 0.15).sum()
    exponent = np.log2(wide / narrow)
    assert exponent == pytest.approx(beta + 1, abs=4 * np.sqrt(1 / narrow) / np.log(2) + 0.1)


@pytest.mark.parametrize(("width", "beta"), [(3, 1), (5, 1), (10, 1), (10, 2), (10, 4)])
def test_the_index_is_found_within_its_interval(width, beta):
    rng = np.random.default_rng(10)
    law = Dyson(parameters=20 * width, beta=beta)
    drawn = laguerre.laguerre_sample(width, law, draws=100 * 200, generator=rng).reshape(100, 200, width)
    found = [spacings.estimate_beta(block) for block in drawn]
    covered = np.mean([one.low <= beta <= one.high for one in found])
    assert covered > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 100)
    estimates = np.array([one.beta for one in found])
    assert estimates.mean() == pytest.approx(beta, abs=4 * estimates.std() / 10 + 0.02 * beta)
    assert not found[0].sufficient
    assert spacings.estimate_beta(drawn.reshape(-1, width)).sufficient


@pytest.mark.parametrize("beta", [1, 6, 20])
def test_the_index_of_stiff_levels(beta):
    law = Dyson(parameters=40_000, beta=beta)
    drawn = laguerre.laguerre_sample(8, law, draws=3000, generator=np.random.default_rng(13))
    found = spacings.estimate_beta(drawn)
    assert found.beta == pytest.approx(beta, abs=2.5 * (found.high - beta) + 0.01 * beta)
    assert found.high - found.low < 0.1 * beta + 0.05


def test_spacings_of_stiff_levels_have_a_density():
    spacing = np.linspace(0, 6, 6001)
    for beta in (1.0, 50.0, 600.0):
        density = spacings.spacing_density(spacing, beta)
        assert density.sum() * 1e-3 == pytest.approx(1, abs=1e-3)
        assert (density * spacing).sum() * 1e-3 == pytest.approx(1, abs=1e-3)


def test_levels_that_ignore_one_another_have_index_zero():
    rng = np.random.default_rng(11)
    found = spacings.estimate_beta(np.sort(rng.standard_normal((5000, 3)), axis=-1)[:, ::-1])
    assert found.low < 0 < found.high
    assert found.high < 0.2


def test_a_rolling_window_is_not_the_diffusion():
    """Of i.i.d. rows: no level ever passes a neighbour's place, and the residual is too small; the diffusion passes."""
    rng = np.random.default_rng(12)
    width, parameters = 6, 40
    rows = rng.standard_normal((width + 1, 600, parameters)).swapaxes(0, 1)
    law, scale = residual.matched_diffusion(width, parameters)
    before, after = scale * values(rows[:, :-1]), scale * values(rows[:, 1:])
    true = laguerre.transition_sample(before, 1.0, law, draws=1, generator=rng)[:, 0]
    window = residual.residuals(before, after, 1.0, law, draws=200, generator=rng)
    diffusion = residual.residuals(before, true, 1.0, law, draws=200, generator=rng)
    assert window.past == 0
    assert window.past_expected > 0.3
    assert diffusion.past == pytest.approx(diffusion.past_expected, abs=4 * np.sqrt(0.25 / 600))
    error = diffusion.squared.std() / np.sqrt(600)
    assert diffusion.squared.mean() == pytest.approx(1, abs=4 * error)
    assert window.squared.mean() < 1 - 4 * error
    # The Euler form of the test rejects the diffusion itself at this distance of observations.
    euler = (residual.euler_residual(before, true, 1.0, law) ** 2).mean()
    assert euler > 1.2


def test_a_short_euler_step_is_almost_standard_normal():
    rng = np.random.default_rng(13)
    law = Dyson(parameters=20, beta=2.0)
    before = np.tile([8.0, 6.0, 4.0, 2.0], (4000, 1))
    after = laguerre.transition_sample(before, 1e-3, law, draws=1, generator=rng)[:, 0]
    found = residual.euler_residual(before, after, 1e-3, law)
    assert np.abs(found.mean(axis=0)).max() < 4 / np.sqrt(4000)
    assert (found**2).mean() == pytest.approx(1, abs=4 * np.sqrt(2 / 16_000))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Dyson(parameters=5, beta=0.5),
        lambda: Dyson(parameters=5, damping=-1.0),
        lambda: Dyson(parameters=5).wall_strength(5),
        lambda: dyson.implicit_step(np.ones((1, 1)), np.ones((1, 1)), 0.0, Dyson(parameters=5)),
        lambda: dyson.implicit_step(np.ones((1, 1)), np.full((1, 1), np.nan), 0.1, Dyson(parameters=5)),
        lambda: laguerre.stationary_sample(2, Dyson(parameters=5), draws=1, generator=np.random.default_rng(0)),
        lambda: laguerre.transition_sample(
            np.ones((1, 2)), 1.0, Dyson(parameters=5, beta=4.0), draws=1, generator=np.random.default_rng(0)
        ),
        lambda: spacings.spacing_ratios(np.ones((4, 2))),
        lambda: spacings.estimate_beta(np.ones((4, 3))),
        lambda: spacings.estimate_beta(np.tile([3.0, 2.0, 1.0], (5, 1))),
        lambda: residual.residuals(
            np.ones((1, 2)), np.ones((1, 2)), 1.0, Dyson(parameters=5), draws=3, generator=np.random.default_rng(0)
        ),
    ],
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(InputError):
        wrong()


@pytest.mark.parametrize(("width", "parameters", "step"), [(3, 10_000, 0.005), (8, 100_000, 0.05), (20, 3200, 0.005)])
def test_a_step_settles_at_any_size(width, parameters, step):
    law = Dyson(parameters=parameters)
    rng = np.random.default_rng(14)
    start = np.zeros((4, width))
    for _ in range(3):
        increment = np.sqrt(step) * rng.standard_normal(start.shape)
        after = dyson.implicit_step(start, increment, step, law)
        pull = (after - start - increment) / step - dyson.sigma_drift(after, law)
        assert np.abs(pull).max() < 1e-6 * np.abs(dyson.sigma_drift(after, law)).max()
        start = after


def test_the_simulation_finds_what_it_says():
    found = Simulated(paths=300, draws=8000, observations=2000).run()
    assert found.drift_deviation < 4
    assert found.estimate.low < 1 < found.estimate.high
    assert found.window_past == 0 < found.diffusion_past
    assert np.abs(found.window_memory[: 1 + found.settings.window] - np.linspace(1, 0, 9)).max() < 0.15
    assert found.density.sum() * (found.spacing[1] - found.spacing[0]) == pytest.approx(1, abs=0.01)
    assert (np.diff(found.path[1:], axis=-1) < 0).all()
    assert f"{found.estimate.beta:.2f}" in found.sentences[3]
    assert len(draw(found).axes) == 4


def test_a_simulation_without_a_matrix_says_so():
    found = Simulated(beta=3.0, paths=30, steps=20, observations=400).run()
    assert np.isnan(found.drift_measured).all()
    assert "nan" not in " ".join(found.sentences)
    assert len(draw(found).axes) == 4


@pytest.mark.parametrize("wrong", [{"window": 2}, {"parameters": 8}, {"duration": 0.0}, {"beta": 0.5}])
def test_a_simulation_that_cannot_be_is_refused(wrong):
    with pytest.raises(InputError):
        Simulated(**wrong)
