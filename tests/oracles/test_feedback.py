"""The feedback loop against its closed forms, its own numerics, and a root finder."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from spectral_edge.errors import InputError
from spectral_edge.plots.simulations.feedback import draw
from spectral_edge.simulate.feedback import Feedback
from spectral_edge.theory import feedback
from spectral_edge.theory.feedback import Loop

loops = st.builds(
    Loop,
    window=st.floats(2.0, 40.0),
    noise=st.floats(0.1, 5.0),
    rate=st.floats(0.05, 5.0),
    floor=st.sampled_from([0.0, 0.01, 0.05, 0.1, 0.3]),
)


def roots(drive, loop):
    """Zeros of dq/dt above zero, by a scan for sign changes."""
    grid = np.concatenate([np.logspace(-9, -2, 400), np.linspace(0.01, 1, 4001)[1:]])

    def rate(q):
        return float(feedback.closed_rate(np.array(q), np.array(drive), loop))

    value = [rate(q) for q in grid]
    return [brentq(rate, a, b) for a, b, x, y in zip(grid, grid[1:], value, value[1:], strict=False) if x * y < 0]


def test_the_published_numbers_of_the_minimal_loop():
    loop = Loop(window=10, noise=1)
    assert feedback.fold_drives(loop)[0] == pytest.approx(np.sqrt(8) / 10)
    states = feedback.fixed_points(np.array([0.28, 0.3, 0.5, 1.0]), loop)
    assert np.isnan(states[0, 1:]).all()
    assert np.allclose(states[1:, 2], [0.6667, 0.9123, 0.9796], atol=5e-5)
    assert (states[:, 0] == 0).all()


@given(loops, st.floats(0.3, 4.0))
def test_fixed_points_are_all_the_zeros_of_the_rate(loop, relative):
    drive = relative * np.sqrt(8 * loop.noise) / loop.window
    found = feedback.fixed_points(np.array(drive), loop)
    assert np.allclose(feedback.closed_rate(found, np.array(drive), loop)[~np.isnan(found)], 0, atol=1e-9)
    expected = roots(drive, loop)
    positive = found[found > 0]
    folds = [fold for fold in feedback.fold_drives(loop) if np.isfinite(fold)]
    if all(abs(drive / fold - 1) > 1e-3 for fold in folds):
        assert len(positive) == len(expected)
        assert np.allclose(positive, expected, atol=1e-8)
    if loop.floor == 0 and len(positive):
        square = (drive * loop.window) ** 2
        assert np.allclose(square * (positive**2 - positive) + 2 * loop.noise, 0, atol=1e-8 * square)


@given(loops, st.floats(0.3, 4.0))
def test_growth_rates_are_the_slope_and_the_middle_state_is_the_unstable_one(loop, relative):
    drive = np.array(relative * np.sqrt(8 * loop.noise) / loop.window)
    states = feedback.fixed_points(drive, loop)
    growth = feedback.growth_rate(states, drive, loop)
    step = 1e-6
    slope = (feedback.closed_rate(states + step, drive, loop) - feedback.closed_rate(states - step, drive, loop)) / (
        2 * step
    )
    assert np.allclose(growth, slope, rtol=1e-4, atol=1e-5 * loop.rate, equal_nan=True)
    if not np.isnan(states).any() and states[2] - states[1] > 1e-4 and states[1] - states[0] > 1e-4:
        assert growth[0] < 0 < growth[1]
        assert growth[2] < 0
    if loop.floor == 0:
        assert growth[0] == pytest.approx(-loop.rate)
        assert np.allclose(growth[1:], loop.rate * (1 - 2 * states[1:]), atol=1e-6 * loop.rate, equal_nan=True)


@given(loops, st.floats(0.001, 0.999))
def test_the_diagram_inverts_the_fixed_points(loop, share):
    state = np.array(loop.floor + (1 - loop.floor) * share)
    drive = feedback.drive_at(state, loop)
    assert feedback.closed_rate(state, drive, loop) == pytest.approx(0, abs=1e-10 * max(1, loop.rate))


@pytest.mark.parametrize("floor", [0.01, 0.03, 0.08])
def test_folds_are_where_the_number_of_states_changes(floor):
    loop = Loop(floor=floor)
    low, high = feedback.fold_drives(loop)
    assert low < high
    for fold, inside in ((low, 1), (high, -1)):
        near = fold * (1 + inside * np.array([-1e-6, 1e-6]))
        counts = (~np.isnan(feedback.fixed_points(near, loop))).sum(axis=-1)
        assert counts.tolist() == [1, 3]
    for state, drive in zip(feedback.fold_states(loop), (high, low), strict=True):
        assert feedback.growth_rate(np.array(state), np.array(drive), loop) == pytest.approx(0, abs=1e-9)


def test_bistability_ends_at_a_floor_of_one_ninth():
    assert len(feedback.fold_states(Loop(floor=1 / 9 - 1e-6))) == 2
    low, high = feedback.fold_drives(Loop(floor=1 / 9 - 1e-6))
    assert high / low - 1 < 1e-6
    assert feedback.fold_states(Loop(floor=1 / 9)) == ()
    drives = np.linspace(0.01, 1, 200)
    counts = (~np.isnan(feedback.fixed_points(drives, Loop(floor=0.12)))).sum(axis=-1)
    assert (counts == 1).all()


def test_settling_slows_as_the_inverse_root_of_the_distance():
    loop = Loop()
    excess = np.logspace(-6, -4, 5)
    time = feedback.relaxation_time(feedback.fold_drives(loop)[0] * (1 + excess), loop)
    slope = np.polyfit(np.log(excess), np.log(time), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.002)
    drive = 0.4
    assert feedback.relaxation_time(np.array(drive), loop) == pytest.approx(1 / np.sqrt(1 - 8 / 16))
    assert np.isnan(feedback.relaxation_time(np.array(0.2), loop))


@pytest.mark.parametrize("closed", [True, False])
def test_the_integrator_is_of_order_four(closed):
    loop, period = Loop(floor=0.03), 20.0
    rate = feedback.closed_rate if closed else feedback.open_rate

    def smooth(time):
        return 0.5 + 0.3 * np.cos(2 * np.pi * np.asarray(time) / period)

    exact = solve_ivp(lambda t, q: rate(q, smooth(t), loop), (0, period), [0.9], rtol=1e-12, atol=1e-13).y[0, -1]
    errors = []
    for steps in (20, 40, 80):
        drive = smooth(np.linspace(0, period, 2 * steps + 1))
        errors.append(abs(feedback.evolve(np.array(0.9), drive, loop, step=period / steps, closed=closed)[-1] - exact))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (orders > 3.6).all()
    assert (orders < 5.2).all()


def cycle_area(loop, period, *, closed, low=0.05, high=0.8):
    drive = feedback.triangle(low, high, period=period, cycles=2, step=0.5)
    path = feedback.evolve(np.array(0.97), drive, loop, step=0.5, closed=closed)
    half = len(path) // 2
    return feedback.loop_area(drive[::2][half:], path[half:])


def test_slow_cycles_tell_hysteresis_from_lag():
    """The open twin's area falls as 1 / period; the loop's falls to a limit, by (1 / period)^(2/3)."""
    loop = Loop(floor=0.03)
    limit = feedback.hysteresis_area(loop)
    closed = np.array([cycle_area(loop, period, closed=True) for period in (1000, 4000)])
    opened = np.array([cycle_area(loop, period, closed=False) for period in (1000, 4000)])
    assert opened[0] / opened[1] == pytest.approx(4, rel=0.05)
    assert (closed > limit).all()
    assert np.log((closed[0] - limit) / (closed[1] - limit)) / np.log(4) == pytest.approx(2 / 3, abs=0.05)
    # Above the cusp the closed loop has lag only.
    smooth = np.array([cycle_area(Loop(floor=0.3), period, closed=True) for period in (1000, 4000)])
    assert smooth[0] / smooth[1] == pytest.approx(4, rel=0.1)


def test_the_area_of_a_circle():
    angle = np.linspace(0, 2 * np.pi, 2001)[:-1]
    assert feedback.loop_area(2 * np.cos(angle), np.sin(angle)) == pytest.approx(2 * np.pi, rel=1e-5)
    assert feedback.loop_area(np.cos(angle), np.cos(angle)) == pytest.approx(0, abs=1e-12)


def test_the_minimal_loop_does_not_recover_and_its_collapse_comes_late():
    loop = Loop()
    fold = feedback.fold_drives(loop)[0]
    delays = []
    for period in (2000, 16_000):
        drive = feedback.triangle(0.2, 0.5, period=period, cycles=1, step=0.5)
        path = feedback.evolve(np.array(0.9), drive, loop, step=0.5)
        assert path[-1] < 1e-6
        assert path[: len(path) // 10].min() > 0.85
        delays.append(fold - drive[::2][int(np.argmax(path < 0.25))])
    # A ramp passes a saddle-node late by the power 2/3 of its speed, here 8^(2/3) = 4.
    assert delays[0] / delays[1] == pytest.approx(4, rel=0.15)


def test_the_simulation_finds_what_it_says():
    found = Feedback().run()
    low, high = found.folds
    assert 0 < low - found.collapse < 0.01
    assert 0 < found.recovery - high < 0.02
    assert np.allclose(found.relaxation_measured, found.relaxation_predicted, rtol=0.01)
    assert (np.abs(found.exogenous[found.lag <= 10]) > 0.9).all()
    assert (np.abs(found.exogenous_partial[found.lag == 1]) < 0.1).all()
    assert any(f"{found.collapse:.3f}" in sentence for sentence in found.sentences)
    assert len(draw(found).axes) == 4


def test_a_cycle_below_both_folds_loses_nothing():
    found = Feedback(high=0.1, period=400.0, stream=400, dimension=100).run()
    assert np.isnan([found.collapse, found.recovery]).all()
    assert "lost" not in " ".join(found.sentences)


@pytest.mark.parametrize("floor", [0.0, 0.2])
def test_loops_without_a_closed_hysteresis_are_drawn_and_described(floor):
    found = Feedback(floor=floor, period=300.0, stream=400, dimension=50).run()
    assert np.isnan(found.area_limit)
    assert np.isnan(found.recovery)
    assert "nan" not in " ".join(found.sentences)
    assert len(draw(found).axes) == 4


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Loop(noise=0.0),
        lambda: Loop(floor=1.0),
        lambda: Feedback(low=0.5, high=0.4),
        lambda: Feedback(period=1.0),
        lambda: Feedback(energy=0.0),
        lambda: Feedback(window=2, stream=24),
        lambda: feedback.evolve(np.array(0.5), np.ones(4), Loop(), step=0.1),
    ],
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(InputError):
        wrong()
