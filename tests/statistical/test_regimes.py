"""Regimes are labelled wrongly as often as they say: on noise of many covariances, with and without memory.

The table of docs/theory/adiabatic.md comes from `python examples/theory/adiabatic.py`; this checks it on fewer windows.
"""

import time

import numpy as np
import pytest

from spectral_edge.errors import Outcome
from spectral_edge.measure import NO_MEMORY, Memory, WindowOptions, Windows, regime
from spectral_edge.measure.gram import cosines
from spectral_edge.measure.nulls.power_law import PowerLaw
from spectral_edge.measure.nulls.table import draw_whitened
from spectral_edge.measure.regime_table import (
    draw_regime_table,
    innovation_moments,
    pack,
    regime_table_for,
    window_overlaps,
)
from spectral_edge.quantities import REGIMES

AR = Memory(0.9, 1.0)
BLOCKS = Memory(0.9, 10.0)
PLATEAU, TRANSITION, FORGETTING = range(3)
NOISE = {
    "i.i.d., P = 1e5": (0.0, 1e5),
    "1/k, P = 1e5": (1.0, 1e5),
    "1/k^2, P = 1e5": (2.0, 1e5),
    "30 dimensions": (0.0, 30.0),
}


def noise(name, count, window, memory, seed, *, drift=0.0):
    """[count, 2W, 2W] Gram matrices of power-law noise with a memory; a drift has `drift` times its energy."""
    exponent, size = NOISE[name]
    law = PowerLaw(np.array([exponent]), np.log(np.array([size])))
    white = next(draw_whitened(law, 2 * window, draws=count, seed=seed)) / law.sums(1)[0]
    lower = np.linalg.cholesky(memory.matrix(2 * window))
    gram = lower @ white @ lower.T
    if drift:
        # in a direction of its own, so that only its own energy counts
        gram = gram + drift
    return gram


