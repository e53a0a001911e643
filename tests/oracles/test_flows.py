"""Signal, gap and matrix flows against closed forms, another integrator and simulated descent; the damping test.

Statistical tolerances are four standard errors unless said.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.integrate import solve_ivp

from spectral_edge.errors import InputError
from spectral_edge.plots.simulations import flow as picture
from spectral_edge.simulate.flow import Flow
from spectral_edge.theory import gap_flow, matrix_flow, terms
from spectral_edge.theory.damping import damping_ends, damping_rate, damping_test_pub
from spectral_edge.theory.linear_network import LinearNetwork, mode_strength
from spectral_edge.theory.quadratic import Quadratic, rows, window_sigma
from spectral_edge.theory.signal_flow import (
    leaky_energy,
    leaky_rate,
    linear_flow,
    rolling_energy,
    signal_flow_pub,
    signal_rate_pub,
    steady_energy_pub,
)

ETA, W = 1e-3, 10
positive = st.floats(0.05, 20.0)
pairs = arrays(np.float64, 2, elements=positive)
series = arrays(np.float64, st.integers(5, 40), elements=st.floats(-10, 10))


# --- terms -------------------------------------------------------------------------------------------------------


@given(pairs, pairs, st.floats(0, 5))
def test_terms_one_and_two_are_exact_for_free_decay(d, curvature, decay):
    """-kappa_a d_a + kappa_b d_b, no factor two; in d^2 the rate is twice that."""
    asymmetry = terms.curvature_asymmetry(d, rate=ETA, curvature=curvature)
    damped = terms.damping(d[0] - d[1], rate=ETA, curvature=curvature, decay=decay)
    kappa = ETA * (curvature + decay)
    assert asymmetry + damped == pytest.approx(-kappa[0] * d[0] + kappa[1] * d[1], rel=1e-9, abs=1e-12)
    relaxed = terms.relaxation_pub(d**2, rate=ETA, curvature=curvature, decay=decay)
    np.testing.assert_allclose(relaxed, 2 * d * (-kappa * d), rtol=1e-12)


def test_free_decay_in_discrete_steps():
    """One step multiplies d by 1 - kappa and d^2 by 1 - (2 kappa - kappa^2)."""
    d, curvature = np.array([3.0, 1.0]), np.array([2.0, 7.0])
    after = d * (1 - ETA * curvature)
    gap = (after[0] - after[1]) - (d[0] - d[1])
    asymmetry = terms.curvature_asymmetry(d, rate=ETA, curvature=curvature)
    assert gap == pytest.approx(asymmetry + terms.damping(d[0] - d[1], rate=ETA, curvature=curvature), rel=1e-9)
    kappa = ETA * curvature
    np.testing.assert_allclose(after**2 - d**2, -(2 * kappa - kappa**2) * d**2, rtol=1e-9)


@given(pairs, pairs, pairs, st.floats(0, 5))
def test_the_consistent_driving_is_that_of_the_signal_flow(d, curvature, source, decay):
    """d(d)/dt = d(d^2)/dt / (2 d) for both modes gives the gap flow, with a driving smaller than printed by eta / 2."""
    signal = signal_rate_pub(d**2, rate=ETA, curvature=curvature, window=W, source=source, decay=decay) / (2 * d)
    options = {"rate": ETA, "curvature": curvature, "window": W, "source": source, "decay": decay}
    found = gap_flow.gap_rate_pub(d, form="consistent", **options)
    scale = np.abs(signal).sum() + 1e-12
    assert found == pytest.approx(signal[0] - signal[1], abs=1e-9 * scale)
    printed = terms.driving_pub(d, rate=ETA, window=W, source=source)
    consistent = terms.driving_consistent(d, rate=ETA, window=W, source=source)
    assert printed == pytest.approx(2 / ETA * consistent, rel=1e-12)


@given(pairs, pairs, st.floats(0, 5), st.sampled_from(["published", "consistent"]))
def test_the_steady_gap_is_implicit_as_printed_and_explicit_as_solved(source, curvature, decay, form):
    options = {"rate": ETA, "curvature": curvature, "window": W, "source": source, "decay": decay, "form": form}
    energy = steady_energy_pub(rate=ETA, curvature=curvature, window=W, source=source, decay=decay)
    d = np.sqrt(energy * (2 / ETA if form == "published" else 1))
    gap = gap_flow.steady_gap_pub(**options)
    assert gap == pytest.approx(d[0] - d[1])
    driving = {"published": terms.driving_pub, "consistent": terms.driving_consistent}[form]
    closing = terms.curvature_asymmetry(d, rate=ETA, curvature=curvature)
    c = closing + driving(d, rate=ETA, window=W, source=source)
    scale = np.abs(closing) + ETA * (curvature.max() + decay) * d.max()
    assert ETA * (curvature.mean() + decay) * gap == pytest.approx(c, abs=1e-9 * scale)
    assert gap_flow.gap_rate_pub(d, **options) == pytest.approx(0.0, abs=1e-9 * scale)


def test_units_by_rescaling_the_parameters():
    """u -> b u leaves eta h alone (eta -> b^2 eta, h -> h / b^2, G -> G / b): a rate of g must scale with b."""
    d, curvature, source, b = np.array([3.0, 1.0]), np.array([2.0, 7.0]), np.array([4.0, 1.0]), 3.0

    def rates(d, rate, curvature, source):
        return [
            terms.curvature_asymmetry(d, rate=rate, curvature=curvature),
            terms.damping(d[0] - d[1], rate=rate, curvature=curvature),
            terms.driving_consistent(d, rate=rate, window=W, source=source),
            terms.driving_pub(d, rate=rate, window=W, source=source),
        ]

    before = np.array(rates(d, ETA, curvature, source))
    after = np.array(rates(b * d, b**2 * ETA, curvature / b**2, source / b**2))
    np.testing.assert_allclose(after / before, [b, b, b, 1 / b], rtol=1e-12)


def test_undefined_terms_are_nan():
    assert np.isnan(terms.driving(np.array([1.0, 0.0]), row=np.array([1.0, 1.0])))
    steady = gap_flow.steady_gap_pub(rate=ETA, curvature=np.array([1.0, -1.0]), window=W, source=np.ones(2))
    assert np.isnan(steady)


# --- signal flow -------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(2, 8))
def test_add_drop_is_exact(seed, window):
    updates = np.random.default_rng(seed).standard_normal((3, 20, 2))
    energy = rolling_energy(updates, window=window)
    np.testing.assert_allclose(energy[:, 0], (updates[:, :window] ** 2).sum(axis=1))
    np.testing.assert_allclose(
        np.diff(energy, axis=1), updates[:, window:] ** 2 - updates[:, : 20 - window] ** 2, atol=1e-12
    )
    moment = matrix_flow.rolling_moment(updates, window=window)
    step = matrix_flow.rolling_step(moment[:, :-1], new=updates[:, window:], old=updates[:, : 20 - window])
    np.testing.assert_allclose(step, moment[:, 1:], atol=1e-12)
    np.testing.assert_allclose(np.diagonal(moment, axis1=-2, axis2=-1), energy, atol=1e-12)


def test_the_linear_flow_is_exact_for_linear_sources_and_of_second_order_for_smooth_ones():
    loss = np.array([0.0, 0.3, 1e-5, 4.0, -0.2])
    begin, slope = np.array([1.0, 2.0, 0.5, 1.0, 3.0]), 0.3
    sources = (1 + slope * np.arange(6.0))[:, None] * np.ones(5)
    found = linear_flow(begin, sources, loss=loss)
    twin = solve_ivp(
        lambda t, e: -loss * e + 1 + slope * t, (0, 5), begin, t_eval=np.arange(6.0), rtol=1e-11, atol=1e-12
    )
    np.testing.assert_allclose(found, twin.y.T, rtol=1e-8)

    def error(refined):
        """dE/dt = -0.3 E + cos t from E(0) = 1 to t = 4, whose solution is elementary."""
        h, times = 1 / refined, np.arange(4 * refined + 1) / refined
        value = linear_flow(np.ones(1), h * np.cos(times)[:, None], loss=0.3 * h)[-1, 0]
        a, t = 0.3, 4.0
        particular = (a * np.cos(t) + np.sin(t)) / (1 + a * a)
        return abs(value - (particular + (1 - a / (1 + a * a)) * np.exp(-a * t)))

    assert np.log2(error(8) / error(16)) == pytest.approx(2.0, abs=0.05)


def test_published_signal_flow_rests_at_its_fixed_point_far_above_the_window():
    """Under a constant gradient the window holds W eta^2 G^2; the published fixed point is 1 / (2 eta h) times that."""
    curvature = np.array([1e-3, 1.0])
    steady = steady_energy_pub(rate=0.01, curvature=curvature, window=W, source=4.0)
    run = signal_flow_pub(steady / 2, np.full((400_001, 2), 4.0)[::200], rate=0.01, curvature=curvature, window=W)
    assert run[-1, 1] == pytest.approx(steady[1], rel=1e-9)
    rate = signal_rate_pub(steady, rate=0.01, curvature=curvature, window=W, source=4.0)
    np.testing.assert_allclose(rate, 0.0, atol=1e-12)
    window = rolling_energy(np.full((W, 2), 0.01 * 2.0), window=W)[0]
    np.testing.assert_allclose(steady / window, [5e4, 50.0], rtol=1e-9)


def test_the_leaky_window_steps_exactly_and_converges_to_its_rate():
    """A row acts at a constant rate within its observation: no error there. For a drive that varies, first order."""
    start, updates = np.array([2.0]), np.array([[0.7], [0.1]])
    found = leaky_energy(start, updates, window=W)
    twin = start
    for row in updates:
        solved = solve_ivp(lambda _, e, r=row: leaky_rate(e, r, window=W), (0, 1), twin, rtol=1e-11, atol=1e-13)
        twin = solved.y[:, -1]
    np.testing.assert_allclose(found[-1], twin, rtol=1e-9)
    true = solve_ivp(lambda t, e: leaky_rate(e, np.exp(-0.1 * t), window=W), (0, 20), start, rtol=1e-11, atol=1e-13).y[
        0, -1
    ]
    errors = []
    for refined in (4, 8, 16):
        time = (np.arange(20 * refined) + 1) / refined
        held = leaky_energy(start, np.exp(-0.1 * time)[:, None], window=W, memory=W * refined)
        errors.append(abs(held[-1, 0] - true))
    np.testing.assert_allclose(np.log2(np.array(errors[:-1]) / errors[1:]), 1.0, atol=0.1)
    moments = matrix_flow.leaky_moment(start[:, None], updates, window=W)
    np.testing.assert_allclose(moments[..., 0], found)


# --- gap flow ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["published", "consistent"])
def test_the_gap_flow_in_its_own_variables_is_that_of_its_squares(form):
    rng = np.random.default_rng(0)
    start, curvature = rng.uniform(0.5, 2.0, (4, 2)), np.array([1.0, 5.0])
    source = np.exp(-0.01 * np.arange(200))[:, None, None] * rng.uniform(0.5, 2.0, (4, 2))
    options = {"rate": 0.01, "curvature": curvature, "window": W, "decay": 0.3, "form": form}
    own = gap_flow.solve_gap_pub(start, source, **options)
    squares = gap_flow.strengths_pub(start, np.swapaxes(source, 0, 1), **options)
    np.testing.assert_allclose(own, np.swapaxes(squares, 0, 1), rtol=1e-5)
    # Told the true strengths of a run that obeys it, the theorem reproduces the gap.
    settled = own[100:]
    told = gap_flow.gap_given_strengths(settled, source[100:], **options)
    np.testing.assert_allclose(told, settled[..., 0] - settled[..., 1], atol=1e-4 * settled.max())


def test_the_gap_flow_says_where_it_cannot_go():
    options = {"rate": 0.1, "curvature": np.ones(2), "window": W}
    with pytest.raises(InputError, match="squared gradients"):
        gap_flow.solve_gap_pub(np.ones((1, 2)), np.full((9, 1, 2), -1.0), **options)
    with pytest.raises(InputError, match="moved along both"):
        gap_flow.solve_gap_pub(np.array([[1.0, 0.0]]), np.ones((9, 1, 2)), **options)
    # A strength that dies out is lost in g and m, and kept in the squares.
    silent = np.zeros((400, 1, 2))
    silent[..., 0] = 1.0
    with pytest.raises(InputError, match="tolerance"):
        gap_flow.solve_gap_pub(np.ones((1, 2)), silent, **options)
    squares = gap_flow.strengths_pub(np.ones(2), silent[:, 0], **options)
    assert squares[-1, 1] == pytest.approx(np.exp(-0.1 * 399))


def test_corrected_gap_rests_where_the_window_does():
    gradient, rate = np.array([3.0, 1.0]), 0.01
    held = rolling_energy(np.tile(rate * gradient, (W, 1)), window=W)[0]
    d = np.sqrt(held)
    assert gap_flow.steady_gap(gradient, rate=rate, window=W) == pytest.approx(d[0] - d[1])
    assert gap_flow.gap_rate(d, row=-rate * gradient, window=W) == pytest.approx(0.0, abs=1e-15)


# --- matrix flow -------------------------------------------------------------------------------------------------


@given(arrays(np.float64, (12, 3), elements=st.floats(-5, 5)))
def test_eigenvalues_of_the_moment_are_the_singular_values(updates):
    found = matrix_flow.moment_sigma(matrix_flow.rolling_moment(updates, window=W))
    true = window_sigma(updates, W)
    np.testing.assert_allclose(found, true, atol=1e-7 * (1 + true.max()))


@pytest.mark.parametrize(("drive", "decay"), [("together", 0.0), ("in_turn", 0.0), ("together", 1.0)])
def test_the_rolling_matrix_flow_holds_where_the_published_flow_errs_by_orders_of_magnitude(drive, decay):
    """Singular values of simulated noisy descent against flows told curvature, start, rate and noise variance only."""
    result = Flow(drive=drive, weight_decay=decay, noise=1e-4, seed=1).run()
    true, rolling = result.strengths["true"], result.strengths["rolling"]
    # sigma_1 in every window, the jump's included; sigma_2, 400 times smaller, feels the noise of single windows.
    assert np.abs(rolling[:, 0] / true[:, 0] - 1).max() < 0.02
    assert np.median(np.abs(rolling[:, 1] / true[:, 1] - 1)) < 0.02
    assert result.gap_error["rolling"] < 0.02
    assert result.ratio_error["rolling"] < 0.02
    assert result.gap_error["published"] > 100
    assert result.gap_error["consistent"] > 5
    if drive == "together":
        # Energies along fixed axes are no singular values here: the true R is hundreds, not a few.
        assert np.median(result.ratio["true"]) > 100 > 10 > np.median(result.ratio["axes"])
        assert result.gap_error["axes"] > 0.3
        assert result.gap_error["leaky"] < 0.04
        assert result.ratio_error["leaky"] > 1
    else:
        # In turn the modes' left directions are orthogonal, energies are eigenvalues, and the leaky form does.
        assert result.gap_error["axes"] == pytest.approx(result.gap_error["leaky"], rel=1e-3)
        assert result.gap_error["leaky"] < 0.06
        assert result.ratio_error["leaky"] < 0.06


def test_what_a_leaky_window_gets_wrong_and_why():
    """sigma_1 feels the mean age of the rows, sigma_2 of modes driven together the spread of their ages."""
    curvature = np.array([1.0, 5.0])
    updates = matrix_flow.predicted_rows(np.array([1.0, 1.0]), rate=1e-4, curvature=curvature, every=1, count=400)
    true = window_sigma(updates, W)[200]
    rolling = matrix_flow.rolling_moment(updates, window=W)
    ratios = {}
    for memory in (W, W / 2):
        moment = matrix_flow.leaky_moment(rolling[0], updates[W:], window=W, memory=memory)[199]
        ratios[memory] = matrix_flow.moment_sigma(moment) / true
        spread = matrix_flow.age_spread(W, kind="leaky", memory=memory) / matrix_flow.age_spread(W)
        assert ratios[memory][1] == pytest.approx(spread, rel=0.01)
    assert ratios[W][1] == pytest.approx(np.sqrt(12), rel=0.02)
    assert abs(ratios[W / 2][0] - 1) < 0.1 * abs(ratios[W][0] - 1)
    middle = updates[200 + W // 2]
    approximated = matrix_flow.second_sigma(middle, decline=1e-4 * curvature, window=W)
    assert approximated == pytest.approx(true[1], rel=0.01)
    with pytest.raises(InputError, match="positive"):
        matrix_flow.age_spread(W, kind="leaky", memory=0.0)


def test_moments_under_decaying_and_constant_drives():
    decline, row = np.array([0.01, 0.03]), np.array([2.0, 1.0])
    past = row * np.exp(decline * np.arange(3000)[::-1, None])[-W:]
    box = matrix_flow.decaying_moment(row, decline=decline, window=W)
    np.testing.assert_allclose(box, past.T @ past, rtol=1e-10)
    long = row * np.exp(decline * np.arange(400)[::-1, None])
    leaky = matrix_flow.leaky_moment(np.zeros((2, 2)), long, window=W)[-1]
    np.testing.assert_allclose(
        leaky, matrix_flow.decaying_moment(row, decline=decline, window=W, kind="leaky"), rtol=1e-5
    )
    # A drive that dies faster than the window forgets leaves no such state behind.
    fast = matrix_flow.decaying_moment(row, decline=np.array([0.01, 0.06]), window=W, kind="leaky")
    assert np.isfinite(fast[0, 0])
    assert np.isnan(fast[1, 1])
    still = matrix_flow.decaying_moment(row, decline=np.zeros(2), window=W)
    np.testing.assert_allclose(still, matrix_flow.constant_moment(row, window=W))
    np.testing.assert_allclose(matrix_flow.leaky_moment_rate(still, row, window=W), 0.0, atol=1e-14)


def test_predicted_rows_are_those_of_descent():
    model = Quadratic(curvature=np.array([1.0, 4.0]), noise=np.zeros(2), decay=0.7)
    start, target = np.array([[1.0, -2.0]]), np.array([3.0, 0.5])
    path = model.descend(model.start(start), steps=60, rate=0.02, every=3, target=target)
    found = matrix_flow.predicted_rows(
        start, rate=0.02, curvature=model.curvature, every=3, count=20, decay=0.7, target=target
    )
    np.testing.assert_allclose(found, rows(path), rtol=1e-9)


def test_a_window_of_a_linear_network_from_its_closed_form():
    """Raw weight updates of two layers: balanced modes move by r_j = sqrt(2) times the change of sqrt(u_j)."""
    network, start = LinearNetwork(target=np.diag([3.0, 1.0])), np.array([0.05, 0.02])
    errors = []
    for rate in (0.005, 0.0025, 0.00125):
        every, steps = round(0.05 / rate), round(2.5 / rate)
        path = network.descend(network.aligned_start(start), rate=rate, steps=steps, every=every)
        strength = mode_strength(path.steps * rate, target=np.array([3.0, 1.0]), start=start)
        predicted = matrix_flow.rolling_moment(np.sqrt(2) * np.diff(np.sqrt(strength), axis=0), window=W)
        # While both modes learn; afterwards a window holds nothing but the difference of two small errors.
        found, true = matrix_flow.moment_sigma(predicted)[:30], window_sigma(path.rows, W)[:30, :2]
        errors.append(np.abs(found / true - 1).max(axis=0))
    assert (errors[-1] < 0.02).all()
    order = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(order, 1.0, atol=0.3)


@pytest.mark.parametrize("every", [1, 5])
def test_expected_moment_of_noisy_descent(every):
    """The moment's expectation, entry by entry, from a known start; h = 0 included."""
    model = Quadratic(curvature=np.array([0.0, 4.0]), noise=np.array([1.0, 2.0]))
    runs, rng, start = 3000, np.random.default_rng(2), np.array([1.0, 1.0])
    path = model.descend(model.start(np.tile(start, (runs, 1))), steps=W * every, rate=0.05, every=every, generator=rng)
    measured = matrix_flow.rolling_moment(rows(path), window=W)[:, 0]
    options = {"rate": 0.05, "curvature": model.curvature, "every": every, "count": W}
    predicted = matrix_flow.rolling_moment(
        matrix_flow.predicted_rows(start, **options),
        window=W,
        variance=matrix_flow.noise_moment(noise=model.noise, **options),
    )[0]
    error = measured.std(axis=0, ddof=1) / np.sqrt(runs)
    assert (np.abs(measured.mean(axis=0) - predicted) < 4 * error).all()


