"""Scores of forecasts against planted truth and against nulls."""

from dataclasses import replace

import numpy as np
import pytest

from spectral_edge import InputError
from spectral_edge.evaluate.scoring import AR1, NO_CHANGE, Forecasts, compare, score


def planted(seed, count=60, noise=0.3, strength=1.0):
    """A change that is the sum of two terms and noise, and a rival that knows one of them."""
    draw = np.random.default_rng(seed)
    one, two = draw.standard_normal((2, count))
    scale = np.exp(draw.standard_normal(count))
    change = scale * (strength * (one - 0.5 * two) + noise * draw.standard_normal(count))
    terms = {"f": {"one": scale * one, "two": -0.5 * scale * two}, "half": {"one": scale * one}}
    return Forecasts(change, scale * draw.standard_normal(count), scale, terms)


EXPECTED = 1 - 0.3**2 / (1.25 + 0.3**2)


@pytest.mark.parametrize("runs", [1, 6])
def test_a_true_form_scores_what_its_noise_leaves(runs):
    scores = [score([planted(100 * seed + k) for k in range(runs)], "f", against=["half"]) for seed in range(200)]
    values = np.array([s.r2 for s in scores])
    assert abs(values.mean() - EXPECTED) < 4 * values.std() / np.sqrt(200)
    inside = np.mean([s.interval[0] <= EXPECTED <= s.interval[1] for s in scores])
    assert 0.89 < inside < 0.99, inside  # 95 % within three standard errors, of which few repetitions take a little
    named = np.mean([s.coefficient_intervals["one"][0] <= 1 <= s.coefficient_intervals["one"][1] for s in scores])
    assert 0.87 < named < 0.99, named
    assert np.mean([s.coefficients["one"] for s in scores]) == pytest.approx(1, abs=0.05)
    assert np.mean([s.rivals[AR1].r2 for s in scores]) < 0.05
    assert np.mean([s.r2_first_half for s in scores]) == pytest.approx(EXPECTED, abs=0.02)
    # Without the first term its variance is missing as well: 1 - (1 + .09) / 1.34; without the second 1 - .34 / 1.34.
    assert np.mean([s.r2_without["one"] for s in scores]) == pytest.approx(0.187, abs=0.05)
    assert np.mean([s.r2_without["two"] for s in scores]) == pytest.approx(0.746, abs=0.03)
    assert np.mean([s.rivals["half"].r2 for s in scores]) == pytest.approx(0.746, abs=0.03)
    assert np.mean([s.beats_all for s in scores]) > (0.75 if runs == 1 else 0.95)


def test_a_form_is_compared_with_its_rivals_on_the_same_forecasts():
    found = score([planted(seed) for seed in range(6)], "half", against=["f", "half"])
    assert set(found.rivals) == {NO_CHANGE, AR1, "f"}
    assert found.rivals["f"].error_ratio > found.rivals["f"].interval[0] > 1
    assert not found.beats_all
    assert found.rivals[NO_CHANGE].error_ratio == pytest.approx(1 - found.r2)
    ratio = (1 - found.r2) / (1 - found.rivals["f"].r2)
    assert found.rivals["f"].error_ratio == pytest.approx(ratio)


def test_nothing_that_is_fitted_has_seen_what_is_tested():
    runs = [planted(seed) for seed in range(3)]
    late = np.arange(60) >= 30
    draw = np.random.default_rng(9)
    changed = [replace(run, measured=np.where(late, draw.standard_normal(60), run.measured)) for run in runs]
    one, other = score(runs, "f"), score(changed, "f")
    assert one.coefficients == other.coefficients
    assert one.coefficient_intervals == other.coefficient_intervals
    assert one.rivals[AR1].r2_first_half == other.rivals[AR1].r2_first_half
    assert one.r2 != other.r2


def test_a_form_of_noise_scores_below_persistence_and_fitting_gives_it_nothing():
    scores = [score([planted(seed, strength=0.0)], "f") for seed in range(100)]
    assert max(s.r2 for s in scores) < 0
    assert np.mean([s.r2_fitted for s in scores]) < 0.02
    assert not any(s.beats_all for s in scores)


@pytest.mark.parametrize("runs", [1, 6])
def test_a_form_rarely_beats_what_is_as_good(runs):
    beaten = 0
    for seed in range(400):
        made = [planted(10_000 + 10 * seed + k) for k in range(runs)]
        for run in made:
            off = run.scale * np.random.default_rng(int(1e6 * run.scale[0])).standard_normal((2, 60))
            for name, error in zip(("f", "half"), off, strict=True):
                run.terms[name] = {"x": run.measured + error}
        beaten += score(made, "f", against=["half"]).rivals["half"].interval[1] < 1
    assert beaten / 400 < 0.025 + 3 * np.sqrt(0.025 / 400)


def test_a_wrong_prefactor_shows_in_the_coefficients():
    run = planted(0)
    wrong = replace(run, terms={"f": {n: 2000 * v for n, v in run.terms["f"].items()}})
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
    # The variance of the change is 2 (1 - phi) / (1 - phi^2) = 4/3 times that of the noise.
    assert found.rivals[AR1].r2 == pytest.approx(0.25, abs=0.12)
    assert not found.beats_all


def test_a_perfect_form_and_a_run_without_change():
    run = planted(0, noise=0.0)
    found = score([run], "f")
    assert found.r2 == pytest.approx(1)
    still = replace(run, measured=np.zeros(60))
    found = score([still], "f")
    assert np.isnan(found.r2)
    assert not found.beats_all


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


def test_forms_are_compared_on_what_all_of_them_forecast():
    runs = [planted(seed) for seed in range(3)]
    for run in runs:
        run.terms["half"]["one"] = run.terms["half"]["one"].copy()
        run.terms["half"]["one"][40:50] = np.nan
        run.terms["never"] = {"x": np.full(60, np.nan)}
    found = compare(runs, ["f", "half", "never"], missing=("the metric x",))
    assert found.left_out == ("never",)
    assert found.scores["f"].forecasts == found.scores["half"].forecasts == 3 * 20
    words = str(found)
    assert "(no change)" in words
    assert "missing: the metric x" in words
    with pytest.raises(InputError, match="in each half"):
        compare(runs, ["never"])
