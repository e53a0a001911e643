"""M6: the lead of the defect grows faster than the grok step."""

from collections.abc import Sequence

from spectral_edge.claims.claim import Claim, Measured, Published, Unit
from spectral_edge.claims.evidence import Evidence
from spectral_edge.claims.lifecycle import NEEDS, lifecycle
from spectral_edge.evaluate.lead_exponent import lead_exponent

SHUFFLED = "shuffled onsets"


def units(evidence: Evidence, family: str) -> Sequence[Unit]:
    """One regression over the runs whose defect rose before their transition."""
    found = lifecycle(evidence, family)
    if found is None:
        return []
    grok, onsets = found["shares"]["grok"], found["defect"]["published, float32"]["onset"]["decay"]
    pairs = [(step, onset) for step, onset in zip(grok, onsets, strict=True) if step and onset and onset < step]
    fit = lead_exponent([step for step, _ in pairs], [onset for _, onset in pairs])
    if fit is None:
        return []
    shuffled = Measured("shuffled", fit.shuffled_median, fit.shuffled_median > 1)
    return [Unit(Measured(f"{fit.runs} runs", fit.slope, fit.slope > 1), {SHUFFLED: shuffled})]


CLAIM = Claim(
    id="M6",
    title="the lead grows faster than the grok step",
    statement="The lead of the commutator defect's onset is C t_grok^a with a > 1.",
    published={"": Published("a = 1.27 (arithmetic), 1.18 (SCAN), 1.13 (Dyck)", "2602.16967")},
    criterion="the slope of ln(t_grok - onset) on ln t_grok exceeds 1",
    corrected="that slope, against its median when onsets are dealt to the runs at random: whenever the onset grows "
    "more slowly than the step, the slope exceeds 1",
    convention="onset by the published rule in float32; addition mod 31, mini-batches",
    controls={SHUFFLED: "the same steps with the onsets of other runs"},
    needs=NEEDS,
    would_change="slopes above 95 % of those of shuffled onsets, in families with a wide range of grok steps",
    families=("mini-batch",),
    units=units,
    unit="slope",
    joint=True,
    note="One regression is one unit. Onset by that rule is float32 rounding here (M5), so that the slope says "
    "little at all.",
)
