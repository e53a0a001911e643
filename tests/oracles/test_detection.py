"""Detection and direction thresholds against dense singular value decompositions and exactly drawn windows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectral_edge.errors import InputError
from spectral_edge.measure import detection as measured
from spectral_edge.plots.simulations.bbp import draw
from spectral_edge.simulate.bbp import Bbp
from spectral_edge.theory import detection as theory
from spectral_edge.theory.noise_ratio import detection_ratio_draws, detection_ratio_noise, goe_order_means
from spectral_edge.theory.signals import Modes
from spectral_edge.theory.streams import Stream, direction_overlaps

SPACE = {"width": 10.0, "dimension": 1e6, "noise_energy": 1e6}
strengths = st.floats(0.02, 50.0)
aspects = st.floats(1e-8, 3.0)


def planted(parameters, strength, draws, rng, *, width=10, exponent=0.0, noise_energy=None):
    """Largest singular value and squared cosines of time course and direction, each [n]."""
    energy = float(parameters) if noise_energy is None else noise_energy
    signals = (Modes(sigma=(float(strength),), window=width),)
    stream = Stream(parameters=parameters, noise_energy=energy, exponent=exponent, signals=signals)
    drawn = stream.grams(width, draws, rng)
    values, left = np.linalg.eigh(drawn.gram)
    course = (left[:, :, -1] * drawn.coordinates[:, :, 0] / strength).sum(axis=1) ** 2
    return np.sqrt(values[:, -1]), course, direction_overlaps(drawn.gram, drawn.projections)[:, 0, 0]


def near(values, expected, *, bias=0.0, errors=4.0):
    """Whether a sample's mean lies within so many standard errors, and a known bias, of what is expected."""
    return abs(values.mean() - expected) < bias + errors * values.std(ddof=1) / np.sqrt(len(values))


# formulas


def test_acceptance_3_half_of_the_direction_at_the_noise_norm():
    """Spike at d = nu sqrt(P), P = 1e5: squared cosine of the direction .50 +- .02."""
    _, _, right = planted(100_000, np.sqrt(1e5), 400, np.random.default_rng(3))
    assert right.mean() == pytest.approx(0.5, abs=0.02)
    assert near(right, theory.right_overlap(np.sqrt(1e5), width=10, dimension=1e5, noise_energy=1e5), bias=1e-3)


def test_detected_but_not_recovered():
    """At four times the detection threshold the time course is right and the direction is not (P = 1e6, W = 10)."""
    strength = 4 * theory.detection_threshold(**SPACE)
    _, left, right = planted(1_000_000, strength, 400, np.random.default_rng(4))
    assert left.mean() > 0.99
    assert right.mean() == pytest.approx(0.048, abs=0.001)
    assert near(left, theory.left_overlap(strength, **SPACE), bias=1e-3)
    assert near(right, theory.right_overlap(strength, **SPACE), bias=1e-4)
    assert theory.direction_threshold(**SPACE) == pytest.approx(1000, rel=1e-4)
    assert theory.direction_threshold(overlap=0.9, **SPACE) == pytest.approx(3000, rel=1e-4)


@pytest.mark.parametrize("over", [1.3, 2.0, 6.0])
def test_formulas_against_dense_decompositions_at_a_large_aspect(over):
    """W = 300 rows in 1200 dimensions, where every term of the formulas counts."""
    rng = np.random.default_rng(int(10 * over))
    width, parameters, nu = 300, 1200, 0.7
    space = {"width": width, "dimension": parameters, "noise_energy": nu**2 * parameters}
    strength = float(over * theory.detection_threshold(**space))
    found = []
    for _ in range(12):
        u, v = (x / np.linalg.norm(x) for x in (rng.standard_normal(width), rng.standard_normal(parameters)))
        rows = strength * np.outer(u, v) + nu * rng.standard_normal((width, parameters))
        left, sigma, right = np.linalg.svd(rows, full_matrices=False)
        found.append((sigma[0], (left[:, 0] @ u) ** 2, (right[0] @ v) ** 2))
    sigma, left, right = np.array(found).T
    # Finite sizes shift the means by a few over W, most of it just above the threshold.
    assert near(sigma, theory.sample_sigma(strength, **space), bias=0.005 * sigma.mean())
    assert near(left, theory.left_overlap(strength, **space), bias=6 / width)
    assert near(right, theory.right_overlap(strength, **space), bias=6 / width)


def test_below_the_threshold_the_largest_value_does_not_move():
    space = {"width": 300, "dimension": 1200, "noise_energy": 1200}
    rng = np.random.default_rng(5)
    edge = np.linalg.svd(rng.standard_normal((300, 1200)), compute_uv=False)[0]
    assert theory.sample_sigma(0.0, **space) == pytest.approx(edge, rel=0.02)
    weak = 0.9 * theory.detection_threshold(**space)
    assert theory.sample_sigma(weak, **space) == theory.sample_sigma(0.0, **space)
    assert theory.left_overlap(weak, **space) == theory.right_overlap(weak, **space) == 0
    assert np.isnan(theory.signal_from_sigma(0.99 * theory.sample_sigma(0.0, **space), **space))


