<<<<<<< HEAD
"""The hazard model against a direct maximum of its likelihood, planted effects and covariates that only correlate."""

from itertools import permutations
=======
"""Discrete hazards against a direct maximum of the likelihood, planted causes and covariates that only correlate."""

import itertools
import sys
>>>>>>> analyses

import numpy as np
import pytest
from scipy.optimize import minimize
<<<<<<< HEAD
from scipy.stats import chi2

from spectral_edge.errors import InputError, MissingExtraError
from spectral_edge.evaluate import optional
from spectral_edge.evaluate.hazard import hazard


def memory(rng, shape, rho=0.9):
    """Paths [runs, intervals] with a level for each run and AR(1) noise about it, of unit variance."""
    noise = rng.standard_normal(shape)
    for t in range(1, shape[1]):
        noise[:, t] = rho * noise[:, t - 1] + np.sqrt(1 - rho**2) * noise[:, t]
    return (noise + rng.standard_normal((shape[0], 1))) / np.sqrt(2)


def table(rng, *, runs=12, intervals=40, gap=0.0, norm=0.0, shared=0.7, after=True, rate=-3.0):
    """Rows of simulated runs; the gap correlates with the norm, and the event follows either."""
    norms = memory(rng, (runs, intervals))
    gaps = shared * norms + np.sqrt(1 - shared**2) * memory(rng, (runs, intervals))
    steps = 100.0 * np.arange(1, intervals + 1)
    eta = rate + gap * gaps + norm * norms + 0.5 * (np.log(steps) - np.log(steps).mean())
    fired = rng.random((runs, intervals)) < -np.expm1(-np.exp(eta))
    first = fired & (np.cumsum(fired, axis=1) == 1)
    kept = np.ones_like(fired) if after else np.cumsum(fired, axis=1) - fired == 0
    label, column = np.nonzero(kept)
    return label, steps[column], first[kept], gaps[kept], {"norm": norms[kept]}


def at_risk(rows):
    label, step, event, gap, others = rows
    keep = np.concatenate([np.cumsum(event[label == r]) - event[label == r] == 0 for r in np.unique(label)])
    return label[keep], step[keep], event[keep], gap[keep], {n: v[keep] for n, v in others.items()}


def test_likelihood_ratio_is_that_of_a_direct_maximum():
    rows = table(np.random.default_rng(0), gap=0.8, norm=0.5)
    found = hazard(*rows)
    _, step, event, gap, others = at_risk(rows)

    def best(*columns):
        design = np.column_stack([np.ones(len(gap)), np.log(step), *columns])
        design[:, 1:] = (design[:, 1:] - design[:, 1:].mean(0)) / design[:, 1:].std(0)

        def loss(beta):
            rate = np.exp(design @ beta)
            return -np.sum(np.where(event, np.log(-np.expm1(-rate)), -rate))

        return minimize(loss, np.r_[-3.0, np.zeros(design.shape[1] - 1)], method="BFGS", options={"gtol": 1e-7})

    full, reduced = best(others["norm"], gap), best(others["norm"])
    assert found.outcome == "fitted"
    assert (found.runs, found.rows, found.events) == (12, len(gap), event.sum())
    assert found.likelihood_ratio == pytest.approx(2 * (reduced.fun - full.fun), rel=1e-5)
    assert found.coefficient == pytest.approx(full.x[-1], rel=1e-3)
    assert found.p_asymptotic == pytest.approx(chi2.sf(found.likelihood_ratio, 1))
    assert found.interval[0] < found.coefficient < found.interval[1]
    assert found.score == pytest.approx(found.likelihood_ratio, rel=0.5)


def test_score_is_that_of_statsmodels():
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.families.links import CLogLog
    from statsmodels.genmod.generalized_linear_model import GLM

    rows = table(np.random.default_rng(1), gap=0.4, norm=0.5)
    _, step, event, gap, others = at_risk(rows)
    design = np.column_stack([np.ones(len(gap)), np.log(step) - 7, others["norm"]])
    model = GLM(event.astype(float), design, family=Binomial(link=CLogLog()))
    statistic = model.score_test(model.fit().params, exog_extra=gap[:, None], observed=False)[0]
    assert hazard(*rows).score == pytest.approx(float(np.squeeze(statistic)), rel=1e-3)


def test_rows_after_the_event_and_their_order_do_not_matter_to_the_fit():
    rng = np.random.default_rng(2)
    rows = table(rng, gap=0.5)
    short, found = hazard(*at_risk(rows)), hazard(*rows)
    assert short.likelihood_ratio == found.likelihood_ratio
    assert short.score == pytest.approx(found.score)
    names = np.array([f"run {r}" for r in rows[0]])
    order = np.lexsort((rows[1], rng.permutation(12)[rows[0]]))
    mixed = hazard(names[order], *(c[order] for c in rows[1:4]), {n: v[order] for n, v in rows[4].items()})
    assert mixed.likelihood_ratio == pytest.approx(found.likelihood_ratio)
    scaled = hazard(rows[0], rows[1], rows[2], 1e6 * rows[3] + 5, rows[4])
    assert scaled.likelihood_ratio == pytest.approx(found.likelihood_ratio)
    assert scaled.p_permutation == found.p_permutation


