"""Discrete hazards against a direct maximum of the likelihood, planted causes and covariates that only correlate."""

import itertools
import sys

import numpy as np
import pytest
from scipy.optimize import minimize

from spectral_edge.errors import InputError, MissingExtraError
from spectral_edge.evaluate.ar1 import ar1_draws
from spectral_edge.evaluate.hazard import HazardRun, hazard

LENGTH = 30


def simulated(count, cause, strength, rng, *, shared=0.7, level=-3.2, memory=0.8):
    """Runs whose event is driven by one of two correlated covariates, or by neither; recorded to the end."""
    runs = []
    for _ in range(count):
        common, own, other = ar1_draws(memory, LENGTH, 3, rng)
        paths = {
            "gap": np.sqrt(shared) * common + np.sqrt(1 - shared) * own,
            "norm": np.sqrt(shared) * common + np.sqrt(1 - shared) * other,
        }
        rate = 1 - np.exp(-np.exp(level + strength * paths[cause]))
        hit = np.flatnonzero(rng.random(LENGTH) < rate)
        steps = 100 * np.arange(1, LENGTH + 1)
        runs.append(HazardRun(steps, paths, int(steps[hit[0]]) - 50 if len(hit) else None))
    return runs


def rows_of(runs, names):
    """Design and flags, row by row."""
    found = []
    for run in runs:
        for t, step in enumerate(run.steps):
            event = run.event is not None and step >= run.event
            found.append([float(event), np.log(step), *(run.covariates[name][t] for name in names)])
            if event:
                break
    return np.array(found)


def largest(flags, design):
    """Largest log likelihood by a general optimizer."""

    def cost(weights):
        eta = design @ weights
        return -(flags * np.log(-np.expm1(-np.exp(eta)) + 1e-300) - (1 - flags) * np.exp(eta)).sum()

    return minimize(cost, np.r_[-3, np.zeros(design.shape[1] - 1)], method="BFGS", options={"gtol": 1e-7})


def test_coefficients_and_statistic_by_direct_maximum():
    runs = simulated(15, "gap", 1.0, np.random.default_rng(0))
    found = hazard(runs, "gap", ["norm"], draws=9)
    rows = rows_of(runs, ["norm", "gap"])
    flags, values = rows[:, 0], rows[:, 1:]
    assert (found.rows, found.events) == (len(rows), int(flags.sum()))
    design = np.column_stack([np.ones(len(rows)), (values - values.mean(axis=0)) / values.std(axis=0)])
    full, reduced = largest(flags, design), largest(flags, design[:, :-1])
    assert found.outcome == "fitted"
    assert found.coefficients["gap"] == pytest.approx(full.x[-1], abs=1e-3)
    assert found.coefficients["norm"] == pytest.approx(full.x[-2], abs=1e-3)
    assert found.statistic == pytest.approx(2 * (reduced.fun - full.fun), abs=1e-4)
    assert found.errors["gap"] > 0
    assert np.sign(found.score) == np.sign(found.coefficients["gap"])
    assert found.score**2 == pytest.approx(found.statistic, rel=0.5)


def test_all_permutations_of_few_runs_by_hand():
    """Without other covariates and a constant baseline the score is that of a difference of means."""
    runs = simulated(4, "gap", 1.0, np.random.default_rng(1), level=-2.0)
    found = hazard(runs, "gap", baseline="bins", bins=1)
    assert found.permutations == 24
    rows = [rows_of([run], ["gap"]) for run in runs]
    flags = np.concatenate([row[:, 0] for row in rows])
    scores = []
    for order in itertools.permutations(range(4)):
        x = np.concatenate([runs[b].covariates["gap"][: len(rows[a])] for a, b in enumerate(order)])
        rest = x - x.mean()
        scores.append(abs((flags * rest).sum()) / np.sqrt((rest**2).sum()))
    assert found.p_permutation == pytest.approx(np.mean(np.array(scores) >= scores[0] - 1e-9))


