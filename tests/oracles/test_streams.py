"""Planted streams hold what they say, as rows and as Gram matrices, and feed the measurements."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectral_edge.errors import InputError
from spectral_edge.measure import Memory, WindowOptions, Windows
from spectral_edge.theory.signals import CovarianceSpike, Drift, Modes, Oscillation, Rotation, Transition
from spectral_edge.theory.streams import HEAD, Stream, direction_overlaps
from spectral_edge.theory.temporal import WHITE, Autoregressive, Displacement, Momentum, RandomWalk, factor
from spectral_edge.theory.wishart import power_sum, wishart

MODELS = [
    WHITE,
    Autoregressive(rho=0.9),
    Autoregressive(rho=-0.5),
    Momentum(beta=0.9, interval=10),
    RandomWalk(),
    Displacement(relaxation=0.3),
]


def rng(seed=0):
    return np.random.default_rng(seed)


def within(sample, expected, *, errors=4.5):
    """Whether every mean over the first axis lies within so many of its standard errors."""
    error = sample.std(axis=0, ddof=1) / np.sqrt(len(sample))
    return (np.abs(sample.mean(axis=0) - expected) < errors * error + 1e-12).all()


def measured(gram, **options):
    nothing = np.full(len(gram), np.nan)
    options = WindowOptions(10, **options)
    return Windows(gram, options, learning_rate=nothing, sketch_error=np.zeros(len(gram)))


# memory over rows


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("interval", [1, 3, 50])
def test_momentum_is_the_memory_that_the_nulls_know(beta, interval):
    found = Momentum(beta=beta, interval=interval).covariance(7)
    np.testing.assert_allclose(found, Memory(beta, interval).matrix(7), rtol=1e-9, atol=1e-12)


@given(st.floats(0.01, 0.99), st.integers(2, 12))
def test_displacements_are_differences_of_a_relaxing_position(relaxation, count):
    lags = np.abs(np.subtract.outer(np.arange(count + 1), np.arange(count + 1)))
    difference = np.eye(count, count + 1, 1) - np.eye(count, count + 1)
    covariance = difference @ (1 - relaxation) ** lags @ difference.T
    found = Displacement(relaxation=relaxation).covariance(count)
    np.testing.assert_allclose(found, covariance / (2 * relaxation), atol=1e-12)


def test_a_random_walk_accumulates_and_an_autoregression_forgets():
    np.testing.assert_allclose(factor(RandomWalk(), 6), np.tril(np.ones((6, 6))), atol=1e-12)
    lower = factor(Autoregressive(rho=0.8), 6)
    innovation = lower[1:] - 0.8 * lower[:-1]
    np.testing.assert_allclose(np.diag(innovation[:, 1:]), np.sqrt(1 - 0.64), rtol=1e-12)
    np.testing.assert_allclose(np.tril(innovation), 0, atol=1e-12)


# planted structure


@given(st.lists(st.floats(0.0, 100.0), min_size=1, max_size=5), st.integers(5, 9), st.integers(0, 2**31))
def test_modes_have_their_singular_values_in_every_window(sigma, window, seed):
    modes = Modes(sigma=tuple(sigma), window=window)
    planted = Stream(parameters=30, noise_energy=0.0, signals=(modes,)).planted(3 * window, rng(seed))
    expected = np.sort(sigma)[::-1]
    for first in range(2 * window + 1):
        np.testing.assert_allclose(planted.sigma(first=first, width=window), expected, atol=1e-10)
        rows = planted.rows[first : first + window]
        np.testing.assert_allclose(np.linalg.svd(rows, compute_uv=False)[: len(sigma)], expected, atol=1e-9)


def test_a_transition_opens_stays_and_collapses_on_time():
    change = Transition(low=1.0, high=5.0, opens=20, risen=30, collapses=50, closed=55, window=8)
    stream = Stream(parameters=200, noise_energy=0.0, signals=(change, Drift(energy=0.0)))
    planted = stream.planted(80, rng())
    ratio = [np.divide(*planted.sigma(first=first, width=8)[:2]) for first in range(73)]
    assert stream.times == planted.times == (20, 30, 50, 55)
    np.testing.assert_allclose(ratio[:13], 1.0)  # windows that end before the rise
    np.testing.assert_allclose(ratio[30:43], 5.0)  # windows inside the plateau
    np.testing.assert_allclose(ratio[55:], 1.0)
    assert all(1 < value < 5 for value in ratio[14:30])
    assert (np.diff(ratio[13:31]) > 0).all()


@pytest.mark.parametrize("period", [2, 3, 4, 7])
def test_an_oscillation_has_its_energy_and_goes_nowhere(period):
    path = Oscillation(energy=2.5, period=period).coordinates(period, rng())
    assert (path**2).mean() == pytest.approx(2.5)
    assert path.sum() == pytest.approx(0, abs=1e-12)


def test_a_rotation_turns_by_its_angle():
    path = Rotation(energy=4.0, angle=0.3).coordinates(9, rng())
    np.testing.assert_allclose((path[1:] * path[:-1]).sum(axis=1), 4 * np.cos(0.3))


# rows and Gram matrices


def mixed(parameters, **options):
    signals = (Drift(energy=2.0), Modes(sigma=(3.0, 1.0), window=6), CovarianceSpike(energy=1.5))
    return Stream(parameters=parameters, noise_energy=5.0, signals=signals, **options)


def test_rows_are_planted_part_and_noise():
    planted = mixed(40, rotated=True, exponent=1.0, norm_spread=0.3).planted(12, rng())
    np.testing.assert_allclose(planted.directions @ planted.directions.T, np.eye(4), atol=1e-12)
    assert planted.rows.shape == (12, 40)
    assert planted.coordinates.shape == (12, 4)
    silent = Stream(parameters=40, noise_energy=0.0, norm_spread=0.3, signals=mixed(40).signals).planted(12, rng())
    np.testing.assert_allclose(silent.rows, silent.coordinates @ silent.directions, atol=1e-12)
    again = mixed(40, rotated=True, exponent=1.0, norm_spread=0.3).rows(12, rng())
    assert np.array_equal(again, planted.rows)


def test_a_rotation_of_the_basis_leaves_the_gram_matrix():
    plain, turned = (Stream(parameters=90, exponent=1.5, rotated=flag).rows(8, rng(1)) for flag in (False, True))
    np.testing.assert_allclose(plain @ plain.T, turned @ turned.T, atol=1e-12)
    energy = (turned**2).sum(axis=0)
    assert energy[:5].sum() / energy.sum() < 0.3 < (plain[:, :5] ** 2).sum() / (plain**2).sum()


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("kind", ["rows", "grams", "grams with a tail"])
def test_expected_inner_products(model, kind):
    """E G = E_noise T + planted part, from rows and from Gram matrices with and without a Wishart tail."""
    parameters = 40 if kind != "grams with a tail" else 900
    drift, draws = Drift(energy=0.8), 1500
    stream = Stream(parameters=parameters, noise_energy=3.0, exponent=0.6, memory=model, signals=(drift,))
    generator = rng(2)
    if kind == "rows":
        rows = np.array([stream.rows(6, generator) for _ in range(draws)])
        gram = rows @ rows.transpose(0, 2, 1)
    else:
        gram = stream.grams(6, draws, generator).gram
        assert (parameters > HEAD) == kind.endswith("tail")
    assert within(gram, 3.0 * model.covariance(6) + 0.8)


def test_planted_directions_take_their_share_of_the_dimensions():
    """Isotropic noise in 30 dimensions, three of them singled out: E tr G and E tr G^2 of a Wishart matrix."""
    size, parameters = 5, 30
    silent = (Drift(energy=0.0), Modes(sigma=(0.0, 0.0), window=4))
    stream = Stream(parameters=parameters, noise_energy=float(parameters), signals=silent)
    gram = stream.grams(size, 20_000, rng(11)).gram
    assert within(np.trace(gram, axis1=1, axis2=2), size * parameters)
    assert within((gram**2).sum(axis=(1, 2)), size * parameters * (size + parameters + 1))


def test_gram_matrices_have_the_moments_of_rows():
    """Second and third moments, on which every ratio depends, beside dense rows of the same uneven noise."""
    stream = Stream(parameters=1500, exponent=0.9, signals=(Drift(energy=0.05), CovarianceSpike(energy=0.1)))
    draws = stream.grams(5, 3000, rng(3)).gram
    generator = rng(4)
    rows = np.array([stream.rows(5, generator) for _ in range(400)])
    dense = rows @ rows.transpose(0, 2, 1)
    for moment in (lambda g: (g**2).mean(axis=(1, 2)), lambda g: np.trace(g @ g @ g, axis1=1, axis2=2)):
        drawn, seen = moment(draws), moment(dense)
        error = np.hypot(drawn.std() / np.sqrt(len(drawn)), seen.std() / np.sqrt(len(seen)))
        assert abs(drawn.mean() - seen.mean()) < 4 * error
    spectrum = np.arange(1.0, 1501) ** -0.9
    assert stream.effective_dimension == pytest.approx(spectrum.sum() ** 2 / (spectrum**2).sum(), rel=1e-12)


def test_projections_are_inner_products_with_planted_directions():
    """Against dense rows: mean squared cosines of right singular and planted directions."""
    stream = Stream(parameters=500, noise_energy=10.0, exponent=0.7, signals=(Modes(sigma=(6.0, 3.0), window=5),))
    drawn = stream.grams(5, 2000, rng(5))
    found = direction_overlaps(drawn.gram, drawn.projections)
    generator, dense = rng(6), []
    for _ in range(400):
        planted = stream.planted(5, generator)
        right = np.linalg.svd(planted.rows, full_matrices=False)[2]
        dense.append((right @ planted.directions.T) ** 2)
    dense = np.array(dense)
    error = np.hypot(found.std(axis=0) / np.sqrt(2000), dense.std(axis=0) / np.sqrt(400))
    assert (np.abs(found.mean(axis=0) - dense.mean(axis=0)) < 4.5 * error).all()
    assert np.isnan(direction_overlaps(np.zeros((1, 3, 3)), np.zeros((1, 3, 1)))).all()


def test_few_parameters_are_drawn_one_by_one():
    """With fewer parameters than rows no Wishart factor exists, and the rank is that of the parameters."""
    drawn = Stream(parameters=4, signals=(Drift(energy=1.0),)).grams(7, 3, rng()).gram
    assert (np.linalg.matrix_rank(drawn) == 4).all()
    assert (np.linalg.matrix_rank(wishart(7, 3, 2, rng())) == 3).all()
    given = Stream(parameters=1000, covariance=(3.0, 1.0)).grams(7, 3, rng()).gram
    assert (np.linalg.matrix_rank(given) == 2).all()


def test_scales_of_rows():
    plain = Stream(parameters=10_000, norm_factor=0.9).grams(5, 2000, rng(7)).gram
    np.testing.assert_allclose(np.diagonal(plain.mean(axis=0)), 0.81 ** np.arange(5), rtol=0.01)
    spread = Stream(parameters=100_000, norm_spread=0.3).grams(5, 2000, rng(8)).gram
    logarithm = 0.5 * np.log(np.diagonal(spread, axis1=1, axis2=2))
    assert logarithm.std() == pytest.approx(0.3, rel=4 / np.sqrt(2 * logarithm.size))
    square = np.diagonal(spread, axis1=1, axis2=2)
    assert square.mean() == pytest.approx(1.0, abs=4 * square.std() / np.sqrt(square.size))
    assert Stream(parameters=100, noise_energy=0.0, exponent=1.0).effective_dimension == pytest.approx(16.46, abs=0.01)


@given(st.floats(0.0, 3.0), st.integers(1, 50), st.integers(0, 300))
def test_power_sums(exponent, first, more):
    terms = np.arange(first, first + more, dtype=float) ** -exponent
    assert power_sum(exponent, first, first + more - 1) == pytest.approx(float(terms.sum()), rel=1e-12)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 1.7])
def test_long_power_sums_go_on_without_adding(exponent):
    last = 3_000_000
    direct = float((np.arange(1, last + 1, dtype=float) ** -exponent).sum())
    assert power_sum(exponent, 1, last) == pytest.approx(direct, rel=1e-12)


# what streams show to the measurements


def test_known_processes_give_their_known_ratios():
    """Acceptance 4 by the generator, at a hundred million parameters: AR(.9) 2.25, random walk 2.98, drift alone."""
    many = {"parameters": 10**8, "noise_energy": 1.0}
    for stream, expected in (
        (Stream(memory=Autoregressive(rho=0.9), **many), 2.25),
        (Stream(memory=RandomWalk(), **many), 2.98),
        (Stream(signals=(Drift(energy=0.1),), **many), np.sqrt(1 + 10 * 0.1)),
        (Stream(signals=(Drift(energy=1.0),), **many), np.sqrt(1 + 10 * 1.0)),
    ):
        found = measured(stream.grams(10, 20, rng(9)).gram)
        assert (found["k_star_raw"].values == 1).all()
        assert found["ratios"].values[:, 0].mean() == pytest.approx(expected, abs=0.01)


def test_jitter_oscillation_and_drift_differ_in_progress():
    """All three persist in a direction; only one of them moves the model."""
    shares = {}
    for signal in (Drift(energy=9.0), CovarianceSpike(energy=9.0), Oscillation(energy=9.0)):
        gram = Stream(parameters=10**6, signals=(signal,)).grams(10, 400, rng(10)).gram
        shares[type(signal).__name__] = measured(gram)["progress_share"].values[:, 0].mean()
    assert shares["Drift"] > 0.97
    assert shares["CovarianceSpike"] == pytest.approx(0.1, abs=0.03)
    assert shares["Oscillation"] < 0.01


# refusals


@pytest.mark.parametrize(
    "make",
    [
        lambda: Stream(parameters=0),
        lambda: Stream(parameters=2, signals=(Rotation(energy=1.0, angle=0.1), Drift(energy=1.0))),
        lambda: Stream(parameters=9, noise_energy=-1.0),
        lambda: Stream(parameters=9, covariance=(0.0, 0.0)),
        lambda: Stream(parameters=1, covariance=(1.0, 1.0)),
        lambda: Stream(parameters=9, norm_factor=0.0),
        lambda: Modes(sigma=(1.0, 2.0, 3.0), window=2),
        lambda: Modes(sigma=(-1.0,), window=2),
        lambda: Drift(energy=float("nan")),
        lambda: Oscillation(energy=1.0, period=1),
        lambda: Transition(low=2.0, high=1.0, opens=1, risen=2, collapses=3, closed=4, window=5),
        lambda: Transition(low=1.0, high=2.0, opens=3, risen=2, collapses=3, closed=4, window=5),
        lambda: Autoregressive(rho=1.0),
        lambda: Momentum(beta=1.0),
        lambda: Momentum(beta=0.5, interval=0),
        lambda: Displacement(relaxation=0.0),
    ],
)
def test_impossible_streams_are_refused(make):
    with pytest.raises(InputError):
        make()
