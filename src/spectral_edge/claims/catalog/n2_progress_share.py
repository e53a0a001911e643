"""N2: the first mode moves the model at the transition."""

from spectral_edge.claims.candidates import held_out_units, progress
from spectral_edge.claims.claim import GROKKING_CONTROLS, Claim, Criterion, Measured, Published
from spectral_edge.claims.evidence import Evidence, Run


def read(evidence: Evidence, run: Run, step: int) -> Measured:
    """The progress share of v_1."""
    value = progress(evidence, run, step)
    return Measured(run.name, value, None if value is None else value > 0.5)


CLAIM = Claim(
    id="N2",
    title="the first mode is progress, not jitter",
    statement="At a transition under weight decay most of the first mode moves the model: its progress share exceeds "
    "one half, and that of every kind of control.",
    published={"": Published("ours, stated before the held-out runs were recorded", "found on development runs")},
    criterion="(1^T u_1)^2 / W is above .5 in the window that ends at the transition",
    corrected="that share itself",
    convention="W = 10 updates of 50 steps, attention matrices; held-out seeds only, judged once all of them are "
    "recorded",
    controls=GROKKING_CONTROLS,
    needs="study grokking, seeds other than 42, 137 and 2024; study same-decay",
    would_change="held-out pairs in which a control has as large a share",
    families=("arithmetic", "dyck"),
    units=held_out_units(read),
    unit="progress share of v_1",
    whose=Criterion.OURS,
    note="It marks the transition and does not foretell it: it rises when the test accuracy has begun to. See "
    "[What holds instead](held-out.md). The mode that it is about holds little more of a window's energy than others, "
    "so that the share is close to a switch on whether neighbouring updates agree: this claim and N1 are two readings "
    "of one fact. Noise with the optimizer's memory and even norms has a large share too; the surrogates copy norms "
    "that are not even.",
)
