"""Honest estimators of signal and noise, on planted truth: unbiased where they promise it, and fooled where said."""

import numpy as np
import pytest
from scipy import integrate

from spectral_edge.errors import InputError
from spectral_edge.measure import noise
from spectral_edge.theory.signals import CovarianceSpike, Drift, Modes
from spectral_edge.theory.streams import Stream
from spectral_edge.theory.temporal import Momentum

WIDTH, PARAMETERS, DRAWS = 10, 20_000, 500


def near(values, expected, *, bias=0.0, errors=4.0):
    return abs(values.mean() - expected) < bias + errors * values.std(ddof=1) / np.sqrt(len(values))


def two_windows(seed, *, sigma=(), exponent=0.0, signals=(), rows=2 * WIDTH, draws=DRAWS):
    """Gram matrices of successive windows with the same modes, which are replicates just as well: the noise is white.

    Modes repeat with the period of a window, so row i of both has the same signal and independent noise.
    """
    planted = (Modes(sigma=sigma, window=WIDTH),) if sigma else ()
    stream = Stream(
        parameters=PARAMETERS, noise_energy=float(PARAMETERS), exponent=exponent, signals=(*planted, *signals)
    )
    return stream, stream.grams(rows, draws, np.random.default_rng(seed)).gram


def top_of_plain(gram):
    return np.linalg.eigvalsh(gram[:, :WIDTH, :WIDTH])[:, -1]


# replicates


@pytest.mark.parametrize("exponent", [0.0, 0.5])
def test_replicates_hold_no_noise_energy(exponent):
    """True d^2 = 3600 among rows of noise energy 20,000: plain lambda_1 is six times too large."""
    stream, gram = two_windows(1, sigma=(60.0,), exponent=exponent)
    found = noise.replicate_signal(gram)
    assert near(found.signal, 3600, bias=15)  # the noise along the planted direction adds (W - 1) / 2
    assert found.energies[:, 0].mean() > found.signal.mean()
    assert top_of_plain(gram).mean() > 6 * 3600
    assert near(found.noise_energy, PARAMETERS)
    # 45 pairs a window: the mean squared cosine is unbiased, its inverse is not.
    assert near(1 / found.dimension, 1 / stream.effective_dimension)
    expected = PARAMETERS * np.sqrt(2 * WIDTH / stream.effective_dimension)
    assert np.median(found.floor) == pytest.approx(expected, rel=0.05)


def test_every_mode_of_replicates_is_unbiased_in_sum():
    """The trace of the symmetrised cross-Gram matrix is the signal's, and scatters about zero without one."""
    for sigma in ((80.0, 60.0, 50.0), ()):
        found = noise.replicate_signal(two_windows(2, sigma=sigma)[1])
        assert near(found.energies.sum(axis=1), sum(value**2 for value in sigma))
    assert (found.energies[:, -1] < 0).mean() > 0.99
    # The floor is an edge, not a test.
    assert np.isfinite(found.signal).mean() < 0.3


def test_differences_of_replicates_are_noise():
    rng = np.random.default_rng(3)
    first, second = rng.standard_normal((2, 4, 30))
    rows = np.vstack([first, second])
    found = noise.replicate_differences((rows @ rows.T)[None])[0]
    np.testing.assert_allclose(found, (first - second) @ (first - second).T, atol=1e-12)


def test_drift_counts_as_few_dimensions_until_it_is_removed():
    stream, gram = two_windows(4, signals=(Drift(energy=0.5 * PARAMETERS),))
    raw = noise.effective_dimension(gram[:, :WIDTH, :WIDTH])
    removed = noise.effective_dimension(noise.replicate_differences(gram))
    assert np.median(raw) < 12
    assert 1 / np.mean(1 / removed) == pytest.approx(stream.effective_dimension, rel=4 * np.sqrt(2 / 45 / DRAWS))
    assert np.isnan(noise.effective_dimension(np.zeros((1, 4, 4)))).all()
    assert np.isnan(noise.effective_dimension(np.eye(4)[None])).all()


@pytest.mark.parametrize(("interval", "stated"), [(1, 0.81), (10, 0.47), (50, 0.104), (200, 0.022)])
def test_replicates_inherit_momentum(interval, stated):
    """With beta = .9 and no signal, against an optimizer that is stepped literally."""
    beta, dimensions = 0.9, 4000
    rng = np.random.default_rng(interval)
    products = []
    for _ in range(40 if interval < 100 else 15):
        start = rng.standard_normal(dimensions) / np.sqrt(1 - beta**2)
        rows = []
        for _ in range(2):
            momentum, row = start, np.zeros(dimensions)
            for _ in range(interval):
                momentum = beta * momentum + rng.standard_normal(dimensions)
                row += momentum
            rows.append(row)
        products.append(rows[0] @ rows[1] / np.mean([row @ row for row in rows]))
    share = noise.inherited_share(beta=beta, interval=interval)
    assert share == pytest.approx(stated, abs=0.005)
    assert near(np.array(products), share)