# --- the published test of damping -------------------------------------------------------------------------------


@given(series)
def test_the_published_damping_test_reads_two_ends(gap):
    here = gap[1:-1] - gap[1:-1].mean()
    slope = (gap[2:] - gap[:-2]) / 2
    assert (here * slope).sum() == pytest.approx(damping_ends(gap), abs=1e-9 * (1 + (gap**2).sum()))


def autoregression(rho, runs, length, rng):
    noise = rng.standard_normal((length, runs))
    found = np.empty_like(noise)
    found[0] = noise[0] / np.sqrt(1 - rho**2)
    for t in range(1, length):
        found[t] = rho * found[t - 1] + noise[t]
    return found.T


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, 0.99])
def test_damping_has_no_expectation_in_a_stationary_run(rho):
    gap = autoregression(rho, 2000, 400, np.random.default_rng(7))
    found = damping_test_pub(gap)
    assert abs(found.mean()) < 4 * found.std(ddof=1) / np.sqrt(len(found))
    if 0 < rho < 0.99:
        rate = damping_rate(gap)
        # The mean is removed, which biases the estimate upwards by about (1 + 3 rho) / T in rho.
        assert rate.mean() == pytest.approx(-np.log(rho), abs=4 * rate.std() / np.sqrt(len(rate)) + 6 / 400 / rho)