@pytest.mark.parametrize("baseline", ["log step", "bins"])
def test_a_cause_is_found_and_its_correlate_is_not(baseline):
    rng = np.random.default_rng(2)
    runs = simulated(40, "gap", 1.5, rng)
    cause = hazard(runs, "gap", ["norm"], baseline=baseline, draws=199)
    correlate = hazard(runs, "norm", ["gap"], baseline=baseline, draws=199)
    assert cause.p < 1e-3
    assert cause.p_permutation < 0.02
    assert cause.coefficients["gap"] == pytest.approx(1.5, abs=4 * cause.errors["gap"])
    assert correlate.p > 0.01
    assert correlate.p_permutation > 0.01


def test_size_and_power_with_twelve_runs():
    """The docstring's numbers: the event is driven by the norm, with which the gap correlates at .7; and by the gap."""
    rng = np.random.default_rng(3)
    draws = 60
    for cause, rate, rate_permutation in (("norm", 0.07, 0.045), ("gap", 0.9, 0.85)):
        found = [hazard(simulated(12, cause, 1.5, rng), "gap", ["norm"], draws=99) for _ in range(draws)]
        fitted = [f for f in found if f.outcome == "fitted"]
        assert len(fitted) > 0.9 * draws
        for hits, of, expected in (
            (sum(f.p <= 0.05 for f in fitted), len(fitted), rate),
            (sum(f.p_permutation <= 0.05 for f in fitted), len(fitted), rate_permutation),
        ):
            assert abs(hits / of - expected) < 4 * np.sqrt(expected * (1 - expected) / of)


def test_separation_has_a_name_and_a_permutation():
    steps = 100 * np.arange(1, 11)
    runs = [HazardRun(steps, {"gap": (steps == 100 * k).astype(float)}, 100 * k) for k in (3, 5, 7, 9, 6)]
    found = hazard(runs, "gap")
    assert found.outcome == "separated"
    assert found.p is None
    assert found.score > 0
    assert found.p_permutation == pytest.approx(1 / 120)


def test_what_cannot_be_fitted_is_named():
    steps = np.arange(1, 21)
    noise = np.random.default_rng(4).standard_normal((3, 20))
    quiet = [HazardRun(steps, {"gap": row}, None) for row in noise]
    assert hazard(quiet, "gap").outcome == "no events"
    assert hazard([], "gap").outcome == "no events"
    late = [HazardRun(steps, {"gap": row}, 50) for row in noise]
    assert hazard(late, "gap").outcome == "no events"
    assert hazard([HazardRun([5], {"gap": [1.0]}, 5)], "gap").outcome == "too few rows"
    twice = [HazardRun(steps, {"gap": row, "norm": 3 * row}, 12) for row in noise]
    assert hazard(twice, "gap", ["norm"]).outcome == "collinear"
    one = hazard([HazardRun(steps, {"gap": noise[0]}, 12)], "gap", baseline="bins", bins=1)
    assert one.p_permutation is None
    with pytest.raises(InputError, match="no norm"):
        hazard(late, "gap", ["norm"])
    with pytest.raises(InputError, match="ascending"):
        hazard([HazardRun(steps[::-1], {"gap": noise[0]}, None)], "gap")


def test_short_paths_leave_rows_out():
    """A run that stops at its event can lend its path only so far."""
    runs = simulated(8, "gap", 1.5, np.random.default_rng(5))
    cut = [
        HazardRun(r.steps[:n], {k: v[:n] for k, v in r.covariates.items()}, r.event)
        for r in runs
        for n in [len(rows_of([r], ["gap"]))]
    ]
    whole, short = (hazard(each, "gap", ["norm"], draws=49) for each in (runs, cut))
    assert short.statistic == pytest.approx(whole.statistic)
    assert short.score == pytest.approx(whole.score)
    assert 0 < short.p_permutation <= 1


def test_without_statsmodels(monkeypatch):
    monkeypatch.setitem(sys.modules, "statsmodels.genmod.generalized_linear_model", None)
    with pytest.raises(MissingExtraError, match=r"spectral-edge\[stats\]"):
        hazard(simulated(5, "gap", 1.0, np.random.default_rng(6), level=-1), "gap")
