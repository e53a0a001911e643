"""X1: the gradient's share on v_1 flips at grokking."""

from collections.abc import Sequence

from spectral_edge.claims.claim import LITTLE_DATA, Claim, Criterion, Measured, Published, Unit
from spectral_edge.claims.evidence import Evidence
from spectral_edge.claims.lifecycle import BATCHES, NEEDS, lifecycle

FLIPPED = 0.2


def units(evidence: Evidence, family: str) -> Sequence[Unit]:
    """Each fresh seed, at the step of its transition."""
    found = lifecycle(evidence, family)
    if found is None:
        return []
    shares = found["shares"]
    runs, controls = shares["share at grok"]["v1"]["each"], shares["share at grok, v1 of less data"]["each"]
    return [
        Unit(_read(f"fresh seed {seed}", run), {LITTLE_DATA: _read(f"fresh seed {seed}", control)})
        for seed, (run, control) in enumerate(zip(runs, controls, strict=True))
    ]


def _read(name: str, share: float | None) -> Measured:
    if share is None:
        return Measured(name, None)
    return Measured(name, -share, share < FLIPPED, {"gradient's share, %": 100 * share})


CLAIM = Claim(
    id="X1",
    title="weight decay takes over v_1 at grokking",
    statement="At the transition the energy on v_1 flips from the gradient to weight decay.",
    published={"": Published("97.6 to 5.3 % (Dyck), 88.7 to 0.2 % (SCAN)", "2604.07380")},
    criterion="the gradient's share of the energy on v_1 is below .2 at the transition",
    corrected="minus that share, against runs with the same decay that do not generalise",
    convention="addition mod 31, W = 10, exact decay steps of AdamW",
    controls={LITTLE_DATA: "the same decay with less data, which does not generalise"},
    needs=NEEDS,
    would_change="a flip at the transition that runs without a transition do not make",
    families=tuple(BATCHES),
    units=units,
    unit="-gradient share on v_1",
    whose=Criterion.READING,
    note="The published runs are of Dyck and SCAN, at a hundred steps an update. In the first six seeds (docs/theory) "
    "the flip came 450 steps or more after the transition, and in every run without one.",
)
