"""N3: the first mode points along the weights at the transition."""

from collections.abc import Sequence

from spectral_edge.claims.candidates import held_out_pairs, weights_in_mode
from spectral_edge.claims.claim import WEIGHTS_CONTROLS, Claim, Criterion, Measured, Published, Unit
from spectral_edge.claims.evidence import Evidence, Run
from spectral_edge.claims.reading import yoked_unit

LEVEL = 0.004
EARLIER = "half way"


def read(evidence: Evidence, run: Run, step: int) -> Measured:
    """The squared cosine of the weights with v_1."""
    value = weights_in_mode(evidence, run, step)
    return Measured(run.name, value, None if value is None else value >= LEVEL)


def units(evidence: Evidence, family: str) -> Sequence[Unit]:
    """The held-out pairs, and each run beside itself half way to its transition."""
    found: list[Unit] = []
    for pair in held_out_pairs(evidence, family):
        unit = yoked_unit(evidence, pair, read)
        before = read(evidence, pair.run, pair.step // 2)
        earlier = Measured(f"{pair.run.name}, step {pair.step // 2}", before.value, before.passed)
        found.append(Unit(unit.run, {**unit.controls, EARLIER: earlier}))
    return found


CLAIM = Claim(
    id="N3",
    title="the first mode points along the weights",
    statement="At a transition under weight decay the first mode of the updates has a part along the weights "
    "themselves, larger than in every kind of control and than half way there.",
    published={"": Published("ours, stated before any held-out run was read for it", "found on development runs")},
    criterion="the squared cosine of v_1 with the weights is at least .004",
    corrected="that squared cosine itself",
    convention="W = 10 updates of 50 steps, attention matrices and their weights at the last of them; held-out seeds "
    "only, judged once all of them are recorded",
    controls={**WEIGHTS_CONTROLS, EARLIER: "the run itself, half way to its transition"},
    needs="study grokking, seeds other than 42, 137 and 2024; study same-decay",
    would_change="held-out pairs in which a control, above all one with little data, has as large a part",
    families=("arithmetic", "dyck"),
    units=units,
    unit="squared cosine of v_1 and the weights",
    whose=Criterion.OURS,
    note="The rival is weight decay itself, whose step points along the weights in every run with decay and shows once "
    "the gradient is small. On addition much of it is N2 again: a mode that alternates cancels the weights' part in "
    "every update, and held-out pairs were known to differ in that. On Dyck the windows at the transition hold loss "
    "spikes, which point outward, and the bar is passed at nearly all later steps: without the comparison half way the "
    "claim would be one about training with decay. The bar lies between runs and controls of addition among the "
    "development pairs; those of subtraction do not reach it.",
)
