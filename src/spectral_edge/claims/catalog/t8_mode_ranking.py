"""T8: alpha-weighted products of gradients rank the modes."""

from collections.abc import Sequence

from spectral_edge.claims.claim import Claim, Criterion, Measured, Published, Unit
from spectral_edge.claims.evidence import Evidence
from spectral_edge.claims.trainings import NEEDS, SETTINGS

NEAR = 0.1
WITHOUT = "without alpha"


def units(evidence: Evidence, family: str) -> Sequence[Unit]:
    """Each fresh seed: the slope of -eta sum alpha G^train G^val on the true change of the loss; 1 is right."""
    record = evidence.record("theory/loss_again")
    slopes = {} if record is None else record[SETTINGS[family]]["slope"]
    each = zip(*(slopes.get(name, []) for name in ("alpha_weighted_pub", "unweighted_pub")), strict=True)
    return [
        Unit(_near(f"fresh seed {seed}", alpha), {WITHOUT: _near("without", without)})
        for seed, (alpha, without) in enumerate(each)
    ]


def _near(name: str, slope: float) -> Measured:
    return Measured(name, -abs(slope - 1.0), abs(slope - 1.0) <= NEAR, {"slope": slope})


CLAIM = Claim(
    id="T8",
    title="alpha G_train G_val is the learning of a mode",
    statement="The learning contribution of mode j is alpha_j G_j^train G_j^val.",
    published={"": Published("value not seen; passed", "scripts of 2603.28964, test 8")},
    criterion="the sum of these products, times -eta, is within 10 % of the true change of the validation loss (slope)",
    corrected="minus the slope's distance from 1, against the same sum without alpha",
    convention="W = 10",
    controls={WITHOUT: "the same sum over modes without alpha"},
    needs=NEEDS,
    would_change="slopes near 1 that alpha brings nearer",
    families=tuple(SETTINGS),
    units=units,
    unit="-|slope - 1|",
    whose=Criterion.OURS,
    note="The published test ranks these products against the loss after v_j is projected out of the weights, which "
    "is another quantity. Under AdamW or over several steps the product misses the update itself.",
)
