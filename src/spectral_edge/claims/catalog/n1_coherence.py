"""N1: updates of 100 steps agree in sign at the transition."""

from spectral_edge.claims.candidates import STRIDE, coherence, held_out_units
from spectral_edge.claims.claim import GROKKING_CONTROLS, Claim, Criterion, Measured, Published
from spectral_edge.claims.evidence import Evidence, Run
from spectral_edge.claims.reading import WINDOW, edge

LEVEL = 0.05


def read(evidence: Evidence, run: Run, step: int) -> Measured:
    """The coherence as the scalar, its exact sign-flip test as the criterion."""
    value = coherence(evidence, run, step)
    if value is None:
        return Measured(run.name, None)
    series = edge(evidence, run, window=WINDOW, stride=STRIDE)
    p = float(series["coherence_p"][series.step <= step][-1])
    return Measured(run.name, value, value > 0 and p <= LEVEL)


CLAIM = Claim(
    id="N1",
    title="coarse updates agree at the transition",
    statement="At a transition under weight decay the updates of 100 steps point the same way: their mean cosine is "
    "positive, and larger than in every kind of control.",
    published={"": Published("ours, stated before the held-out runs were recorded", "found on development runs")},
    criterion="the mean cosine of the ten updates up to the transition is positive, with p <= .05 by sign flips",
    corrected="that mean cosine itself",
    convention="W = 10 updates of 100 steps, attention matrices; held-out seeds only, judged once all of them are "
    "recorded",
    controls=GROKKING_CONTROLS,
    needs="study grokking, seeds other than 42, 137 and 2024; study same-decay",
    would_change="held-out pairs in which a control, above all one with the same decay and no transition, is as "
    "coherent",
    families=("arithmetic", "dyck"),
    units=held_out_units(read),
    unit="coherence",
    whose=Criterion.OURS,
    note="That weight decay makes a coherent drift by itself is the obvious rival, and runs with random labels have "
    "nearly as much of it, all along the plateau. Beyond neighbours their updates agree as well as those of the run: "
    "what they have more of is jitter between neighbours. See [What holds instead](held-out.md).",
)
