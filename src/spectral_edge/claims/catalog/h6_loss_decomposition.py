"""The abstract's headline: each mode's contribution to the loss goes with its stability coefficient."""

from collections.abc import Sequence

from spectral_edge.claims.claim import Claim, Measured, Published, Unit
from spectral_edge.claims.evidence import Evidence

WITHOUT = "without alpha"


def units(evidence: Evidence, family: str) -> Sequence[Unit]:
    """Each training: how well the next change of the loss is forecast from modes, weighted by alpha or not."""
    del family
    record = evidence.record("theory/loss")
    return [
        Unit(
            Measured(name, found["skill"]["hindsight_discounted"], found["skill"]["hindsight_discounted"] > 0),
            {WITHOUT: Measured(name, found["skill"]["hindsight"], None)},
        )
        for name, found in (record or {}).items()
        if "skill" in found
    ]


CLAIM = Claim(
    id="H6",
    title="the loss decomposes by stability",
    statement="The change of the loss is a sum over modes in which each counts by its stability coefficient alpha.",
    published={"": Published("a theorem; no count", "2603.28964 v1, abstract")},
    criterion="the alpha-weighted sum over modes of earlier updates forecasts the next change of the loss better than "
    "no change",
    corrected="the skill of that forecast, against the same sum with alpha left out",
    convention="W = 10, trainings at 1, 10 and 50 steps an update; out of the window that gives the modes",
    controls={WITHOUT: "the same sum over modes without alpha"},
    needs="record theory/loss (python examples/theory/loss.py)",
    would_change="trainings in which the weights improve the forecast",
    families=("small trainings",),
    units=units,
    unit="skill",
    note="Inside the window the sum without alpha is an identity in any orthonormal basis that contains the update, "
    "and with alpha it is not: neither can confirm the claim.",
)
