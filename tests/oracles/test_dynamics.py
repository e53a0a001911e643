"""The change of a window's eigenvalues by cause, against brute force and against perturbation theory's own order."""

import numpy as np
import pytest

from spectral_edge.measure import persistence, project, spectrum, swap


def rows(seed, count, size=60, scale=None):
    draw = np.random.default_rng(seed).standard_normal((count, size))
    return draw if scale is None else draw * scale


def test_terms_against_directions_formed_by_brute_force():
    updates = rows(0, 6)
    found = swap((updates @ updates.T)[None])
    _, sigma, right = np.linalg.svd(updates[:-1], full_matrices=False)
    np.testing.assert_allclose(found.injection[0], (right @ updates[-1]) ** 2, rtol=1e-9)
    np.testing.assert_allclose(found.window_loss[0], -((right @ updates[0]) ** 2), rtol=1e-9)
    after = np.linalg.svd(updates[1:], compute_uv=False)
    np.testing.assert_allclose(found.measured[0], after**2 - sigma**2, atol=1e-9)
    outside = updates[-1] - right.T @ (right @ updates[-1])
    change = np.outer(right @ updates[-1], right @ updates[-1]) - np.outer(right @ updates[0], right @ updates[0])
    for j in range(5):
        second = sum(change[j, k] ** 2 / (sigma[j] ** 2 - sigma[k] ** 2) for k in range(5) if k != j)
        second += outside @ outside * (right[j] @ updates[-1]) ** 2 / sigma[j] ** 2
        assert found.repulsion[0, j] == pytest.approx(second, rel=1e-8)


def test_what_is_left_is_of_third_order():
    """Where the first row and the new row are small, halving both divides the error of second order by about 2^6."""
    errors = []
    for size in (0.2, 0.1, 0.05):
        updates = rows(1, 7, 40, np.array([size, 9, 7, 5, 3.5, 2, size])[:, None])
        found = swap((updates @ updates.T)[None])
        # The row that goes is itself the mode that vanishes; the others see it as a perturbation.
        predicted = found.injection + found.window_loss + found.repulsion
        errors.append(np.abs(found.measured - predicted)[0, :4].max())
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert (orders > 3.5).all(), orders


def test_persistence_of_drift_noise_and_oscillation():
    steps = np.arange(10)
    along = rows(2, 1, 400)
    for profile, expected in ((np.ones(10), 1.0), ((-1.0) ** steps, -1.0), (0.8**steps, 0.8)):
        found = spectrum((profile[:, None] * along) @ (profile[:, None] * along).T[None])
        assert persistence(found)[0, 0] == pytest.approx(expected, abs=1e-9)
        assert np.isnan(persistence(found)[0, 1:]).all()
    draws = np.array([persistence(spectrum((x @ x.T)[None]))[0] for x in (rows(s, 10, 500) for s in range(200))])
    standard_error = draws.std(axis=0) / np.sqrt(len(draws))
    # Left vectors of isotropic noise are uniform on the sphere: the mean is zero.
    assert (np.abs(draws.mean(axis=0)) < 4 * standard_error).all()


def test_projection_of_any_vector():
    updates, vector = rows(3, 5), rows(4, 1)[0]
    found = project(spectrum((updates @ updates.T)[None]), (updates @ vector)[None])
    right = np.linalg.svd(updates, full_matrices=False)[2]
    np.testing.assert_allclose(np.abs(found[0]), np.abs(right @ vector), rtol=1e-9)
