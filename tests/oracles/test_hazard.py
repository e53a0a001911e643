"""The hazard model against a direct maximum of its likelihood, planted effects and covariates that only correlate."""

from itertools import permutations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import chi2

from spectral_edge.errors import InputError
from spectral_edge.evaluate.cloglog import fit
from spectral_edge.evaluate.hazard import failures, hazard

pytest.importorskip("statsmodels")


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


def test_a_failing_run_is_compared_with_those_of_its_kind_still_at_risk():
    """By hand, with the leave-one-out form of a regression's residual as the second way to it."""
    rows = table(np.random.default_rng(7), runs=20, gap=1.0, norm=0.5)
    kinds = np.arange(20) % 2
    found = failures(*rows, strata=kinds[rows[0]])
    label, step, event, gap, others = at_risk(rows)
    assert [(each.run, each.step) for each in found] == list(zip(label[event], step[event], strict=True))
    for each in found:
        at = (step == each.step) & (kinds[label] == kinds[each.run])
        beside = gap[at & (label != each.run)]
        assert each.own == gap[at & (label == each.run)]
        assert each.at_risk == len(beside)
        assert each.others == (middle(beside) if len(beside) else None)
        assert (each.beyond is None) == (at.sum() < 4)
        if each.beyond is not None:
            design = np.column_stack([np.ones(at.sum()), others["norm"][at]])
            left = {}
            for run in label[at]:
                rest = label[at] != run
                beta = np.linalg.lstsq(design[rest], gap[at][rest], rcond=None)[0]
                lever = design[~rest] @ np.linalg.inv(design.T @ design) @ design[~rest].T
                left[run] = ((gap[at][~rest] - design[~rest] @ beta) * (1 - lever)).item()
            own = left.pop(each.run)
            assert each.beyond == pytest.approx(own - middle(list(left.values())))
    alone = failures(*rows, strata=rows[0])
    assert {(each.others, each.beyond, each.at_risk) for each in alone} == {(None, None, 0)}


