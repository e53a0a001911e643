"""Scores of forecasts against planted truth and against nulls."""

import numpy as np
import pytest

from spectral_edge import InputError
from spectral_edge.evaluate.scoring import Forecasts, score


def planted(seed, count=60, noise=0.3, strength=1.0):
    """A change that is the sum of two terms and noise."""
    draw = np.random.default_rng(seed)
    one, two = draw.standard_normal((2, count))
    scale = np.exp(draw.standard_normal(count))
    change = scale * (strength * (one - 0.5 * two) + noise * draw.standard_normal(count))
    return Forecasts(
        change, scale * draw.standard_normal(count), scale, {"f": {"one": scale * one, "two": -0.5 * scale * two}}
    )


def test_a_true_form_scores_what_its_noise_leaves():
    scores = [score([planted(seed)], "f") for seed in range(100)]
    expected = 1 - 0.3**2 / (1.25 + 0.3**2)
    values = np.array([s.r2 for s in scores])
    assert abs(values.mean() - expected) < 4 * values.std() / 10
    inside = np.mean([s.interval[0] <= expected <= s.interval[1] for s in scores])
    assert inside > 0.8, inside  # a bootstrap of 30 forecasts is known to be somewhat narrow
    assert np.mean([s.coefficients["one"] for s in scores]) == pytest.approx(1, abs=0.05)
    assert max(s.r2_ar1 for s in scores) < 0.3


def test_a_form_of_noise_scores_below_persistence_and_fitting_gives_it_nothing():
    scores = [score([planted(seed, strength=0.0)], "f") for seed in range(100)]
    assert max(s.r2 for s in scores) < 0
    assert np.mean([s.r2_fitted for s in scores]) < 0.02


def test_a_wrong_prefactor_shows_in_the_coefficients():
    run = planted(0)
    wrong = Forecasts(run.measured, run.level, run.scale, {"f": {n: 2000 * v for n, v in run.terms["f"].items()}})
    found = score([wrong], "f")
    assert found.r2 < -1e5
    assert found.r2_fitted > 0.8
    assert found.coefficients["one"] == pytest.approx(1 / 2000, rel=0.2)


def test_ar1_finds_what_it_can():
    draw = np.random.default_rng(1)
    level = np.zeros(400)
    for t in range(399):
        level[t + 1] = 0.5 * level[t] + draw.standard_normal()
    ones = np.ones(399)
    run = Forecasts(np.diff(level), level[:-1], ones, {"none": {"zero": 0 * ones}})
    found = score([run], "none")
    assert found.r2 == 0
    assert found.r2_ar1 == pytest.approx(0.25, abs=0.12)  # var of the change is 1 / (1 - phi^2) * 2 (1 - phi) = 4/3


def test_unknown_terms_are_left_out_and_too_few_are_said():
    run = planted(2, count=30)
    run.terms["f"]["one"][:20] = np.nan
    with pytest.raises(InputError, match="in each half"):
        score([run], "f")
    many = [planted(seed, count=30) for seed in range(6)]
    many[0].terms["f"]["one"][:20] = np.nan
    found = score(many, "f")
    assert found.forecasts == 85
    assert found.interval[0] < found.r2 < found.interval[1]
