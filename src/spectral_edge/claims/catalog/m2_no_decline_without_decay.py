"""M2: without weight decay g23 does not decline."""

from collections.abc import Sequence

from spectral_edge.claims.claim import NO_DECAY, Claim, Criterion, Measured, Published, Unit
from spectral_edge.claims.evidence import GROKKING, Evidence
from spectral_edge.claims.reading import transition


def units(evidence: Evidence, family: str) -> Sequence[Unit]:
    """The twins without decay, each at the step of its run's transition."""
    found: list[Unit] = []
    for pair in evidence.yoked(family):
        if NO_DECAY in pair.controls:
            twin = pair.controls[NO_DECAY]
            read = transition(evidence, twin, pair.step)
            folds = {} if read.g23 is None else {"fold of g23": read.g23.fold}
            found.append(Unit(Measured(twin.name, None, None if read.declined is None else not read.declined, folds)))
    return found


CLAIM = Claim(
    id="M2",
    title="no decline without weight decay",
    statement="In the twins without weight decay g23 does not fall by more than 1.5-fold.",
    published={
        "arithmetic": Published("0 of 12 decline", "2603.28964 v1 (0 of 24 in all; v2, v3: 1 of 24)", 12, 12),
        **{
            family: Published("0 of 3 decline", "2603.28964 v1 (0 of 24 in all; v2, v3: 1 of 24)", 3, 3)
            for family in ("dual", "tri", "dyck", "scan")
        },
    },
    criterion="the largest g23 before the step of the run's transition over g23 at that step does not exceed 1.5",
    corrected="none: it is a count. In the published scripts a run without a transition has no decline at all, so "
    "that only a control that groks can count against the claim.",
    convention="as for M1, at the step of the run's transition",
    controls={},
    needs="study grokking",
    would_change="twins without decay whose g23 stays within 1.5-fold of its peak up to the step of the run's "
    "transition",
    families=GROKKING,
    units=units,
    unit="",
    whose=Criterion.READING,
    note="Its own controls would be the runs with decay; they are what M1 and M3 judge.",
)