def middle(values):
    return sorted(values)[len(values) // 2]


def test_paths_are_exchanged_within_kinds():
    label, step, event, gap, others = table(np.random.default_rng(8), runs=9, gap=1.0)
    kinds = np.array(["a", "b", "a", "b", "a", "c", "a", "b", "a"])
    found = hazard(label, step, event, gap, others, strata=kinds[label])
    assert found.arrangements == 5 * 4 * 3 * 2 * (3 * 2)  # all of them, fewer than the draws
    # Within a kind of equal paths nothing can be told from an exchange.
    same = np.concatenate([gap[label == np.flatnonzero(kinds == kind)[0]] for kind in kinds])
    flat = hazard(label, step, event, same, {}, strata=kinds[label])
    assert flat.p_permutation == 1.0
    compared = failures(label, step, event, same, {}, strata=kinds[label])
    assert all(each.others in (None, pytest.approx(each.own)) for each in compared)
    assert all(each.beyond in (None, pytest.approx(0.0)) for each in compared)


def two_kinds(rng):
    """Six runs of frequent events and a large gap, and six of neither; within a kind only the norm tells."""
    tables = [table(rng, runs=6, norm=1.0, rate=rate) for rate in (-1.5, -4.5)]
    label, step, event, gap, norm = (
        np.concatenate(columns) for columns in zip(*((*t[:4], t[4]["norm"]) for t in tables), strict=True)
    )
    kind = np.repeat([0, 1], [len(t[0]) for t in tables])
    return label + 6 * kind, step, event, gap + 3.0 * (kind == 0), {"norm": norm}, kind


def test_a_difference_between_kinds_is_no_effect():
    """Within 3 standard errors of the level; with one level for both the same tables reject nearly always."""
    apart, together = [], []
    for seed in range(60):
        *rows, kind = two_kinds(np.random.default_rng(seed))
        apart.append(hazard(*rows, strata=kind, draws=9).p_asymptotic)
        together.append(hazard(*rows, draws=9).p_asymptotic)
    share = np.mean([p <= 0.05 for p in apart if p is not None])
    assert below(share, 60, level=0.12)  # what the asymptotic test does with so few runs
    assert np.mean([p <= 0.05 for p in together if p is not None]) > 0.6


def test_a_kind_without_an_event_says_nothing():
    label, step, event, gap, others = table(np.random.default_rng(10), gap=0.5)
    never = table(np.random.default_rng(11), runs=5)
    both = hazard(
        np.concatenate([label, never[0] + 12]),
        np.concatenate([step, never[1]]),
        np.concatenate([event, np.zeros_like(never[2])]),
        np.concatenate([gap, never[3] - 5.0]),
        {"norm": np.concatenate([others["norm"], never[4]["norm"]])},
        strata=np.concatenate([np.zeros_like(label), np.ones_like(never[0])]),
    )
    assert both == hazard(label, step, event, gap, others)


def wins(trials, **options):
    """Whether failing runs stand above those at risk, by the covariate and beyond the norm that drives events."""
    tables = [table(np.random.default_rng(trial), norm=1.0, **options) for trial in range(trials)]
    found = [each for rows in tables for each in failures(*rows)]
    raw = np.array([each.own > each.others for each in found if each.others is not None])
    return raw, np.array([each.beyond > 0 for each in found if each.beyond is not None])


def above(found):
    """By how many binomial standard errors a share of wins exceeds one half."""
    return (found.mean() - 0.5) / (0.5 / np.sqrt(len(found)))


@pytest.mark.parametrize("runs", [8, 20])
def test_failing_runs_stand_above_the_others_in_half_of_the_events_at_most_without_an_effect(runs):
    """A covariate that only correlates with what drives the events; within 3 binomial standard errors."""
    raw, beyond = wins(60, runs=runs)
    assert -6 < above(beyond) < 3
    assert above(raw) > 3  # which is why norms are asked about
    assert above(wins(60, runs=runs, gap=1.0)[1]) > 3
    assert -6 < above(wins(60, runs=runs, shared=0.0)[0]) < 3


def test_skewed_covariates_win_no_more_than_half_by_chance():
    """With few others the median of an even number would be exceeded too often; within 3 standard errors."""
    rng = np.random.default_rng(12)
    found = []
    for _ in range(4_000):
        values = -rng.exponential(size=4)
        event = np.arange(4) == rng.integers(4)
        found += [each.own > each.others for each in failures(np.arange(4), np.ones(4), event, values, {})]
    assert above(np.array(found)) < 3


def test_what_the_event_does_to_the_covariate_is_not_looked_at():
    label, step, event, gap, others = table(np.random.default_rng(9), gap=0.5)
    behind = np.concatenate([np.cumsum(event[label == run]) - event[label == run] > 0 for run in range(12)])
    moved = failures(label, step, event, gap - 3.0 * behind, others)
    assert moved == failures(label, step, event, gap, others)


def test_trouble_has_a_name():
    rng = np.random.default_rng(5)
    label, step, event, gap, others = table(rng)
    assert hazard(label, step, np.zeros_like(event), gap, others).outcome == "no events"
    assert hazard(label, step, event, 2 * others["norm"] + 1, others).outcome == "collinear"
    assert hazard(label, step, event, np.ones_like(gap), others).outcome == "collinear"
    twice = {**others, "still": np.full_like(gap, 3.0), "again": -others["norm"]}
    assert hazard(label, step, event, gap, twice).score == pytest.approx(hazard(label, step, event, gap, others).score)
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


def test_the_fit_is_that_of_statsmodels_and_holds_where_scoring_runs_away():
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.families.links import CLogLog
    from statsmodels.genmod.generalized_linear_model import GLM

    rng = np.random.default_rng(13)
    design = np.column_stack([np.ones(400), rng.standard_normal((400, 2))])
    y = (rng.random(400) < -np.expm1(-np.exp(design @ [-1.5, 0.8, -0.4]))).astype(float)
    found, theirs = fit(design, y), GLM(y, design, family=Binomial(CLogLog())).fit()
    np.testing.assert_allclose(found.beta, theirs.params, rtol=1e-5)  # theirs stops earlier
    assert found.likelihood == pytest.approx(theirs.llf)
    assert found.error == pytest.approx(theirs.bse[-1], rel=1e-5)
    # Nearly separated: one of 2,000 rows is on the wrong side.
    level = np.linspace(-1, 1, 2_000)
    y = (level > 0.9).astype(float)
    y[100] = 1.0
    design = np.column_stack([np.ones(2_000), level / level.std()])
    found = fit(design, y)
    rate = np.exp(design @ found.beta)
    assert found.likelihood == pytest.approx((y * np.log(-np.expm1(-rate)) - (1 - y) * rate).sum())
    for step in 0.01 * rng.standard_normal((50, 2)):
        moved = np.exp(design @ (found.beta + step))
        assert (y * np.log(-np.expm1(-moved)) - (1 - y) * moved).sum() <= found.likelihood + 1e-9


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