def labels(gram, memory, **options):
    known = np.full(len(gram), 1e-3), np.zeros(len(gram))
    found = Windows(
        gram,
        WindowOptions(gram.shape[-1] // 2, memory=memory, **options),
        learning_rate=known[0],
        sketch_error=known[1],
    )
    return found["regime"]


def at_most(rate, bound, count):
    return rate <= bound + 3.5 * np.sqrt(bound * (1 - bound) / count)


@pytest.mark.parametrize("window", [5, 10, 20])
@pytest.mark.parametrize("memory", [NO_MEMORY, AR, BLOCKS], ids=["no memory", "AR(.9)", "10 steps a row"])
@pytest.mark.parametrize("name", NOISE)
def test_noise_is_rarely_called_a_plateau(name, memory, window):
    """5 % nominally; up to 7 % with an estimated covariance and a chosen k*, 10 % where nine rows tell 1/k^2."""
    count = 1000 if window < 20 else 600
    found = labels(noise(name, count, window, memory, 21), memory).values
    plateau = (found == PLATEAU).mean()
    print(f"\n{name}, {memory}, W = {window}: {100 * plateau:.1f} %")
    assert at_most(plateau, 0.1 if window == 5 and "k^2" in name else 0.07, count)


@pytest.mark.parametrize("window", [5, 10, 20])
@pytest.mark.parametrize("name", NOISE)
def test_noise_without_memory_is_forgotten(name, window):
    count = 1000 if window < 20 else 600
    found = labels(noise(name, count, window, NO_MEMORY, 22), NO_MEMORY).values
    assert at_most((found != FORGETTING).mean(), 0.1 if window == 5 and "k^2" in name else 0.07, count)


@pytest.mark.parametrize("name", NOISE)
@pytest.mark.parametrize("leading", [1, 2, 3])
def test_every_number_of_directions_holds(name, leading):
    gram = noise(name, 1500, 10, NO_MEMORY, 23)
    lost = 1 - window_overlaps(gram)[0][:, leading - 1]
    reading = regime.noise_reading(cosines(gram), np.full(1500, leading), NO_MEMORY)
    assert at_most((lost < reading.plateau).mean(), 0.06, 1500)


def test_momentum_alone_is_no_plateau_and_no_forgetting():
    """AR noise of many dimensions keeps what its memory keeps: between the two thresholds."""
    found = labels(noise("i.i.d., P = 1e5", 1000, 10, AR, 24), AR).values
    assert (found == TRANSITION).mean() > 0.9
    # the same windows, were the optimizer thought to have no memory, are plateaus
    assert (labels(noise("i.i.d., P = 1e5", 200, 10, AR, 24), NO_MEMORY).values == PLATEAU).mean() > 0.99


@pytest.mark.parametrize(
    ("name", "memory", "drift", "least"),
    [
        ("i.i.d., P = 1e5", NO_MEMORY, 0.1, 0.99),
        ("i.i.d., P = 1e5", AR, 0.1, 0.99),
        ("1/k, P = 1e5", NO_MEMORY, 0.3, 0.9),
        ("30 dimensions", NO_MEMORY, 1.0, 0.99),
        ("30 dimensions", AR, 1.0, 0.7),
    ],
)
def test_a_drift_is_a_plateau(name, memory, drift, least):
    """A constant drift is no part of the noise: it must not raise the threshold that it has to pass."""
    gram = noise(name, 500, 10, memory, 25, drift=drift)
    assert (labels(gram, memory).values == PLATEAU).mean() > least


def test_a_drift_does_not_count_as_a_direction_of_the_noise():
    gram = noise("1/k, P = 1e5", 50, 10, AR, 26)
    before = innovation_moments(gram, AR)
    for after in (innovation_moments(gram + 5.0, AR), innovation_moments(100 * gram, AR)):
        np.testing.assert_allclose(after, before, rtol=1e-6, atol=1e-9)


def test_moments_are_those_of_the_covariance():
    """The mean over windows of the second moment is one over the effective dimension, whatever the memory."""
    for memory in (NO_MEMORY, AR, BLOCKS):
        m2, _ = innovation_moments(cosines(noise("30 dimensions", 2000, 10, memory, 27)), memory)
        # normalising rows costs a little, the more the longer the memory
        assert m2.mean() == pytest.approx(1 / 30, rel=0.1)


def test_an_exact_drift_is_a_plateau_and_rank_one_undefined():
    """No more than rounding is left of the innovations: any persistence is more than that of noise."""
    rng = np.random.default_rng(28)
    rows = np.outer(np.ones(20), rng.standard_normal(40))
    alone = labels((rows @ rows.T)[None], NO_MEMORY)
    assert np.isnan(alone.values[0])
    assert alone.outcomes[0] == Outcome.RANK_DEFICIENT
    rows += 1e-4 * rng.standard_normal(rows.shape)
    assert labels((rows @ rows.T)[None], NO_MEMORY).values[0] == PLATEAU


def test_thresholds_are_ordered_and_labels_follow():
    gram = noise("1/k, P = 1e5", 300, 10, AR, 29)
    position = np.random.default_rng(0).integers(0, 10, size=300)
    reading = regime.noise_reading(cosines(gram), position, AR)
    assert (reading.plateau <= reading.forgetting).all()
    assert ((reading.plateau >= 0) & (reading.forgetting <= 1)).all()
    assert ((reading.expected > 0) & (reading.expected < 1)).all()
    assert (1 - reading.expected > reading.plateau).all()
    named = [REGIMES[int(value)] for value in regime.label(np.array([0.0, 0.5, 1.0]), _reading(0.3, 0.7))]
    assert named == ["plateau", "transition", "forgetting"]


def _reading(plateau, forgetting):
    return regime.NoiseReading(np.full(3, plateau), np.full(3, forgetting), np.zeros(3))


@pytest.mark.parametrize(("name", "leading"), [("i.i.d., P = 1e5", 1), ("30 dimensions", 3), ("1/k, P = 1e5", 1)])
def test_expected_overlap_is_what_noise_shows(name, leading):
    gram = noise(name, 3000, 10, NO_MEMORY, 30)
    seen = window_overlaps(gram)[0][:, leading - 1]
    reading = regime.noise_reading(cosines(gram), np.full(3000, leading), NO_MEMORY)
    # of flat noise a window shows a head by chance, which raises it
    assert 0.8 < reading.expected.mean() / seen.mean() < 2
    if name != "1/k, P = 1e5":
        assert seen.mean() == pytest.approx(leading / NOISE[name][1], abs=5 * seen.std() / np.sqrt(3000))


@pytest.mark.parametrize("memory", [NO_MEMORY, AR])
def test_a_window_reads_the_same_alone_and_in_company(memory):
    whole = cosines(noise("1/k, P = 1e5", 1500, 5, memory, 31))
    position = np.random.default_rng(1).integers(1, 5, size=1500)
    together = regime.noise_reading(whole, position, memory)
    for index in (0, 700, 1499):
        alone = regime.noise_reading(whole[index : index + 1], position[index : index + 1], memory)
        for name in ("plateau", "forgetting", "expected"):
            assert getattr(alone, name)[0] == getattr(together, name)[index], name


def test_undefined_in_undefined_out():
    whole = cosines(noise("30 dimensions", 3, 5, AR, 32))
    whole[1, 2, 3] = np.nan
    reading = regime.noise_reading(whole, np.ones(3, dtype=np.intp), AR)
    assert np.isnan(reading.plateau).tolist() == [False, True, False]
    assert regime.noise_reading(whole[:0], np.ones(0, dtype=np.intp), AR).plateau.shape == (0,)


def test_a_reading_takes_under_a_millisecond():
    """Best of fifty, since what else runs on the machine is no part of it."""
    whole, position = cosines(noise("1/k, P = 1e5", 1, 10, AR, 33)), np.ones(1, dtype=np.intp)
    regime.prepare_regime(10, AR)
    times = []
    for _ in range(50):
        begun = time.perf_counter()
        regime.noise_reading(whole, position, AR)
        times.append(time.perf_counter() - begun)
    assert min(times) < 1e-3


@pytest.mark.parametrize("size", [3, 4, 5, 8, 10, 12, 15, 20])
def test_tables_ship_for_the_usual_windows(size):
    table = regime_table_for(size, NO_MEMORY)
    assert table.draws >= (4000 if size < 15 else 2000)
    assert np.isfinite(table.limits).all()
    assert (np.diff(table.roots, axis=0) > 0).all()
    assert (np.diff(table.shapes, axis=1) >= 0).all()
    assert regime_table_for(size, Memory(0.0, 25.0)) is table


def test_tables_are_drawn_reproducibly_and_survive_packing():
    state = np.random.get_state()  # noqa: NPY002
    first, second = (draw_regime_table(3, Memory(0.7, 3.0), draws=60) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), state, strict=True))  # noqa: NPY002
    for part in ("roots", "shapes", "limits", "expected", "shifts"):
        assert np.array_equal(getattr(first, part), getattr(second, part)), part
    packed = pack({"one": first})
    np.testing.assert_allclose(packed["one_limits"], first.limits, rtol=1e-6)
    # without noise what remains is the memory's own overlap
    assert (first.limits[0] == first.expected[0]).all()
    assert first.limits[0, 0, 0] > 0


def test_the_smallest_window_has_a_regime():
    found = labels(noise("30 dimensions", 400, 2, NO_MEMORY, 34), NO_MEMORY)
    assert at_most((found.values == PLATEAU).mean(), 0.08, 400)
