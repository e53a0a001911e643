"""Adiabatic parameters on trajectories that are run again in other units, by gradient descent itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectral_edge.errors import InputError
from spectral_edge.measure import WindowOptions, Windows
from spectral_edge.theory import adiabatic
from spectral_edge.theory.adiabatic import EXPONENTS, Rescaling, transformed

HESSIAN = np.diag([1.0, 0.3, 0.1, 0.03, 0.01, 0.003])
RATE = 0.4
factors = st.floats(0.05, 20.0)


def trajectory(change):
    """21 iterates of gradient descent on a noisy quadratic, with everything in other units."""
    rng = np.random.default_rng(3)
    # L(theta) = loss * f(theta / parameters), so the gradient is loss / parameters * f' and noise goes with it
    theta = change.parameters * np.ones(6) if change.units else np.ones(6)
    scale = change.parameters if change.units else 1.0
    path = [theta]
    for _ in range(20):
        gradient = change.loss / scale * (HESSIAN @ (theta / scale) + 0.3 * rng.standard_normal(6))
        theta = theta - RATE * change.rate * gradient
        path.append(theta)
    return np.diff(np.array(path), axis=0)


def measured(updates, change):
    """Every adiabatic parameter of the newest window of 10, each by the library's measurement."""
    gram = (updates @ updates.T)[None]
    found = Windows(
        gram, WindowOptions(10, k_star="abs"), learning_rate=np.array([RATE * change.rate]), sketch_error=np.zeros(1)
    )
    values = {name: float(found[name].values[0]) for name in EXPONENTS if name != "adiabatic_relax"}
    _, _, right = np.linalg.svd(updates[-10:], full_matrices=False)
    curvature = np.mean([v @ HESSIAN @ v for v in right[:2]]) * change.curvature
    values["adiabatic_relax"] = float(
        adiabatic.adiabatic_relax(values["adiabatic_rot"], interval=1, relaxation_rate=RATE * change.rate * curvature)
    )
    return values


@given(factors, factors)
def test_what_other_units_do_to_a_run(loss, parameters):
    """The same course in other units: pure numbers stay, the published ones change as `transformed` says."""
    change = Rescaling(loss=loss, parameters=parameters, rate=parameters**2 / loss)
    assert change.same_trajectory
    base, updates = trajectory(Rescaling()), trajectory(change)
    np.testing.assert_allclose(updates, parameters * base, rtol=1e-7, atol=1e-12)
    before, after = measured(base, Rescaling()), measured(updates, change)
    for name in EXPONENTS:
        assert after[name] == pytest.approx(before[name] * transformed(name, change), rel=1e-6), name
    for name in ("adiabatic_rot", "adiabatic_relax", "adiabatic_emp"):
        assert transformed(name, change) == pytest.approx(1.0), name


@pytest.mark.parametrize(
    ("change", "published"),
    [
        (Rescaling(loss=10, rate=0.1), 10.0),
        (Rescaling(parameters=2), 0.25),
        (Rescaling(parameters=10, rate=10, units=False), 1e-3),
    ],
    ids=["loss", "parameters", "rate and updates"],
)
def test_the_published_parameter_changes_with_the_description(change, published):
    base = trajectory(Rescaling())
    before, after = measured(base, Rescaling()), measured(change.parameters * base, change)
    assert after["adiabatic_pub_lambda"] == pytest.approx(published * before["adiabatic_pub_lambda"], rel=1e-9)
    for name in EXPONENTS:
        assert after[name] == pytest.approx(before[name] * transformed(name, change), rel=1e-9), name
    assert after["adiabatic_rot"] == pytest.approx(before["adiabatic_rot"], rel=1e-9)


def test_steps_that_are_longer_are_another_run():
    assert not Rescaling(parameters=10, rate=10, units=False).same_trajectory
    assert not Rescaling(parameters=2).same_trajectory
    assert Rescaling(parameters=2, rate=4).same_trajectory
    # ten times the rate relaxes ten times as fast
    assert transformed("adiabatic_relax", Rescaling(parameters=10, rate=10, units=False)) == pytest.approx(0.1)


@given(factors, factors, st.booleans())
def test_the_kernel_form_is_a_pure_number_of_the_right_kernel(loss, parameters, whole):
    """A linear network f = w V x by gradient descent on squared loss; the kernel's change by one step."""
    rate = parameters**2 / loss

    def kernel(change_loss, change_parameters, change_rate):
        rng = np.random.default_rng(0)
        x, y = rng.standard_normal((4, 3)), rng.standard_normal(4)
        w, v = (change_parameters * 0.5 * rng.standard_normal(shape) for shape in (5, (5, 3)))
        found = []
        for _ in range(2):
            w_plain, v_plain = w / change_parameters, v / change_parameters
            residual = x @ v_plain.T @ w_plain - y
            # rows of J: derivatives by w, then by V
            by_w = x @ v_plain.T / change_parameters
            by_v = np.einsum("k,ni->nki", w_plain, x) / change_parameters
            jacobian = np.concatenate([by_w, by_v.reshape(4, -1)], axis=1)
            # with the curvature of the loss at the output, or without
            found.append(jacobian @ jacobian.T / 4 * (change_loss if whole else 1.0))
            gradient = change_loss * jacobian.T @ residual / 4
            w = w - change_rate * gradient[:5]
            v = v - change_rate * gradient[5:].reshape(5, 3)
        value = np.linalg.eigvalsh(found[0])[::-1]
        change = np.linalg.norm(found[1] - found[0])
        return float(adiabatic.adiabatic_ntk(change, learning_rate=change_rate, gap=value[0] - value[1]))

    expected = kernel(1.0, 1.0, 0.05) * (1.0 if whole else loss)
    assert kernel(loss, parameters, 0.05 * rate) == pytest.approx(expected, rel=1e-6)


def test_formulas():
    assert adiabatic.adiabatic_pub_sigma(3.0, learning_rate=0.1, gap_sigma=2.0) == pytest.approx(7.5)
    assert adiabatic.adiabatic_pub_lambda(3.0, learning_rate=0.1, gap_lambda=2.0) == pytest.approx(7.5)
    assert adiabatic.adiabatic_rot(3.0, gap_lambda=2.0) == pytest.approx(1.5)
    assert adiabatic.adiabatic_relax(1.5, interval=10, relaxation_rate=0.01) == pytest.approx(15.0)
    assert adiabatic.adiabatic_emp(1.5, leading=2) == pytest.approx(0.25)
    # no ratio over nothing
    assert np.isnan(adiabatic.adiabatic_rot(3.0, gap_lambda=0.0))
    assert np.isnan(adiabatic.adiabatic_relax(1.5, interval=10, relaxation_rate=-0.01))
    assert np.isnan(adiabatic.adiabatic_pub_sigma(3.0, learning_rate=0.1, gap_sigma=0.0))


def test_names_and_factors_are_checked():
    with pytest.raises(InputError):
        transformed("adiabatic", Rescaling())
    with pytest.raises(InputError):
        Rescaling(loss=0.0)
