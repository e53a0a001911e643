"""N3: the first mode points along the weights at the transition."""

from spectral_edge.claims.candidates import held_out_units, weights_in_mode
from spectral_edge.claims.claim import GROKKING_CONTROLS, SURROGATES, Claim, Criterion, Measured, Published
from spectral_edge.claims.evidence import Evidence, Run

LEVEL = 0.004


def read(evidence: Evidence, run: Run, step: int) -> Measured:
    """The squared cosine of the weights with v_1."""
    value = weights_in_mode(evidence, run, step)
    return Measured(run.name, value, None if value is None else value >= LEVEL)


CLAIM = Claim(
    id="N3",
    title="the first mode points along the weights",
    statement="At a transition under weight decay the first mode of the updates has a part along the weights "
    "themselves, larger than in every kind of control.",
    published={"": Published("ours, stated before any held-out run was read for it", "found on development runs")},
    criterion="the squared cosine of v_1 with the weights is at least .004",
    corrected="that squared cosine itself",
    convention="W = 10 updates of 50 steps, attention matrices and their weights at the last of them; held-out seeds "
    "only, judged once all of them are recorded",
    # Noise in place of updates has no weights; drawn apart from them, its squared cosine is 1 / P.
    controls={name: what for name, what in GROKKING_CONTROLS.items() if name != SURROGATES},
    needs="study grokking, seeds other than 42, 137 and 2024; study same-decay",
    would_change="held-out pairs in which a control, above all one with little data, has as large a part",
    families=("arithmetic", "dyck"),
    units=held_out_units(read),
    unit="squared cosine of v_1 and the weights",
    whose=Criterion.OURS,
    note="The rival is weight decay itself, whose step points along the weights in every run with decay and shows once "
    "the gradient is small. Where the weights shrink and where they grow both count. The bar lies between runs and "
    "controls of addition among the development pairs; those of subtraction do not reach it.",
)
