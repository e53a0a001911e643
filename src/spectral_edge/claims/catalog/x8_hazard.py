"""X8: the gap tells that grokking is near."""

from collections.abc import Sequence

import numpy as np

from spectral_edge.claims.claim import Claim, Criterion, Measured, Published, Unit
from spectral_edge.claims.evidence import GROKKING, Evidence, Run
from spectral_edge.claims.reading import Array, edge
from spectral_edge.evaluate.hazard import hazard

PATHS = "exchanged paths"
LEAST = 4
"""Runs below which no hazard is fitted."""


def units(evidence: Evidence, family: str) -> Sequence[Unit]:
    """What each run with a transition adds to the score, in one fit with all runs with decay, the others censored."""
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
    return [
        Unit(
            Measured(each.run, each.own, statistics=told),
            {} if each.exchanged is None else {PATHS: Measured(f"{each.run} ({PATHS})", each.exchanged)},
        )
        for each in found.by_run
    ]


def _rows(evidence: Evidence, run: Run) -> Array | None:
    """Step, event, and ln of g23 / tr G, of the update norm and of the weight norm one window earlier."""
    series = edge(evidence, run)
    grok = run.grok()
    columns = [series.step[1:].astype(np.float64)]
    columns.append(
        ((series.step[:-1] < grok) & (grok <= series.step[1:])).astype(np.float64)
        if grok
        else np.zeros(len(series.step) - 1)
    )
    for name in ("g23_normalized", "update_norm", "parameter_norm"):
        values = np.asarray(series[name][:-1], dtype=np.float64)
        columns.append(np.log(np.where(values > 0, values, np.nan)))
    table = np.stack(columns, axis=1)
    known = table[np.isfinite(table).all(axis=1)]
    return known if len(known) else None


CLAIM = Claim(
    id="X8",
    title="the gap tells that grokking is near",
    statement="A small gap g23 / tr G raises the chance that the transition comes next, beyond what update norm and "
    "weight norm say.",
    published={"": Published("gap dynamics precede every event; no such test", "2603.28964 v1 to v3")},
    criterion="none for a run: in one discrete-time hazard of the transition with step, update norm and weight norm "
    "the coefficient of minus ln g23 / tr G would be positive",
    corrected="what a run adds to the score of that coefficient, with its own path of the gap against that of another "
    "run of its kind (operation, labels, amount of data): kinds differ in their gaps and in their hazards, and only "
    "timing within a kind is foresight",
    convention="windows of ten updates, each covariate one window before the interval; runs without a transition are "
    "censored",
    controls={PATHS: "the same run with the path of the gap of another one of its kind"},
    needs="study grokking; study same-decay for censored runs",
    would_change="runs that add more with their own paths, in nearly all of them",
    families=GROKKING,
    units=units,
    unit="score added by a run",
    whose=Criterion.OURS,
    note="A gap that falls with the step of the run falls so in every path of its kind and gains nothing here. Paths "
    "go on behind the transition and are lent with that part, which makes the test stricter where the transition "
    "itself moves the gap. It sees strong effects only: of a log hazard of 1 per standard deviation, planted in "
    "runs of 40 observations, 64 % of the runs tell. Until the runs of Dyck the claim was the one fit, and that "
    "of arithmetic was known (p = .01 with paths exchanged between all kinds).",
)