def test_few_runs_are_arranged_in_every_way():
    rows = table(np.random.default_rng(3), runs=4, gap=1.0)
    found = hazard(*rows)
    assert found.arrangements == 24
    # By hand: a new table for each arrangement of the residual paths.
    label, step, event, gap, others = rows
    keep = np.concatenate([np.cumsum(event[label == r]) - event[label == r] == 0 for r in range(4)])
    design = np.column_stack([np.ones(len(gap)), np.log(step), others["norm"]])
    left = gap - design @ np.linalg.lstsq(design[keep], gap[keep], rcond=None)[0]
    paths = left.reshape(4, -1)
    scores = [hazard(label, step, event, paths[list(p)].ravel(), others).score for p in permutations(range(4))]
    assert scores[0] == pytest.approx(found.score)
    assert found.p_permutation == pytest.approx(np.mean(np.array(scores) >= scores[0] * (1 - 1e-9)))
    three = hazard(*table(np.random.default_rng(4), runs=3, gap=1.0))
    assert (three.p_permutation, three.arrangements) == (None, 0)


def test_trouble_has_a_name():
    rng = np.random.default_rng(5)
    label, step, event, gap, others = table(rng)
    assert hazard(label, step, np.zeros_like(event), gap, others).outcome == "no events"
    assert hazard(label, step, event, 2 * others["norm"] + 1, others).outcome == "collinear"
    assert hazard(label, step, event, np.ones_like(gap), others).outcome == "collinear"
    told = hazard(label, step, event, event + 0.1 * rng.random(len(gap)), others)
    assert told.outcome == "separated"
    assert told.likelihood_ratio is told.coefficient is None
    assert told.p_permutation < 0.05
    alone = hazard(label, step, event, gap, {"told": event + 0.1 * rng.random(len(gap))})
    assert (alone.outcome, alone.score) == ("separated without it", None)


def test_wrong_input_is_named():
    label, step, event, gap, others = table(np.random.default_rng(6))
    for bad in [
        (label, step, event, gap[:-1], others),
        (label, step, event, np.full_like(gap, np.nan), others),
        (label, -step, event, gap, others),
        (label, step[::-1], event, gap, others),
    ]:
        with pytest.raises(InputError):
            hazard(*bad)


def test_without_statsmodels(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(optional, "import_module", missing)
    with pytest.raises(MissingExtraError, match="stats"):
        hazard(*table(np.random.default_rng(7)))


def shares(trials, seed, *, marginal=False, **options):
    """Share of trials that reject at 5 % by the likelihood ratio and by permutation."""
    rng = np.random.default_rng(seed)
    found = []
    for trial in range(trials):
        label, step, event, gap, others = table(rng, norm=1.0, **options)
        found.append(hazard(label, step, event, gap, {} if marginal else others, draws=99, seed=trial))
    asymptotic = [f.p_asymptotic <= 0.05 for f in found if f.p_asymptotic is not None]
    return float(np.mean(asymptotic)), float(np.mean([f.p_permutation <= 0.05 for f in found]))


def below(share, trials, level=0.05):
    return share < level + 3 * np.sqrt(level * (1 - level) / trials)


def test_level_with_a_covariate_that_only_correlates():
    """Events follow the norm; the gap correlates with it by .7. Few runs: permutation holds, chi-squared does not."""
    asymptotic, permuted = shares(100, 8, runs=6)
    assert below(permuted, 100)
    assert asymptotic > permuted
    assert below(shares(50, 9, runs=24)[0], 50)
    assert shares(30, 10, runs=24, marginal=True)[0] > 0.25  # without the norm the gap seems to matter


def test_power_for_a_planted_effect():
    few, many = shares(40, 11, runs=6, gap=1.0), shares(40, 12, runs=24, gap=1.0)
    assert min(many) > 0.55
    assert few[1] < many[1]
    rows = [table(np.random.default_rng(s), runs=60, gap=1.0, norm=1.0) for s in range(10)]
    sizes = np.array([[f.coefficient, np.std(at_risk(r)[3])] for r in rows for f in [hazard(*r, draws=9)]])
    effect = sizes[:, 0] / sizes[:, 1]  # per unit of the gap: 1 was planted
    assert abs(effect.mean() - 1) < 3 * effect.std(ddof=1) / np.sqrt(10)
=======

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
>>>>>>> analyses
