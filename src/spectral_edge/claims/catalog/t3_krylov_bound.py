"""T3: the number of fast curvatures bounds k*."""

from collections.abc import Sequence

from spectral_edge.claims.claim import Claim, Criterion, Measured, Published, Unit
from spectral_edge.claims.evidence import Evidence


def units(evidence: Evidence, family: str) -> Sequence[Unit]:
    """Each training in which curvature was measured."""
    del family
    record = evidence.record("theory/curvature")
    return [
        Unit(
            Measured(
                name,
                1 - found["k_star_above_bound_pub"] / found["windows"],
                2 * found["k_star_above_bound_pub"] < found["windows"],
            )
        )
        for name, found in (record or {}).items()
        if "k_star_above_bound_pub" in found
    ]


CLAIM = Claim(
    id="T3",
    title="curvature bounds k*",
    statement="k* is at most the number of curvatures h_j of at least 1 / (eta W).",
    published={
        "": Published("accepted with outlier counts from the literature; no Hessian measured", "scripts of 2603.28964")
    },
    criterion="with measured curvatures the bound holds in more than half of the windows",
    corrected="the share of windows within the bound. With preconditioned curvature, the clock of the window and one "
    "more for the drift the bound is never broken, but it is 10, the window itself.",
    convention="Lanczos on the training loss, W = 10, 10 steps an update",
    controls={},
    needs="record theory/curvature (python examples/theory/curvature.py)",
    would_change="trainings in which the published bound holds with curvatures that were measured",
    families=("small trainings",),
    units=units,
    unit="share of windows within the bound",
    whose=Criterion.OURS,
)
