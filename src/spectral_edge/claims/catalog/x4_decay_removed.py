"""X4: without decay the solution stays."""

from collections.abc import Sequence

from spectral_edge.claims.claim import Claim, Criterion, Measured, Published, Unit
from spectral_edge.claims.evidence import Evidence, Run

BAR, SHAM = 0.95, "sham"


def units(evidence: Evidence, family: str) -> Sequence[Unit]:
    """Each run whose decay was switched off after its transition, beside the run that was left as it is."""
    shams = {run.name: run for run in evidence.study("interventions", family=family)}
    return [
        Unit(_read(run), {SHAM: _read(shams[run.twin])})
        for run in evidence.study("interventions", family=family, role="weight_decay")
        if run.result["config"]["strength"] == 0.0 and run.twin in shams
    ]


def _read(run: Run) -> Measured:
    accuracy = run.metric("test_accuracy")[1]
    last = float(accuracy[-1]) if len(accuracy) else None
    return Measured(run.name, last, None if last is None else last >= BAR, {} if last is None else {"accuracy": last})


CLAIM = Claim(
    id="X4",
    title="the solution outlives weight decay",
    statement="When weight decay is removed after the transition, the accuracy stays.",
    published={"": Published(".973 without decay (.972, .982, .985 with decay of .5, 1, 2)", "2604.07380 (Dyck)")},
    criterion="the test accuracy at the end, 3,000 steps after decay was removed, is at least .95",
    corrected="that accuracy, against the run whose decay was kept",
    convention="decay off after step 4,000 of addition mod 43, size cpu; optimizer state kept (published: fresh)",
    controls={SHAM: "the same run with its decay kept"},
    needs="study interventions",
    would_change="runs that forget when decay is removed",
    families=("arithmetic",),
    units=units,
    unit="final test accuracy",
    whose=Criterion.READING,
    note="The control meets the criterion where training is stable, so that the claim cannot be more than that "
    "nothing happens.",
)
