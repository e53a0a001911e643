"""X1: the gradient's share on v_1 flips at grokking."""

from collections.abc import Sequence

from spectral_edge.claims.claim import SAME_DECAY, Claim, Measured, Published, Unit
from spectral_edge.claims.evidence import Evidence

FLIPPED = 0.2


def units(evidence: Evidence, family: str) -> Sequence[Unit]:
    """Each seed of both batch sizes, at the step of its transition."""
    del family
    record = evidence.record("theory/lifecycle")
    found: list[Unit] = []
    for regime in ("full", "mini") if record is not None else ():
        shares = record[regime]["shares"]  # pyright: ignore[reportOptionalSubscript]
        runs, controls = shares["share at grok"]["v1"]["each"], shares["share at grok, v1 of less data"]["each"]
        for seed, (run, control) in enumerate(zip(runs, controls, strict=True)):
            name = f"{regime}, seed {seed}"
            found.append(Unit(_read(name, run), {SAME_DECAY: _read(name, control)}))
    return found


def _read(name: str, share: float) -> Measured:
    return Measured(name, -share, share < FLIPPED)


CLAIM = Claim(
    id="X1",
    title="weight decay takes over v_1 at grokking",
    statement="At the transition the energy on v_1 flips from the gradient to weight decay.",
    published={"": Published("97.6 to 5.3 % (Dyck), 88.7 to 0.2 % (SCAN)", "2604.07380", 4, 4)},
    criterion="the gradient's share of the energy on v_1 is below .2 at the transition",
    corrected="minus that share, against runs with the same decay that do not generalise",
    convention="addition mod 31, six seeds with full batches and six with mini-batches, W = 10, exact decay steps of "
    "AdamW",
    controls={SAME_DECAY: "the same decay with less data, which does not generalise"},
    needs="record theory/lifecycle (python examples/theory/lifecycle.py)",
    would_change="a flip at the transition that runs without a transition do not make",
    families=("addition mod 31",),
    units=units,
    unit="-gradient share on v_1",
    note="The flip comes 450 steps or more after the transition here, and in every run without one.",
)
