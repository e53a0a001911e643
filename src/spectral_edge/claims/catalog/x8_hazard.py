"""X8: the gap tells that grokking is near."""

from collections.abc import Sequence

import numpy as np

from spectral_edge.claims.claim import Claim, Criterion, Measured, Published, Unit
from spectral_edge.claims.evidence import GROKKING, Evidence, Run
from spectral_edge.claims.reading import Array, attention_weights, edge
from spectral_edge.evaluate.hazard import hazard

AT_RISK = "runs at risk"
GAP = "ln g23 / tr G"
LEAST = 4
"""Runs below which no hazard is fitted."""


def units(evidence: Evidence, family: str) -> Sequence[Unit]:
    """Each transition, beside the runs of its kind that could have had one at that step."""
    runs = evidence.study("grokking", family=family, role="run")
    runs += evidence.study("same-decay", family=family, role="same-decay")
    tables = [(run, table) for run in runs if (table := _rows(evidence, run)) is not None]
    if len(tables) < LEAST or not any(table[:, 1].any() for _, table in tables):
        return []
    lengths = [len(table) for _, table in tables]
    names = np.repeat([run.name for run, _ in tables], lengths)
    kinds = np.repeat([f"{run.study} {run.member} {run.kind}" for run, _ in tables], lengths)
    step, event, gap, update, weight = np.concatenate([table for _, table in tables]).T
    found = hazard(names, step, event, -gap, {"update norm": update, "weight norm": weight}, strata=kinds)
    told = {} if found.coefficient is None else {"log hazard per s.d., one fit": found.coefficient}
    told |= {} if found.p_permutation is None else {"p of the fit, paths exchanged": found.p_permutation}
    made: list[Unit] = []
    for each in found.failures:
        own = (names == each.run) & (event > 0)
        beside = (kinds == kinds[own][0]) & (step == step[own][0]) & (names != each.run)
        run = Measured(each.run, each.own, statistics={GAP: float(gap[own][0]), **told})
        if each.others is None:
            made.append(Unit(run))
        else:
            others = Measured(
                f"{each.at_risk} others at that step", each.others, statistics={GAP: float(np.median(gap[beside]))}
            )
            made.append(Unit(run, {AT_RISK: others}))
    return made


def _rows(evidence: Evidence, run: Run) -> Array | None:
    """Step, event, and ln of g23 / tr G, of the update norm and of the weight norm an evaluation earlier.

    The transition is known at an evaluation, and lies somewhere behind the one before. None for a run whose transition
    came before its first window.
    """
    series, weights = edge(evidence, run), attention_weights(evidence, run)
    at = np.flatnonzero(np.isin(series.step, run.metric("test_accuracy")[0]))
    grok = run.grok()
    if len(at) < 2 or (grok is not None and grok <= series.step[at[0]]):
        return None
    steps = series.step[at]
    norms = [weights[int(step)].norm if int(step) in weights else np.nan for step in steps[:-1]]
    columns = [steps[1:].astype(np.float64), (steps[1:] == grok).astype(np.float64)]
    for values in (series["g23_normalized"][at[:-1]], series["update_norm"][at[:-1]], np.array(norms)):
        known = np.asarray(values, dtype=np.float64)
        columns.append(np.log(np.where(known > 0, known, np.nan)))
    table = np.stack(columns, axis=1)
    if grok is not None:
        table = table[table[:, 0] <= grok]  # behind its transition a run is not at risk, and the gap is another one
    usable = table[np.isfinite(table).all(axis=1)]
    return usable if len(usable) else None


CLAIM = Claim(
    id="X8",
    title="the gap tells that grokking is near",
    statement="A small gap g23 / tr G raises the chance that the transition comes next, beyond what update norm and "
    "weight norm say.",
    published={"": Published("gap dynamics precede every event; no such test", "2603.28964 v1 to v3")},
    criterion="none for a run: in one discrete-time hazard of the transition with step, update norm and weight norm "
    "the coefficient of minus ln g23 / tr G would be positive",
    corrected="what step and norms leave of minus ln g23 / tr G before the transition, against the median of the same "
    "over the runs of its kind (operation, labels, amount of data) without a transition yet at that step: kinds differ "
    "in their gaps and in their hazards, and only timing within a kind is foresight",
    convention="windows of ten updates, attention matrices; rows at evaluations, each covariate an evaluation before; "
    "runs without a transition are censored",
    controls={AT_RISK: "the runs of its kind that were at risk at that step"},
    needs="study grokking; study same-decay for censored runs",
    would_change="transitions that come to the run with the smaller gap, in nearly all of them",
    families=GROKKING,
    units=units,
    unit="-ln g23 / tr G beyond step and norms, s.d.",
    whose=Criterion.OURS,
    note="Without an effect which of the runs at risk makes its transition is chance. A log hazard of 1 per standard "
    "deviation, planted in a gap that correlates with the norm by .7, shows in 69 % of the transitions. The last "
    "run of a kind has nothing beside it. Until the runs of Dyck the claim was the one fit, and that of "
    "arithmetic was known (p = .01 with paths exchanged between all kinds). The two do not agree: the fit, over "
    "all rows and kinds, finds a coefficient on arithmetic, and at the transitions themselves the gap is not "
    "smaller than in the runs that wait; why, we have not found out.",
)
