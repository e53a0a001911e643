"""The abstract's headline: each mode's contribution to the loss goes with its stability coefficient."""

from collections.abc import Sequence

from spectral_edge.claims.claim import Claim, Criterion, Measured, Published, Unit
from spectral_edge.claims.evidence import Evidence
from spectral_edge.claims.trainings import NEEDS, SETTINGS

WITHOUT, FACTOR = "without alpha", "one factor"


def units(evidence: Evidence, family: str) -> Sequence[Unit]:
    """Each fresh seed: how well the next change of the loss is forecast in the second half of the run."""
    record = evidence.record("theory/loss_again")
    if record is None:
        return []
    late, fitted = record[SETTINGS[family]]["late_skill"], record[SETTINGS[family]]["fitted_skill"]
    return [
        Unit(
            Measured(f"fresh seed {seed}", alpha, alpha > 0),
            {WITHOUT: Measured("without", without), FACTOR: Measured("one factor", one)},
        )
        for seed, (alpha, without, one) in enumerate(
            zip(late["drift_discounted"], late["drift"], fitted["drift"], strict=True)
        )
    ]


CLAIM = Claim(
    id="H6",
    title="the loss decomposes by stability",
    statement="The change of the loss is a sum over modes in which each counts by its stability coefficient alpha.",
    published={"": Published("a theorem; no count", "2603.28964 v1, abstract")},
    criterion="the alpha-weighted sum over modes forecasts the next change of the loss better than no change does",
    corrected="the skill of that forecast: 1 less its squared error over that of no change, on the second half of the "
    "run. The window's mean update is the forecast of the next one",
    convention="W = 10; modes and alpha of the window before the update whose change is forecast",
    controls={
        WITHOUT: "the same sum over modes without alpha",
        FACTOR: "the same sum without alpha, times the one factor that suited the first half of the run best",
    },
    needs=NEEDS,
    would_change="trainings in which weights of alpha improve the forecast, and by more than one factor for all modes",
    families=tuple(SETTINGS),
    units=units,
    unit="skill",
    whose=Criterion.OURS,
    note="That a forecast beats no change is a low bar, and ours, so that it is asked of runs only. In hindsight, with "
    "the update known, alpha costs skill (docs/theory/loss.md). Inside the window the sum without alpha is an identity "
    "in any orthonormal basis that contains the update, and with alpha it is not: neither can confirm the claim.",
)
