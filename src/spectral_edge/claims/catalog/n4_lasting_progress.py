"""N4: the first mode lasts and moves the model at the transition."""

from spectral_edge.claims.candidates import held_out_units, lasting_progress
from spectral_edge.claims.claim import GROKKING_CONTROLS, Claim, Criterion, Measured, Published
from spectral_edge.claims.evidence import Evidence, Run

LEVEL = 0.006


def read(evidence: Evidence, run: Run, step: int) -> Measured:
    """Overlap of v_1 at lag W times its progress share."""
    value = lasting_progress(evidence, run, step)
    return Measured(run.name, value, None if value is None else value >= LEVEL)


CLAIM = Claim(
    id="N4",
    title="the first mode lasts and makes progress",
    statement="At a transition under weight decay the first mode is both kept from the window before and moves the "
    "model: the product of its overlap at lag W and its progress share exceeds that of every kind of control.",
    published={"": Published("ours, stated before any held-out run was read for it", "found on development runs")},
    criterion="the product is at least .006",
    corrected="that product itself",
    convention="W = 10 updates of 50 steps, attention matrices; held-out seeds only, judged once all of them are "
    "recorded",
    controls=GROKKING_CONTROLS,
    needs="study grokking, seeds other than 42, 137 and 2024; study same-decay",
    would_change="held-out pairs in which a control has as large a product",
    families=("arithmetic", "dyck"),
    units=held_out_units(read),
    unit="overlap times progress share",
    whose=Criterion.OURS,
    note="One of its factors is that of N2, so on arithmetic it is no independent finding. It is stated for Dyck, "
    "where N2 fails among the development pairs and this does not. The overlaps are small.",
)
