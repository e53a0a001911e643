"""X8: the gap tells that grokking is near."""

from collections.abc import Sequence

import numpy as np

from spectral_edge.claims.claim import Claim, Criterion, Published, Unit
from spectral_edge.claims.evidence import GROKKING, Evidence, Run
from spectral_edge.claims.reading import attention_weights, edge
from spectral_edge.claims.risk import BEYOND_NORMS, AtRisk, at_risk, fit_at_risk, units_at_risk


def units(evidence: Evidence, family: str) -> Sequence[Unit]:
    """Each transition, beside the runs of its kind that could have had one at that step."""
    runs = evidence.study("grokking", family=family, role="run")
    found = [each for run in runs if (each := _read(evidence, run)) is not None]
    fit = fit_at_risk(found)
    told: dict[str, float] = {}
    if fit is not None and fit.coefficient is not None and fit.p_permutation is not None:
        told = {"log hazard per s.d., one fit": fit.coefficient, "p of the fit, paths exchanged": fit.p_permutation}
    return list(units_at_risk(found, told=told)) if fit is not None else []


def _read(evidence: Evidence, run: Run) -> AtRisk | None:
    """The gap and the norms an evaluation earlier: the transition lies somewhere between the two."""
    series, weights = edge(evidence, run), attention_weights(evidence, run)
    at = np.flatnonzero(np.isin(series.step, run.metric("test_accuracy")[0]))
    before = at[:-1]
    norms = [weights[step].norm if step in weights else np.nan for step in series.step[before].tolist()]
    gap = series["g23_normalized"][before]
    covariate = -np.log(np.where(gap > 0, gap, np.nan))
    known = {"update norm": series["update_norm"][before], "weight norm": norms}
    return at_risk(run, series.step[at[1:]], covariate, known)


CLAIM = Claim(
    id="X8",
    title="the gap tells that grokking is near",
    statement="A small gap g23 / tr G raises the chance that the transition comes next, beyond what update norm and "
    "weight norm say.",
    published={"": Published("gap dynamics precede every event; no such test", "2603.28964 v1 to v3")},
    criterion="none for a run: in one discrete-time hazard of the transition with step, update norm, weight norm and "
    "a level for each operation the coefficient of minus ln g23 / tr G would be positive",
    corrected="minus ln g23 / tr G itself before the transition, against the runs of its kind without a transition yet "
    "at that step, as it is and beyond their norms: kinds differ in their gaps and in their hazards, and only timing "
    "within a kind is foresight",
    convention="windows of ten updates, attention matrices; rows at evaluations, each covariate an evaluation before; "
    "runs without a transition are censored",
    controls=BEYOND_NORMS,
    needs="study grokking",
    would_change="transitions that come to the run with the smaller gap, in nearly all of them",
    families=GROKKING,
    units=units,
    unit="-ln g23 / tr G",
    whose=Criterion.OURS,
    note="Without an effect which of the runs at risk makes its transition is chance. What the fit of arithmetic "
    "found before each kind of run had a level of its own is told in the [rules](rules.md). "
    "Beyond norms is a regression over the runs at risk, fair where the gap is linear in the logarithms of the norms: "
    "in tables of 24 simulated runs a log hazard of 1 per standard deviation, planted in a gap that correlates with "
    "the norm by .7, shows in 66 % of the transitions. The last run of a kind has nothing beside it. Of Dyck the "
    "transition is known two evaluations after its step, so that the runs at risk are a little fewer than they were.",
)
