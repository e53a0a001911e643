"""T7: the gap opens when a capability is gained."""

from math import log

from spectral_edge.claims.claim import GROKKING_CONTROLS, Claim, Criterion, Measured, Published
from spectral_edge.claims.evidence import GROKKING, Evidence, Run
from spectral_edge.claims.reading import transition, yoked_units


def read(evidence: Evidence, run: Run, step: int) -> Measured:
    """Whether R at the transition exceeds its mean before, and by how much."""
    found = transition(evidence, run, step)
    if found.ratio is None or found.ratio_before is None:
        return Measured(run.name, None)
    told = {"R at the transition": found.ratio, "R before": found.ratio_before}
    return Measured(run.name, log(found.ratio / found.ratio_before), found.ratio > found.ratio_before, told)


CLAIM = Claim(
    id="T7",
    title="the gap opens with a capability",
    statement="A capability gain goes with an opening of the gap: R is larger at the transition than before it.",
    published={
        "": Published(
            "sigma_1 / sigma_2 of W_Q from 1 to 100-1,000; opens after grokking", "notes and repository of 2603.28964"
        )
    },
    criterion="R at the weighted k* is larger in the window that ends at the transition than on average before",
    corrected="ln of that quotient, against the same quotient of the controls",
    convention="W = 10 full windows, attention matrices; step: first test accuracy of 0.95 (Dyck 0.98, "
    "three times running)",
    controls=GROKKING_CONTROLS,
    needs="study grokking, study same-decay",
    would_change="quotients above those of all three kinds of controls",
    families=GROKKING,
    units=yoked_units(read),
    unit="ln R at the transition over R before",
    whose=Criterion.READING,
    note="The published rows are of the weights W_Q, where the author's own notes have the opening follow grokking; "
    "here it is of the updates, as the thesis states it.",
)