def test_damping_is_seen_in_every_transient():
    time = np.arange(100)
    rng = np.random.default_rng(0)
    falling = 10 * np.exp(-0.05 * time) + autoregression(0.5, 500, 100, rng)
    assert damping_test_pub(falling).mean() < -0.1
    assert damping_test_pub(falling[:, ::-1]).mean() > 0.1
    # Damped or not, what counts is where the ends are: a fall that speeds up has the sign of a rise that does.
    assert damping_test_pub(-falling[:, ::-1]).mean() > 0.1
    straight = damping_test_pub(10 - 0.1 * time + autoregression(0.0, 500, 100, rng))
    assert abs(straight.mean()) < 4 * straight.std(ddof=1) / np.sqrt(500)
    assert np.isnan(damping_test_pub(np.ones(3)))
    assert np.isnan(damping_test_pub(np.ones(10)))
    for step in (0.1, 0.3, 1 / 3, 1e-3, np.pi):  # differences of an exact line vary by rounding only
        assert np.isnan(damping_test_pub(step * np.arange(10.0)))
    for stride in (0, 40):
        with pytest.raises(InputError, match="stride"):
            damping_rate(np.ones(40), stride=stride)


def test_the_published_damping_correlation_of_a_process_with_an_arrow_of_time():
    """Its covariance has no expectation; the correlation has one, which fades with the length."""
    rng = np.random.default_rng(3)

    def process(length, runs=60_000):
        found = np.zeros((runs, length))
        state = np.full(runs, 5.0)
        for t in range(-60, length):
            state = 0.8 * state + rng.exponential(size=runs)
            if t >= 0:
                found[:, t] = state
        return found

    short, long = process(10), process(100)
    means = [damping_test_pub(gap).mean() for gap in (short, long)]
    assert means[0] < -0.01
    assert abs(means[1]) < abs(means[0]) / 3
    ends = damping_ends(short)
    assert abs(ends.mean()) < 4 * ends.std() / np.sqrt(len(ends))
    assert np.isnan(damping_rate(np.array([1.0, -1.0] * 20)))


# --- simulation --------------------------------------------------------------------------------------------------


def test_the_picture_and_the_sentences():
    result = Flow(steps=200, jump_step=100).run()
    assert len(picture.draw(result).axes) == 4
    assert f"{result.gap_error['published']:.3g} as printed" in result.sentences[0]
    terms_ = result.terms
    np.testing.assert_allclose(terms_["driving_pub"], 2 / ETA * terms_["driving_consistent"])
    assert np.isnan(list(Flow(steps=100, window=50).run().sigma_error.values())).all()  # no window lies late enough


@pytest.mark.parametrize(
    "wrong",
    [
        {"curvature": (1.0,)},
        {"curvature": (-1.0, 1.0)},
        {"steps": 5},
        {"every": 0},
        {"memory": -1.0},
        {"learning_rate": 0.0},
        {"learning_rate": 0.4},
        {"gradient": (0.0, 0.0), "jump_step": 0},
        {"noise": -0.1},
        {"jump_step": -5},
        {"weight_decay": -0.5},
        {"drive": "apart"},
    ],
)
def test_the_simulation_refuses(wrong):
    with pytest.raises(InputError):
        Flow(**wrong)
