"""N5: how well updates agree tells which run is next."""

from collections.abc import Sequence

import numpy as np

from spectral_edge.claims.claim import Claim, Criterion, Published, Unit
from spectral_edge.claims.evidence import Evidence, Run
from spectral_edge.claims.reading import Array, edge
from spectral_edge.claims.risk import CONTROLS, rows_at_risk, units_at_risk
from spectral_edge.studies.banks import half

STUDY, HALF = "null-bank", "development"
AHEAD = 0.2
"""Share of the steps up to a transition that the reading lies before it."""


def units(evidence: Evidence, family: str) -> Sequence[Unit]:
    """Each transition of the bank's half, once all of its runs are recorded, beside the runs of its kind at risk."""
    role = "transition"
    planned = {name for name, seed in evidence.planned(STUDY, family, role=role).items() if half(seed) == HALF}
    runs = [run for run in evidence.study(STUDY, family=family, role=role) if run.name in planned]
    if len(runs) < len(planned):
        return []
    return list(units_at_risk([(run, rows) for run in runs if (rows := _rows(evidence, run)) is not None], "coherence"))


def _rows(evidence: Evidence, run: Run) -> Array | None:
    """Coherence and both norms in the last window that ends before four fifths of each evaluation's step."""
    series = edge(evidence, run)
    steps = run.metric("test_accuracy")[0]
    at = np.searchsorted(series.step, (1 - AHEAD) * steps, side="right") - 1
    steps, at = steps[at >= 0], at[at >= 0]
    norms = run.trace.row_metadata("parameter_norm")[np.searchsorted(run.trace.steps, series.step[at])]
    return rows_at_risk(run, steps, series["coherence"][at], series["update_norm"][at], norms)


CLAIM = Claim(
    id="N5",
    title="agreeing updates tell which run is next",
    statement="Among runs of one kind that have not made their transition, the one whose updates agree most makes it "
    "next, and a fifth of the steps before is early enough to see it, beyond what update norm and weight norm say.",
    published={"": Published("ours, stated before any run of the bank was recorded", "found on the runs of X8")},
    criterion="none for a run: in one discrete-time hazard of the transition with step, update norm, weight norm and a "
    "level for each operation the coefficient of coherence would be positive",
    corrected="what these leave of coherence a fifth of the steps before the transition, against the median of the "
    "same over the runs of its kind without a transition yet at that step",
    convention="mean cosine of ten updates of 50 steps, 25 for Dyck, attention matrices; norm of all weights; the "
    "bank's half for development, none of which was read before, so that its other half stays unread for alarms",
    controls=CONTROLS,
    needs="study null-bank, every run of that half that is expected to make a transition",
    would_change="transitions that come to runs whose updates agree less than those of runs that still wait",
    families=("arithmetic", "dyck"),
    units=units,
    unit="coherence beyond step and norms, s.d.",
    whose=Criterion.OURS,
    note="Found on the runs that X8 reads, where the run that is next exceeds those that wait in 20 of 20 transitions "
    "of arithmetic a tenth of the steps before, in 19 a fifth and in 18 three tenths before, when its median test "
    "accuracy is below a tenth; of Dyck in 5, 8 and 7 of 14, so that nothing is expected there. A fifth was chosen then. "
    "The test loss tells it on those runs as well, and so does the norm of the weights, which is the smallest or nearly "
    "so; that updates know it without a test set and beyond the norms is what is claimed.",
)