@given(strengths, aspects, st.floats(0.01, 100.0))
def test_rows_and_columns_change_places(strength, aspect, energy):
    """A matrix and its transpose say the same: left and right swap where rows and dimensions do."""
    width, dimension = 1000 * aspect, 1000.0
    here = {"width": width, "dimension": dimension, "noise_energy": energy}
    there = {"width": dimension, "dimension": width, "noise_energy": energy * aspect}
    assert theory.left_overlap(strength, **here) == pytest.approx(float(theory.right_overlap(strength, **there)))
    assert theory.sample_sigma(strength, **here) == pytest.approx(float(theory.sample_sigma(strength, **there)))
    assert theory.detection_threshold(**here) == pytest.approx(float(theory.detection_threshold(**there)))


@given(st.floats(0.0, 0.999), aspects, st.floats(0.01, 100.0))
def test_inverses(wanted, aspect, energy):
    space = {"width": 1e6 * aspect, "dimension": 1e6, "noise_energy": energy}
    course = theory.signal_for_left_overlap(wanted, **space)
    direction = theory.direction_threshold(overlap=wanted, **space)
    assert theory.left_overlap(course, **space) == pytest.approx(wanted, abs=1e-6)
    assert theory.right_overlap(direction, **space) == pytest.approx(wanted, abs=1e-6)
    if wanted == 0:
        assert course == pytest.approx(float(theory.detection_threshold(**space)))
    strong = 1.5 * theory.detection_threshold(**space)
    again = theory.signal_from_sigma(theory.sample_sigma(strong, **space), **space)
    assert again == pytest.approx(float(strong), rel=1e-5)


@given(strengths, strengths, aspects)
def test_more_signal_is_never_read_worse(one, other, aspect):
    space = {"width": aspect, "dimension": 1.0, "noise_energy": 1.0}
    low, high = sorted((one, other))
    for name in ("left_overlap", "right_overlap", "sample_sigma"):
        function = getattr(theory, name)
        assert function(low, **space) <= function(high, **space) * (1 + 1e-12)
    assert 0 <= theory.right_overlap(high, **space) <= 1


def test_an_impossible_overlap_is_refused():
    for function in (theory.direction_threshold, theory.phase_diagram):
        with pytest.raises(InputError, match="wanted squared cosine"):
            function(**({"signal": 1.0} if function is theory.phase_diagram else {}), overlap=1.0, **SPACE)


# uneven noise


def test_effective_dimension_sets_the_threshold_of_uneven_noise():
    """k^-.5 on 20,000 parameters: 7,555 effective dimensions, with the noise's energy as it is."""
    rng, parameters = np.random.default_rng(6), 20_000
    spectrum = np.arange(1.0, parameters + 1) ** -0.5
    dimension = float(theory.effective_dimension(spectrum))
    assert dimension == pytest.approx(7555, rel=1e-3)
    assert theory.effective_dimension(np.ones((2, 7))) == pytest.approx(7)
    space = {"width": 10, "dimension": dimension, "noise_energy": 1.0}
    strength = float(2 * theory.detection_threshold(**space))
    sigma, left, right = planted(parameters, strength, 600, rng, exponent=0.5, noise_energy=1.0)
    assert near(left, theory.left_overlap(strength, **space), bias=0.01)
    assert near(right, theory.right_overlap(strength, **space), bias=0.005)
    assert near(sigma, theory.sample_sigma(strength, **space), bias=0.003)
    # Shrinking P at the same nu would shrink the energy too, and claim detection where there is none.
    naive = float(2 * theory.detection_threshold(**(space | {"noise_energy": dimension / parameters})))
    _, left, _ = planted(parameters, naive, 200, rng, exponent=0.5, noise_energy=1.0)
    assert left.mean() < 0.5


# the published ratio


def test_ordered_eigenvalues_in_closed_form_and_drawn():
    np.testing.assert_allclose(goe_order_means(2), np.sqrt(np.pi / 2) * np.array([1, -1]), rtol=1e-8)
    np.testing.assert_allclose(goe_order_means(3), 9 / np.sqrt(6 * np.pi) * np.array([1, 0, -1]), atol=1e-7)
    entries = np.random.default_rng(7).standard_normal((20_000, 7, 7))
    drawn = np.linalg.eigvalsh((entries + entries.transpose(0, 2, 1)) / np.sqrt(2))[:, ::-1]
    errors = drawn.std(axis=0) / np.sqrt(len(drawn))
    assert (np.abs(drawn.mean(axis=0) - goe_order_means(7)) < 4 * errors).all()


