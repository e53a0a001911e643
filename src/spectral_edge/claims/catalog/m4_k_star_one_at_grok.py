"""M4: the weighted k* is 1 at grokking."""

from spectral_edge.claims.claim import GROKKING_CONTROLS, Claim, Measured, Published
from spectral_edge.claims.evidence import GROKKING, Evidence, Run
from spectral_edge.claims.reading import edge, finite, transition, yoked_units


def read(evidence: Evidence, run: Run, step: int) -> Measured:
    """The weighted k* as the criterion, sigma_1 / sigma_2 as the scalar."""
    found = transition(evidence, run, step)
    ratio = edge(evidence, run)["ratios"][found.windows - 1, 0] if found.windows else None
    k_star = found.k_star_weighted
    told = {} if found.ratio is None else {"R at the weighted k*": found.ratio}
    return Measured(run.name, finite(ratio), None if k_star is None else k_star == 1, told)


CLAIM = Claim(
    id="M4",
    title="k* = 1 at grokking",
    statement="At the transition the gap sits at the first position: the weighted k* is 1.",
    published={
        **{
            family: Published("15 of 18 (arithmetic, dual and tri)", "scripts of 2603.28964", 15, 18)
            for family in GROKKING[:3]
        },
        **{family: Published("6 of 6 (Dyck and SCAN)", "scripts of 2603.28964", 6, 6) for family in GROKKING[3:]},
    },
    criterion="argmax (sigma_j / sum sigma) sigma_j / sigma_{j+1} = 1 in the window that ends at the transition",
    corrected="sigma_1 / sigma_2 in that window: how far the first mode stands out",
    convention="W = 10 full windows, attention matrices; step: first test accuracy of 0.95 (Dyck 0.98, "
    "three times running)",
    controls=GROKKING_CONTROLS,
    needs="study grokking, study same-decay",
    would_change="a first ratio above that of all three kinds of controls; a weighted k* of 1 decides nothing, since "
    "structureless updates show it in four windows of five",
    families=GROKKING,
    units=yoked_units(read),
    unit="sigma_1 / sigma_2",
)
