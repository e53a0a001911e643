"""S4: the gap ratio detects a shift of distribution."""

from collections.abc import Sequence

from spectral_edge.claims.claim import Claim, Criterion, Measured, Published, Unit
from spectral_edge.claims.evidence import Evidence, Run
from spectral_edge.claims.reading import edge
from spectral_edge.evaluate.change_point import change_point

SETTLED, TOLERANCE, REACH = 0.25, 200, 500
"""Share of the steps before the shift that are left out as warm-up; published steps of tolerance; steps that are "
"tested."""
SHAM = "sham"


def units(evidence: Evidence, family: str) -> Sequence[Unit]:
    """Each run with a shift, beside the run whose learning rate drops at the same step and whose corpus stays."""
    found: list[Unit] = []
    for run in evidence.study("shift", family=family, role="run"):
        sham = next(iter(evidence.twins(run, role="control")), None)
        found.append(Unit(_read(evidence, run), {} if sham is None else {SHAM: _read(evidence, sham)}))
    return found


def _read(evidence: Evidence, run: Run) -> Measured:
    """Whether there is an alarm within 200 steps of the shift, and how large the CUSUM gets within 500."""
    at = int(run.result["config"]["task"]["shift_at"])
    series = edge(evidence, run)
    found = change_point(
        series["ratios"][:, 1], series.step, reference=(int(SETTLED * at), at), until=at + REACH, draws=500
    )
    if found is None:
        return Measured(run.name, None)
    told = {} if found.step is None else {"observations to the alarm": (found.step - at) / run.cadence}
    return Measured(run.name, found.largest, found.step is not None and found.step <= at + TOLERANCE, told)


CLAIM = Claim(
    id="S4",
    title="the gap ratio detects a shift",
    statement="A shift of distribution shows in the gap ratio within 200 steps.",
    published={"": Published("within 200 steps, one observation (GPT-2, one event)", "2603.15678")},
    criterion="a two-sided CUSUM of sigma_2 / sigma_3, standardised on the stretch before, gives an alarm within 200 "
    "steps after the shift (published: one observation; here: eight), at a threshold with a false-alarm rate of 5 % on "
    "AR(1) series of the stretch's own memory",
    corrected="the largest CUSUM within 500 steps, against the sham",
    convention="W = 10 updates of 25 steps, the whole model; the published test is not given, this is our reading",
    controls={SHAM: "the same drop of the learning rate at the same step, without a new corpus"},
    needs="study shift",
    would_change="alarms in runs with a shift and none in shams",
    families=("shift",),
    units=units,
    unit="largest CUSUM, s.d.",
    whose=Criterion.READING,
)