@pytest.mark.parametrize("interval", [1, 4])
def test_what_replicates_inherit_beside_the_diagonal(interval):
    """A is the run and B leaves it for one row at a time, both stepped literally without a signal."""
    beta, width, dimensions = 0.8, 5, 300
    rng = np.random.default_rng(20 + interval)
    crosses = []

    def row(momentum):
        total = np.zeros(dimensions)
        for _ in range(interval):
            momentum = beta * momentum + rng.standard_normal(dimensions)
            total = total + momentum
        return total, momentum

    for _ in range(300):
        momentum = rng.standard_normal(dimensions) / np.sqrt(1 - beta**2)
        first, second = [], []
        for _ in range(width):
            second.append(row(momentum)[0])
            run, momentum = row(momentum)
            first.append(run)
        first, second = np.array(first), np.array(second)
        cross = 0.5 * (first @ second.T + second @ first.T)
        crosses.append(cross / dimensions)
    crosses = np.array(crosses)
    variance = (interval * (1 - beta**2) - 2 * beta * (1 - beta**interval)) / ((1 - beta) ** 2 * (1 - beta**2))
    expected = variance * noise.inherited_gram(beta=beta, interval=interval, width=width)
    error = crosses.std(axis=0) / np.sqrt(len(crosses))
    assert (np.abs(crosses.mean(axis=0) - expected) < 4.5 * error).all()
    assert (noise.inherited_gram(beta=0.0, interval=interval, width=3) == 0).all()


# windows that share no row


@pytest.mark.parametrize("exponent", [0.0, 0.5])
@pytest.mark.parametrize("known", [False, True])
def test_lag_estimate_of_persistent_energy(exponent, known):
    stream, gram = two_windows(5, sigma=(np.sqrt(6144.0),), exponent=exponent)
    truth = {"noise_energy": PARAMETERS, "dimension": stream.effective_dimension} if known else {}
    found = noise.lag_signal(gram, width=WIDTH, **truth)
    assert near(found.signal, 6144, bias=25)
    assert top_of_plain(gram).mean() > 4 * 6144
    expected = 2 * PARAMETERS * np.sqrt(WIDTH / stream.effective_dimension)
    assert np.median(found.floor) == pytest.approx(expected, rel=1e-9 if known else 0.1)


def test_without_signal_the_largest_energy_lies_at_the_floor():
    stream, gram = two_windows(6, draws=2000)
    found = noise.lag_signal(gram, width=WIDTH, noise_energy=PARAMETERS, dimension=stream.effective_dimension)
    assert found.energies[:, 0].mean() == pytest.approx(found.floor[0], rel=0.15)
    assert 0.02 < np.isfinite(found.signal).mean() < 0.3


def test_the_median_that_sets_the_scale():
    def density(square):
        return np.sqrt(4 / square - 1) / (2 * np.pi)

    below, _ = integrate.quad(density, 0, noise._MEDIAN_SQUARE)
    assert below == pytest.approx(0.5, abs=1e-9)


def test_rows_in_between_are_left_out():
    gram = two_windows(7, sigma=(80.0,), rows=35, draws=20)[1]
    found = noise.lag_signal(gram, width=WIDTH).energies
    np.testing.assert_allclose(found, np.linalg.svd(gram[:, :10, 25:], compute_uv=False))


def test_memory_shows_as_persistence_and_fades_with_a_gap():
    """Momentum without signal, s = 1: the predicted energy, and what ten more rows leave of it."""
    memory = Momentum(beta=0.9)
    stream = Stream(parameters=10**7, memory=memory)
    gram = stream.grams(30, 100, np.random.default_rng(8)).gram
    for rows in (20, 30):
        share = noise.remembered_share(memory.covariance(rows), width=WIDTH)
        energies = noise.lag_signal(gram[:, :rows, :rows], width=WIDTH).energies
        assert energies[:, 0].mean() / WIDTH == pytest.approx(share, rel=0.01)
    assert noise.remembered_share(memory.covariance(20), width=WIDTH) == pytest.approx(0.416, abs=0.001)
    # The memory of a geometric correlation has rank one, so this is all of its energy.
    np.testing.assert_allclose(np.linalg.svd(memory.covariance(20)[:10, 10:], compute_uv=False)[1:], 0, atol=1e-12)


def test_persistent_jitter_is_not_told_from_drift():
    """Necessary, not sufficient: a zero-mean covariance spike persists as a direction too."""
    found = []
    for signal in (Drift(energy=2000.0), CovarianceSpike(energy=2000.0)):
        gram = two_windows(9, signals=(signal,))[1]
        found.append(np.nanmean(noise.lag_signal(gram, width=WIDTH).signal))
    assert found[0] == pytest.approx(20_000, rel=0.02)
    assert found[1] == pytest.approx(found[0], rel=0.1)


def test_misuse_is_refused():
    gram = np.eye(20)[None]
    for call in (
        lambda: noise.lag_signal(gram, width=11),
        lambda: noise.lag_signal(gram, width=10, noise_energy=1.0),
        lambda: noise.lag_signal(gram, width=2),
        lambda: noise.replicate_signal(np.eye(5)[None]),
        lambda: noise.replicate_differences(np.eye(2)[None]),
    ):
        with pytest.raises(InputError):
            call()
