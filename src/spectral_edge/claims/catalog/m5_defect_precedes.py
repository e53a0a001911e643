"""M5: the onset of the commutator defect precedes grokking."""

from collections.abc import Sequence

from spectral_edge.claims.claim import LITTLE_DATA, NO_DECAY, Claim, Measured, Published, Unit
from spectral_edge.claims.evidence import Evidence
from spectral_edge.claims.lifecycle import NEEDS, lifecycle


def units(evidence: Evidence, family: str) -> Sequence[Unit]:
    """Each seed, read by the step of its transition: whether the rule fired, and the normalised defect at that step."""
    found = lifecycle(evidence, family)
    if found is None:
        return []
    grok, defect = found["shares"]["grok"], found["defect"]
    level = {arm: each["each"] for arm, each in defect["normalised, at the grok step"].items()}

    def read(arm: str, seed: int) -> Measured:
        onset = defect["published, float32"]["onset"][arm][seed]
        told = {} if onset is None else {"lead, steps": grok[seed] - onset}
        return Measured(f"fresh seed {seed}, {arm}", level[arm][seed], onset is not None and onset <= grok[seed], told)

    return [
        Unit(read("decay", seed), {NO_DECAY: read("no decay", seed), LITTLE_DATA: read("less data", seed)})
        for seed in range(len(grok))
        if grok[seed] is not None
    ]


CLAIM = Claim(
    id="M5",
    title="the commutator defect rises before grokking",
    statement="The onset of the commutator defect precedes the transition.",
    published={
        "": Published("12 of 12; 11 of 11 SCAN; 14 to 15 of 15 Dyck; 42 of 42 multi-task", "2602.16746, .16967, .18523")
    },
    criterion="the median defect first exceeds ten times its baseline and 20 before the transition, in float32 as "
    "published",
    corrected="the normalised defect at the step of the transition",
    convention="addition mod 31, mini-batches; controls at the step of the run's transition",
    controls={
        NO_DECAY: "the twin of the same seed without weight decay",
        LITTLE_DATA: "the same decay with less data, which does not generalise",
    },
    needs=NEEDS,
    would_change="an onset that comes before the transition in runs and not by the same step in their controls",
    families=("mini-batch",),
    units=units,
    unit="normalised defect",
    note="The published rule fires on rounding in float32; with float64 it fires in none of these runs before the "
    "transition. That is a small task: the published counts are of larger ones.",
)
