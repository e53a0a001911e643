"""X6: the commutator of weight matrices peaks before grokking."""

from collections.abc import Sequence

from spectral_edge.claims.claim import Claim, Published, Unit
from spectral_edge.claims.evidence import Evidence


def units(evidence: Evidence, family: str) -> Sequence[Unit]:
    """Nothing: it needs weights over time, and records keep lag rows."""
    del evidence, family
    return []


CLAIM = Claim(
    id="X6",
    title="weight matrices stop commuting before grokking",
    statement="The commutator of attention weight matrices peaks before the transition.",
    published={"": Published("6 of 6", "notes of 2603.28964", 6, 6)},
    criterion="the norm of the commutator is largest before the transition",
    corrected="none yet",
    convention="weights, not updates",
    controls={},
    needs="checkpoints of weights over time, which the studies do not record, and a definition of the published "
    "matrices",
    would_change="a study that records weights",
    families=("arithmetic",),
    units=units,
    unit="",
)
