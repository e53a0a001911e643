"""Identities of modes: planted crossings, births, deaths, and overlaps of windows at any lag."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectral_edge.errors import InputError
from spectral_edge.measure import tracking
from spectral_edge.measure.spectrum import spectrum
from spectral_edge.theory import overlap as theory

seeds = st.integers(0, 2**32 - 1)


def sliding(rows, window, lag=1):
    """Overlaps of successive windows of rows [n, P], `lag` updates apart."""
    size = window + lag
    blocks = np.stack([rows[end - size : end] for end in range(size, len(rows) + 1, lag)])
    return tracking.overlaps_at(blocks @ blocks.swapaxes(-1, -2), window, lag)


@given(seeds, st.integers(2, 6), st.integers(1, 7))
def test_overlaps_are_products_of_right_directions(seed, window, lag):
    rows = np.random.default_rng(seed).standard_normal((window + lag + 1, 20))
    extended = (rows @ rows.T)[None]
    found = tracking.overlaps_at(extended, window, lag)[0]
    older = np.linalg.svd(rows[-window - lag : -lag], full_matrices=False)[2]
    newer = np.linalg.svd(rows[-window:], full_matrices=False)[2]
    np.testing.assert_allclose(np.abs(found), np.abs(older @ newer.T), atol=1e-7)


def test_overlaps_need_the_rows():
    for lag, size in ((0, 12), (3, 12)):
        with pytest.raises(InputError):
            tracking.overlaps_at(np.eye(size)[None], 10, lag)


def test_modes_keep_their_identity_through_a_crossing():
    """Two fixed directions whose strengths cross: places swap, identities stay."""
    time = np.arange(40)
    rows = np.zeros((40, 30))
    rng = np.random.default_rng(0)
    rows[:, 1] = (-1.0) ** (time // 2) * (1.0 + 0.05 * time)
    rows[:, 0] = (-1.0) ** time * (3.0 - 0.05 * time)
    rows += 1e-3 * rng.standard_normal(rows.shape)
    found = tracking.track(sliding(rows, 4))
    first, second = found.places(0), found.places(1)
    assert first[0] == 1
    assert second[0] == 2
    assert first[-1] == 2
    assert second[-1] == 1
    ours = [crossing for crossing in found.crossings if {crossing.rising, crossing.falling} == {0, 1}]
    assert [(crossing.rising, crossing.falling) for crossing in ours] == [(1, 0)]
    window = ours[0].window
    assert first[window - 1] == 1
    assert first[window] == 2
    # energies are equal where 3 - .05 t = 1 + .05 t, at row 20; window w holds rows w to w + 3
    assert abs(window - 18.5) <= 2
    values = np.broadcast_to(np.arange(1.0, 5.0), (37, 4))
    np.testing.assert_array_equal(found.follow(values, 0), first)


def test_a_mode_that_turns_at_once_dies_and_another_is_born():
    """One direction up to row 14, another from row 15 on, in windows that share no row."""
    rows = np.zeros((30, 25))
    rows[:15, 0] = 1.0
    rows[15:, 1] = 1.0
    rows += 0.05 * np.random.default_rng(1).standard_normal(rows.shape)
    found = tracking.track(sliding(rows, 5, lag=5))
    assert len(found.identity) == 6
    assert found.places(0)[0] == 1
    assert found.deaths[0] == 3
    newborn = found.identity[3, 0]
    assert found.births[newborn] == 3
    assert found.deaths[newborn] == 6
    assert found.lifetimes[newborn] == 3
    assert np.isnan(found.places(0)[3:]).all()
    assert np.isnan(found.kept[3, 0])
    assert found.kept[4, 0] > 0.9


@given(seeds, st.integers(2, 6), st.integers(1, 12), st.floats(0.0, 0.9))
def test_identities_are_consistent(seed, window, steps, least):
    rng = np.random.default_rng(seed)
    rotation = np.stack([np.linalg.qr(rng.standard_normal((2 * window, 2 * window)))[0] for _ in range(steps)])
    found = tracking.track(rotation[:, :window, :window], least=least)
    assert found.identity.shape == (steps + 1, window)
    for line in found.identity:
        assert len(set(line)) == window
    for name in range(len(found.births)):
        seen = np.flatnonzero((found.identity == name).any(axis=1))
        assert seen[0] == found.births[name]
        assert seen[-1] + 1 == found.deaths[name]
        assert len(seen) == found.lifetimes[name]
    assert (found.kept[~np.isnan(found.kept)] > least).all()
    assert np.isnan(found.kept[0]).all()
    # names count births in the order of time
    assert (np.diff(found.births) >= 0).all()


@given(seeds, st.integers(2, 6))
def test_above_a_half_partners_are_unique(seed, window):
    """Whatever pairs have squared overlap above 1/2 are found, each of them."""
    rng = np.random.default_rng(seed)
    near = np.linalg.qr(np.eye(window)[rng.permutation(window)] + 0.5 * rng.standard_normal((window, window)))[0]
    found = tracking.track(near[None])
    for i, j in np.argwhere(near**2 > 0.5):
        assert found.identity[1, j] == found.identity[0, i]
    assert (~np.isnan(found.kept[1])).sum() == (near**2 > 0.5).sum()


@given(seeds, st.integers(1, 5))
def test_permuting_modes_permutes_identities(seed, steps):
    """Crossings count the inversions that relabelling makes."""
    rng = np.random.default_rng(seed)
    order = [rng.permutation(4) for _ in range(steps)]
    found = tracking.track(np.stack([np.eye(4)[:, one] for one in order]))
    line, total = np.arange(4), 0
    for step, one in enumerate(order):
        line = line[one]
        np.testing.assert_array_equal(found.identity[step + 1], line)
        total += sum(one[i] > one[j] for i in range(4) for j in range(i + 1, 4))
    assert len(found.crossings) == total
    assert len(found.births) == 4


def test_undefined_modes_have_no_identity():
    overlap = np.stack([np.eye(3)] * 3)
    overlap[:, 2, :] = overlap[:, :, 2] = np.nan
    found = tracking.track(overlap)
    assert (found.identity[:, 2] == -1).all()
    assert (found.identity[:, :2] == [0, 1]).all()
    # a window without a spectrum ends every mode, and the next one begins anew
    broken = np.stack([np.eye(2)] * 4)
    broken[1] = broken[2] = np.nan
    found = tracking.track(broken)
    assert found.identity.tolist() == [[0, 1], [0, 1], [-1, -1], [2, 3], [2, 3]]
    assert found.deaths.tolist() == [2, 2, 5, 5]


def test_nothing_to_follow():
    found = tracking.track(np.empty((0, 3, 3)))
    assert found.identity.tolist() == [[-1, -1, -1]]
    for wrong in (np.empty((2, 3)), np.empty((2, 3, 4))):
        with pytest.raises(InputError):
            tracking.track(wrong)
    with pytest.raises(InputError):
        tracking.track(np.empty((2, 3, 3)), least=1.0)


def test_noise_is_followed_along_shared_rows_and_not_across_windows():
    """At lag 1 the bar is passed by shared rows alone; at lag W every mode dies at once."""
    rows = np.random.default_rng(4).standard_normal((400, 3000))
    shared = tracking.track(sliding(rows, 10))
    apart = tracking.track(sliding(rows, 10, lag=10))
    assert np.median(shared.lifetimes) >= 1
    assert shared.lifetimes.mean() > 1.5
    assert (apart.lifetimes == 1).all()
    assert (apart.births == np.repeat(np.arange(40), 10)).all()


def test_expected_attenuation_is_what_a_stable_mode_shows():
    """A drift of the energy that theory says is recovered by half, from eigenvalues alone."""
    rng, draws = np.random.default_rng(6), 150
    dimension, window, strength = 20_000, 10, 1.0
    energies, found = [], []
    for _ in range(draws):
        rows = rng.standard_normal((2 * window, dimension))
        rows[:, 0] += np.sqrt(strength * dimension / window)
        gram = rows @ rows.T
        energies.append([gram[:window, :window], gram[window:, window:]])
        found.append(tracking.overlaps_at(gram[None], window, window)[0, 0, 0] ** 2)
    energies = np.array(energies)
    older, newer = (spectrum(np.ascontiguousarray(energies[:, half])).eigenvalues for half in (0, 1))
    one = np.ones(draws, dtype=np.intp)
    expected = tracking.attenuated_overlap(older, newer, one)
    assert expected.shape == (draws, window)
    assert np.isnan(expected[:, 1:]).all()
    error = np.std(np.array(found) - expected[:, 0]) / np.sqrt(draws)
    assert np.mean(found) == pytest.approx(expected[:, 0].mean(), abs=4 * error + 0.01)
    planted = theory.attenuated_overlap(strength, window=window, dimension=dimension)
    assert expected[:, 0].mean() == pytest.approx(float(planted), abs=0.02)
    assert np.isnan(tracking.attenuated_overlap(older, newer, 0 * one)).all()
    assert tracking.shared_overlap(10, 3) == theory.shared_overlap(10, 3) == 0.7
    assert tracking.shared_overlap(10, 30) == 0
