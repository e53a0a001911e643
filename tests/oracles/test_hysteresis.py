"""Loops under a slow cycle: exact areas of a lag, planted bistable and open-loop streams, the size of the verdict."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter
from torch import nn

import spectral_edge as se
from spectral_edge.modes.cycle import Cycle, Readings, drive, read
from spectral_edge.modes.hysteresis import Loops, lag_area, loops, rate_dependence
from spectral_edge.modes.streams import Drift, planted, stream, twin

PERIODS = (200, 400, 800, 1600)


def triangle(time, period):
    return 1 - abs(2 * np.mod(time, period) / period - 1)


def measured(kind, seed, *, periods=PERIODS, cycles=7, bins=10, **options):
    """Rate dependence of every response of a planted stream."""
    found = {}
    for period in periods:
        cycle = Cycle(low=1e-3, high=1e-2, period=period, cycles=cycles)
        position = cycle.position(np.arange(cycle.steps))
        rng = np.random.default_rng([seed, period])
        rows = planted(position, cycle.rates(), Drift(dynamics=kind), rng, horizon=20, **options)
        for reading in read(rows, window=10):
            found.setdefault(reading.name, []).append(loops(reading.time, reading.values, period=period, bins=bins))
    return {name: rate_dependence(each) for name, each in found.items()}


# the area of a loop -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("period", "tau"), [(10.0, 0.3), (10.0, 1.0), (10.0, 5.0), (10.0, 80.0)])
def test_area_of_a_lag_against_simulation(period, tau):
    per_cycle = 20_000
    step = period / per_cycle
    time = (np.arange(40 * per_cycle) + 0.5) * step
    decay = np.exp(-step / tau)
    # Started at the mean, so that the slowest transient is gone after the skipped cycles.
    course = lfilter([1 - decay], [1, -decay], triangle(time, period), zi=[0.5 * decay])[0]
    found = loops(time, course, period=period, skip=30)
    np.testing.assert_allclose(found.areas, lag_area(period, tau), rtol=3e-3)


@given(ratio=st.floats(1e-4, 1e4))
def test_area_of_a_lag_is_small_at_both_ends_and_never_above_its_bound(ratio):
    area = float(lag_area(1.0, ratio))
    assert 0 < area < 0.27
    assert area <= 4 * ratio
    assert float(lag_area(3.0, 3 * ratio)) == pytest.approx(area, rel=1e-9)
    if ratio > 10:
        assert area == pytest.approx(1 / (12 * ratio), rel=1e-2)
    if ratio < 1e-3:
        assert area == pytest.approx(4 * ratio, rel=1e-2)


@given(slope=st.floats(-5, 5), curve=st.floats(-5, 5), height=st.floats(-2, 2))
def test_trends_draw_no_loop_and_planted_loops_are_found(slope, curve, height):
    time = np.arange(4800) + 0.5
    up = np.mod(time, 400) < 200
    position = triangle(time, 400)
    values = position**2 + np.where(up, -height / 2, height / 2) + slope * time / 4800 + curve * (time / 4800) ** 2
    found = loops(time, values, period=400, skip=1)
    assert len(found.areas) == 5
    np.testing.assert_allclose(found.areas, height, atol=1e-9)
    assert found.areas.mean() == pytest.approx(np.mean(found.down - found.up), abs=1e-9)


def test_loops_leave_out_what_is_undefined_and_say_what_is_missing():
    time = np.arange(2000) + 0.5
    values = np.where(np.mod(time, 400) < 200, 0.0, 1.0)
    values[::3] = np.nan
    values[900:950] = np.nan
    np.testing.assert_allclose(loops(time, values, period=400).areas, 1.0)
    for short, period in ((time[:1000], 400), (time, 3000), (time[::50], 400), (time[:1], 400)):
        with pytest.raises(se.InputError, match="two cycles after the first"):
            loops(short, short, period=period)


# the verdict --------------------------------------------------------------------------------------------------------


def synthetic(remaining, tau, sd, rng, *, replicates=3):
    """Loops at four periods with known areas; short periods are noisier, as in a stream."""
    nothing = np.zeros(1)
    return [
        Loops(
            period,
            remaining + lag_area(period, tau) + sd / np.sqrt(period) * rng.standard_normal(replicates),
            nothing,
            nothing,
            nothing,
            1.0,
        )
        for period in (1.0, 2.0, 4.0, 8.0)
    ]


@pytest.mark.parametrize("tau", [0.05, 0.5, 2.0, 6.0])
@pytest.mark.parametrize("sd", [0.005, 0.02, 0.1])
def test_size_and_coverage_of_the_extrapolation_under_a_lag(tau, sd):
    """Nominal 5 %; four standard errors of 100 draws are added."""
    rng = np.random.default_rng([int(100 * tau), int(1000 * sd)])
    found = [rate_dependence(synthetic(0.0, tau, sd, rng)) for _ in range(100)]
    limit = 0.05 + 4 * np.sqrt(0.05 * 0.95 / 100)
    assert np.mean([not one.low <= 0 <= one.high for one in found]) < limit
    assert np.mean([one.verdict == "hysteresis" for one in found]) < limit


@pytest.mark.parametrize("tau", [0.05, 0.5])
def test_a_loop_that_stays_is_found(tau):
    rng = np.random.default_rng(7)
    found = [rate_dependence(synthetic(0.3, tau, 0.02, rng)) for _ in range(50)]
    assert np.mean([one.verdict == "hysteresis" for one in found]) > 0.95
    assert np.mean([one.low <= 0.3 <= one.high for one in found]) > 0.9
    assert rate_dependence(synthetic(-0.3, tau, 0.0, rng)).verdict in ("hysteresis", "inconclusive")


def test_a_lag_without_noise_is_recovered_exactly():
    found = rate_dependence(synthetic(0.0, 0.4, 0.0, np.random.default_rng(0)))
    assert found.verdict == "no hysteresis"
    assert found.relaxation == pytest.approx(0.4, rel=0.05)
    assert found.remaining == pytest.approx(0, abs=5e-3)
    assert found.slowest.n == 3
    assert found.slowest.mean == pytest.approx(float(lag_area(8.0, 0.4)))


def test_too_few_periods_are_said():
    loop = Loops(1.0, np.zeros(5), np.zeros(1), np.zeros(1), np.zeros(1), 1.0)
    for periods in ((1.0, 1.0, 1.0), (1.0, 2.0, 3.0), (1.0, 8.0)):
        with pytest.raises(se.InputError, match="three periods"):
            rate_dependence([replace(loop, period=period) for period in periods])


def test_periods_that_bound_nothing_are_inconclusive():
    """A loop whose area hardly changes over the periods may be a lag at its maximum."""
    rng = np.random.default_rng(1)
    nothing = np.zeros(1)
    found = [Loops(p, 0.25 + 0.02 * rng.standard_normal(2), nothing, nothing, nothing, 1.0) for p in (1.0, 2.0, 4.0)]
    judged = rate_dependence(found)
    assert judged.low < 0 < 0.25 < judged.high
    assert judged.verdict == "inconclusive"
    noise = rate_dependence([replace(one, areas=rng.standard_normal(2)) for one in found])
    assert noise.low == -np.inf


# planted streams ----------------------------------------------------------------------------------------------------


def test_states_of_the_loop_solve_its_equation():
    """Without a floor: E^2 W^2 (q^2 - q) + 2 c = 0, so a fold at E W = sqrt(8 c)."""
    drift = Drift(floor=0.0)
    fold = np.sqrt(8) / 10
    assert len(drift.states(0.999 * fold)) == 1
    states = drift.states(1.2 * fold)
    root = np.sqrt(1 - 8 / (12 * fold) ** 2)
    np.testing.assert_allclose(states, [0, (1 - root) / 2, (1 + root) / 2], atol=1e-4)


def test_area_of_the_loop_against_its_quasistatic_limit():
    """Delays at a fold shrink as period^(-2/3), more slowly than a lag, so the extrapolation stays above."""
    drift = Drift()
    grid = (np.arange(400) + 0.5) / 400
    outer = [drift.states(float(e))[[0, -1]] for e in drift.drive(grid)]
    exact = float(np.mean([upper - lower for lower, upper in outer]))
    found = []
    for period in (400, 800, 1600, 3200):
        cycle = Cycle(low=1.0, high=2.0, period=period, cycles=5)
        time = np.arange(cycle.steps)
        found.append(loops(time + 0.5, drift.persistence(cycle.position(time)), period=period))
    judged = rate_dependence(found)
    assert judged.verdict == "hysteresis"
    assert exact < judged.remaining < 1.2 * exact


def test_a_bistable_stream_shows_hysteresis_in_every_response():
    found = measured("loop", 1)
    assert {name: one.verdict for name, one in found.items()} == dict.fromkeys(found, "hysteresis")
    # The area hardly depends on the period.
    assert found["log_ratio"].areas[-1] > 0.5 * found["log_ratio"].areas[0]


def test_open_loops_do_not_whatever_their_lag():
    """Size over repeated runs: 3 responses of 10 runs of each kind, nominal at most 5 % each."""
    verdicts = [
        one.verdict
        for kind in ("lag", "none")
        for seed in range(10)
        for one in measured(kind, seed, periods=(100, 200, 400, 800), dimension=150).values()
    ]
    assert verdicts.count("hysteresis") <= 60 * 0.05 + 4 * np.sqrt(60 * 0.05 * 0.95)
    assert verdicts.count("no hysteresis") > 0.3 * len(verdicts)


def test_a_lag_draws_loops_that_close():
    found = measured("lag", 3)["log_ratio"]
    assert found.areas[0] > 4 * found.errors[0]
    assert found.areas[-1] < 0.3 * found.areas[0]
    assert found.verdict != "hysteresis"


def test_the_twin_of_a_bistable_stream_has_its_energies_and_no_loop():
    cycle = Cycle(low=1e-3, high=1e-2, period=800, cycles=7)
    position = cycle.position(np.arange(cycle.steps))
    rng = np.random.default_rng(5)
    rows = planted(position, cycle.rates(), Drift(), rng, horizon=20, dimension=400)
    matched = twin(rows, position, window=10)
    assert matched.dimension == pytest.approx(400, rel=0.5)
    copy = matched.draw(position, rng, horizon=20)
    assert copy[:, 0].mean() == pytest.approx(rows[:, 0].mean(), rel=0.1)
    mean = {
        name: [loops(r.time, r.values, period=800).areas.mean() for r in read(which, window=10)]
        for name, which in (("watched", rows), ("twin", copy))
    }
    assert np.abs(mean["twin"]).max() < 0.15 * np.abs(mean["watched"]).min()


def test_the_twin_of_noise_recovers_what_was_planted():
    rng = np.random.default_rng(6)
    energy = np.full(4000, 4.0)
    rows = stream(energy, 0.25 * energy, rng, horizon=20, dimension=300)
    position = np.tile(np.linspace(0, 0.999, 200), 20)
    found = twin(rows, position, window=10)
    np.testing.assert_allclose(found.energy, 4.0, rtol=0.05)
    np.testing.assert_allclose(found.persistent, 1.0, rtol=0.05)
    assert found.dimension == pytest.approx(300, rel=0.5)


def test_lag_rows_of_a_stream_have_the_stated_moments():
    """Correlation of rows at lag l: memory^l; tolerance four standard errors of the mean over 6000 rows."""
    rng = np.random.default_rng(8)
    rows = stream(np.ones(6000), np.zeros(6000), rng, horizon=6, dimension=100, memory=0.6)
    for lag in range(6):
        values = rows[lag:, lag]
        # Neighbouring products are correlated too: (1 + m^2) / (1 - m^2) times the variance of independent ones.
        error = values.std() * np.sqrt((1 + 0.36) / (1 - 0.36) / len(values))
        assert values.mean() == pytest.approx(0.6**lag, abs=4 * error)
    assert np.isnan(rows[0, 1:]).all()


def test_readings_are_the_same_backwards():
    """Centred labels: a stream read from its end gives the same values at mirrored times."""
    rng = np.random.default_rng(9)
    updates = rng.standard_normal((61, 40)) + rng.standard_normal(40) * np.linspace(0, 1, 61)[:, None]

    def lag_rows(x):
        gram = x @ x.T
        return np.array([[gram[t, t - lag] if t >= lag else np.nan for lag in range(10)] for t in range(len(x))])

    forward, backward = (read(lag_rows(x), window=5, every=1) for x in (updates, updates[::-1]))
    for there, back in zip(forward, backward, strict=True):
        mirrored = {61 - t: value for t, value in zip(back.time, back.values, strict=True)}
        common = [(v, mirrored[t]) for t, v in zip(there.time, there.values, strict=True) if t in mirrored]
        assert len(common) > 40
        first, second = np.array(common).T
        np.testing.assert_allclose(first, second, rtol=1e-9)


def test_what_cannot_be_used_is_said():
    for options in ({"low": 2.0}, {"period": 5}, {"period": 2}, {"cycles": 0}):
        with pytest.raises(se.InputError):
            Cycle(**{"low": 1e-3, "high": 1e-2, "period": 8, "cycles": 1, **options})
    for options in ({"dynamics": "spiral"}, {"weak": 0.0}, {"rate": 1.0}, {"noise": 0.0}):
        with pytest.raises(se.InputError):
            Drift(**options)
    ones = np.ones(30)
    for energy, persistent, horizon in ((-ones, ones, 3), (ones, -ones, 3), (ones, ones, 31)):
        with pytest.raises(se.InputError):
            stream(energy, persistent, np.random.default_rng(0), horizon=horizon, dimension=3)
    rows = stream(ones, ones, np.random.default_rng(0), horizon=10, dimension=3)
    with pytest.raises(se.InputError, match="at most half"):
        read(rows, window=6)
    with pytest.raises(se.InputError, match="horizon"):
        twin(rows, ones, window=10)
    with pytest.raises(se.InputError, match="bin 1"):
        twin(rows, ones, window=5)


# live ---------------------------------------------------------------------------------------------------------------


def test_a_driven_run_follows_the_cycle_and_gets_its_rates_back():
    cycle = Cycle(low=1e-3, high=1e-1, period=8, cycles=2)
    rates = cycle.rates()
    assert len(rates) == cycle.steps == 16
    np.testing.assert_allclose(rates[:8], rates[8:])
    np.testing.assert_allclose(rates[:4], rates[7:3:-1])
    assert 1e-3 < rates.min() < rates.max() < 1e-1
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    groups = [{"params": [model.weight], "lr": 0.5}, {"params": [model.bias], "lr": 0.05}]
    optimizer = torch.optim.SGD(groups)
    seen = []

    def step():
        model(torch.ones(3)).backward()
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        optimizer.zero_grad()

    taken = []
    drive(optimizer, cycle, step, after=taken.append)
    np.testing.assert_allclose(seen, np.stack([rates, rates / 10], axis=1))
    assert taken == list(range(1, 17))
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.05]


def test_readings_have_names_and_places():
    rows = stream(np.ones(50), np.ones(50), np.random.default_rng(0), horizon=20, dimension=30)
    found = read(rows, window=10)
    assert [one.name for one in found] == ["log_ratio", "overlap", "gap"]
    assert all(isinstance(one, Readings) for one in found)
    # The window of rows 10 to 19 is centred at 15, the two windows of rows 0 to 19 at 10.
    assert (found[0].time[0], found[1].time[0]) == (15, 10)
