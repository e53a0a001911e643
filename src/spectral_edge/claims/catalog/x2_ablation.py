"""X2: without v_1 the network forgets."""

from collections.abc import Sequence

from spectral_edge.claims.claim import Claim, Criterion, Measured, Published, Unit
from spectral_edge.claims.evidence import Evidence
from spectral_edge.claims.lifecycle import BATCHES, NEEDS, lifecycle

HARM = 0.4
"""The published harm less two of its standard deviations."""
RANDOM, SHRINKING = "random direction", "shrinking"
MOMENTS = {"at grok": "at", "1,000 steps later": "after"}
FAMILIES = {f"{batch}, {moment}": (batch, MOMENTS[moment]) for moment in MOMENTS for batch in BATCHES}


def units(evidence: Evidence, family: str) -> Sequence[Unit]:
    """Each fresh seed that was measured at that moment."""
    batch, moment = FAMILIES[family]
    found = lifecycle(evidence, batch)
    if found is None:
        return []
    seeds = [seed for seed, steps in enumerate(found["ablation"]["steps"]) if steps[moment] is not None]
    effects = {name: found["ablation"][f"{moment}, v1"][name]["each"] for name in ("removed", "random", "shrunk")}
    return [
        Unit(
            _read(f"fresh seed {seed}", removed), {RANDOM: _read("random", random), SHRINKING: _read("shrunk", shrunk)}
        )
        for seed, removed, random, shrunk in zip(seeds, *effects.values(), strict=True)
    ]


def _read(name: str, change: float) -> Measured:
    return Measured(name, -change, -change >= HARM, {"change of accuracy": change})


CLAIM = Claim(
    id="X2",
    title="removing v_1 destroys the solution",
    statement="Removing v_1 from the weights destroys the accuracy; a random move as far does less.",
    published={"": Published("-.58 +- .09 against 0.000 (Dyck, v_1 and v_2)", "2604.07380")},
    criterion="removing v_1 from the weights costs at least .4 of the test accuracy",
    corrected="the loss of accuracy, against moves of the same length: the published random directions moved the "
    "weights by an order of magnitude less",
    convention="addition mod 31, W = 10; at the transition, and at the first look 1,000 steps after it",
    controls={
        RANDOM: "a random direction, the weights moved as far",
        SHRINKING: "the weights shrunk, moved as far",
    },
    needs=NEEDS,
    would_change="no further harm than by a random move of the same length",
    families=tuple(FAMILIES),
    units=units,
    unit="loss of accuracy",
    whose=Criterion.READING,
    note="That random directions do nothing, as published, holds only of the published ones, which moved the weights "
    "less by an order of magnitude: see what those as long do. Moving the weights as far along v_1 in the other "
    "direction did no harm in the first six seeds (docs/theory): the removal rewinds training.",
)
