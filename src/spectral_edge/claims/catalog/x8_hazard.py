"""X8: the gap tells that grokking is near."""

from collections.abc import Sequence

import numpy as np

from spectral_edge.claims.claim import Claim, Criterion, Measured, Published, Unit
from spectral_edge.claims.evidence import GROKKING, Evidence, Run
from spectral_edge.claims.reading import Array, edge
from spectral_edge.evaluate.hazard import hazard

LEVEL = 0.05
LEAST = 4
"""Runs below which no arrangement of paths is worth drawing."""


def units(evidence: Evidence, family: str) -> Sequence[Unit]:
    """One fit over all runs with decay, those without a transition censored."""
    runs = evidence.study("grokking", family=family, role="run")
    runs += evidence.study("same-decay", family=family, role="same-decay")
    tables = [table for run in runs if (table := _rows(evidence, run)) is not None]
    if len(tables) < LEAST or not any(table[:, 1].any() for table in tables):
        return []
    labels = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    step, event, gap, update, weight = np.concatenate(tables).T
    found = hazard(labels, step, event, -gap, {"update norm": update, "weight norm": weight})
    if found.score is None:
        return []
    risen = found.coefficient is None or found.coefficient > 0
    passed = None if found.p_permutation is None else risen and found.p_permutation <= LEVEL
    return [Unit(Measured(f"{len(tables)} runs, {found.events} transitions", found.coefficient, passed))]


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
    criterion="in a discrete-time hazard of the transition with step, update norm and weight norm, the coefficient of "
    "the gap is negative, with p <= .05 when whole paths are exchanged between runs",
    corrected="minus that coefficient, per standard deviation of ln g23 / tr G",
    convention="windows of ten updates, each covariate one window before the interval; runs without a transition are "
    "censored",
    controls={},
    needs="study grokking; study same-decay for censored runs",
    would_change="a fit of all planned runs in which the gap adds to the hazard",
    families=GROKKING,
    units=units,
    unit="-log hazard per s.d.",
    joint=True,
    whose=Criterion.OURS,
    note="One fit is one unit, so that the rules of the ledger can neither confirm nor refute it; it stands here "
    "because words like precede ask for it.",
)