@pytest.mark.parametrize(
    ("parameters", "width", "stated"),
    [
        (10_000, 10, 5.70),
        (100_000, 10, 10.2),
        (1_000_000, 10, 18.2),
        (163_150_848, 10, 65.24),
        (131_072, 3, 15.98),
        (131_072, 5, 13.4),
        (2_359_296, 5, 27.7),
    ],
)
def test_pure_noise_passes_the_published_test(parameters, width, stated):
    """Acceptance 1: the expectation in closed form, drawn exactly, and the figure that it was stated with."""
    expected = detection_ratio_noise(parameters=parameters, width=width)
    rng = np.random.default_rng(width)
    mean, error = detection_ratio_draws(parameters=parameters, width=width, draws=2000, generator=rng)
    assert abs(mean - expected) < 4 * error + 3 * expected / parameters
    assert expected == pytest.approx(stated, abs=0.05)
    assert expected > 5  # the published bar
    assert mean <= theory.detection_ratio_limit(parameters=parameters, width=width)


def test_the_expansion_converges_at_its_order():
    """What the first-order expectation leaves out falls like 1/P."""
    rng = np.random.default_rng(8)
    missing = []
    for parameters in (100, 1600):
        mean, _ = detection_ratio_draws(parameters=parameters, width=6, draws=100_000, generator=rng)
        expected = detection_ratio_noise(parameters=parameters, width=6)
        missing.append((mean - expected) / expected)
    assert missing[0] < 0
    # 16 at order one; order one half would give 4, order three halves 64. Sampling moves it by .8.
    assert 11 < missing[0] / missing[1] < 25


def test_two_rows_decide_nothing():
    """At W = 2 the ratio is a constant of the data: its lower half is the smallest value itself."""
    sigma = np.sort(np.random.default_rng(9).lognormal(size=(20, 2)), axis=1)[:, ::-1]
    found = theory.detection_ratio_pub(sigma, parameters=5000)
    np.testing.assert_allclose(found, theory.detection_ratio_limit(parameters=5000, width=2), rtol=1e-12)


@given(st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=12), st.integers(20, 10**9))
def test_the_published_ratio_has_an_upper_limit_and_one_definition(values, parameters):
    sigma = np.sort(np.array(values))[::-1]
    found = theory.detection_ratio_pub(sigma, parameters=parameters)
    assert found == pytest.approx(float(measured.detection_ratio_pub(sigma, parameters)))
    assert found <= theory.detection_ratio_limit(parameters=parameters, width=len(sigma)) * (1 + 1e-12)


def test_a_window_without_a_lower_half_has_no_ratio():
    assert np.isnan(theory.detection_ratio_pub(np.array([[1.0, 0.0, 0.0, 0.0]]), parameters=9)).all()
    with pytest.raises(InputError, match="detection_ratio_draws"):
        detection_ratio_noise(parameters=1e6, width=31)


# phases and the simulation


def test_phases_meet_at_the_thresholds():
    detection, direction = theory.detection_threshold(**SPACE), theory.direction_threshold(overlap=0.7, **SPACE)
    signal = np.array([0.99 * detection, 1.01 * detection, 0.99 * direction, 1.01 * direction])
    diagram = theory.phase_diagram(signal, overlap=0.7, **SPACE)
    labels = [theory.Phase(int(value)).label for value in diagram.phase]
    lost = "detected, direction lost"
    assert labels == ["undetectable", lost, lost, "direction recovered"]
    assert diagram.left.shape == diagram.right.shape == (4,)
    grid = theory.phase_diagram(np.ones((3, 1)), width=10, dimension=np.array([1e2, 1e6]), noise_energy=1.0)
    assert grid.phase.shape == (3, 2)


def test_simulation_and_its_picture():
    result = Bbp(parameters=10_000, points=9, draws=150, seed=1).run()
    over = result.signal / result.detection
    assert (np.diff(result.gap_ratio)[over[:-1] > 3] > 0).all()
    clear = over > 1.5
    # Five standard errors, as the arrays hold two, and the formulas' own error of a finite number of rows.
    for name, bias in (("left", 0.03), ("right", 0.01)):
        difference = np.abs(getattr(result, name) - getattr(result, f"{name}_theory"))
        assert (difference < bias + 2.5 * getattr(result, f"{name}_error"))[clear].all()
    assert np.ptp(result.ratio_pub) < 0.01 * result.ratio_limit
    assert len(result.sentences) == 4
    figure = draw(result)
    assert [len(ax.get_title(loc="left")) > 10 for ax in figure.axes] == [True] * 4
    with pytest.raises(InputError, match="parameters of the sweep"):
        Bbp(parameters=10, window=10)
