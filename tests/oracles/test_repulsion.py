"""Second-order repulsion against exact eigenvalues, a closed form, the measured twin, and its order of convergence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectral_edge.errors import InputError
from spectral_edge.measure.dynamics import swap
from spectral_edge.theory.repulsion import repulsion


def gram(rows):
    return rows @ np.swapaxes(rows, -1, -2)


def planted(rng, draws, window, ratio, dimensions=400):
    """Windows of two persistent modes, strengths `ratio` to 1 with random signs from row to row, and weak noise."""
    signs = rng.standard_normal((draws, window + 1, 2)) * np.array([ratio, 1.0])
    noise = 0.05 * rng.standard_normal((draws, window + 1, dimensions)) / np.sqrt(dimensions)
    noise[..., :2] += signs
    return noise


@given(st.integers(0, 1000))
def test_error_is_of_third_order_in_the_swap(seed):
    """The new row is the old one plus epsilon of something: the change is of size epsilon, the error epsilon^3."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((6, 30)) * np.linspace(1, 4, 6)[:, None]
    away = rng.standard_normal(30)
    errors = []
    for epsilon in (4e-3, 2e-3, 1e-3):
        swapped = np.concatenate([rows, [rows[0] + epsilon * away]])
        errors.append(np.linalg.norm(repulsion(gram(swapped)).error))
    # Largest coefficient of the series may vanish by chance, which only raises the order.
    assert np.log2(errors[0] / errors[1]) > 2.6
    assert np.log2(errors[1] / errors[2]) > 2.6


def test_first_order_alone_is_of_second_order_in_the_swap():
    rng = np.random.default_rng(0)
    rows, away = rng.standard_normal((6, 30)), rng.standard_normal(30)
    errors = []
    for epsilon in (2e-3, 1e-3):
        found = repulsion(gram(np.concatenate([rows, [rows[0] + epsilon * away]])))
        errors.append(np.linalg.norm(found.injection + found.window_loss - found.true))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.1)


@given(st.integers(0, 1000))
def test_traces_are_exact(seed):
    """Repulsion within the window moves energy between modes: it sums to zero. The changes sum to |n|^2 - |o|^2."""
    rows = np.random.default_rng(seed).standard_normal((6, 40))
    found = repulsion(gram(rows))
    assert found.within.sum() == pytest.approx(0.0, abs=1e-9 * np.abs(found.within).sum())
    assert found.true.sum() == pytest.approx((rows[-1] ** 2).sum() - (rows[0] ** 2).sum())
    assert -found.window_loss.sum() == pytest.approx((rows[0] ** 2).sum())


def test_two_levels_in_closed_form():
    """Rows (a, 0) and (0, b) stay while a small third one turns: levels repel by E_12^2 / (lambda_1 - lambda_2)."""
    a, b, x = 3.0, 1.0, 0.01
    old = np.array([[x, 0.0], [a, 0.0], [0.0, b]])
    new = np.array([x, x])
    found = repulsion(gram(np.concatenate([old, [new]])))
    one, two = a**2 + x**2, b**2
    # dM = n n^T - o o^T = x^2 [[0, 1], [1, 1]].
    shift = x**4 / (one - two)
    np.testing.assert_allclose(found.within[:2], [shift, -shift], rtol=1e-6)
    after = np.linalg.eigvalsh(np.array([[one, x**2], [x**2, two + x**2]]))[::-1]
    np.testing.assert_allclose(found.true[:2], after - [one, two], atol=1e-14)
    np.testing.assert_allclose(found.predicted[:2], found.true[:2], atol=x**6)


def test_agrees_with_the_measured_split():
    rng = np.random.default_rng(3)
    matrices = gram(rng.standard_normal((20, 9, 50)))
    measured, found = swap(matrices), repulsion(matrices)
    for name in ("injection", "window_loss", "repulsion"):
        np.testing.assert_allclose(getattr(found, name), getattr(measured, name), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found.true, measured.measured, atol=1e-9)


def test_holds_for_long_windows_of_separated_modes_and_fails_where_a_gap_closes():
    rng = np.random.default_rng(1)

    def relative(window, ratio):
        found = repulsion(gram(planted(rng, 100, window, ratio)))
        return np.median(np.abs(found.error[:, 0]) / np.abs(found.true[:, 0])), np.median(found.smallness[:, 0])

    far, small = relative(200, 3.0)
    assert far < 0.01
    assert small < 0.05
    near, large = relative(200, 1.02)
    assert near > 10 * far
    assert large > 3 * small
    # Row swaps in a short window of noise are never small: the prediction is worse than predicting no change.
    noise = repulsion(gram(rng.standard_normal((200, 11, 500))))
    assert np.median(np.abs(noise.error[:, :3])) > 5 * np.median(np.abs(noise.true[:, :3]))
    assert np.median(noise.smallness[:, :3]) > 1


def test_rank_floor_and_shape():
    rows = np.zeros((4, 5))
    rows[:, 0] = [1.0, 2.0, 1.0, 3.0]
    found = repulsion(gram(rows))
    assert np.isfinite(found.predicted[0])
    assert np.isnan(found.predicted[1:]).all()
    assert found.predicted[0] == pytest.approx(9.0 - 1.0)
    with pytest.raises(InputError, match="W \\+ 1"):
        repulsion(np.eye(2))
