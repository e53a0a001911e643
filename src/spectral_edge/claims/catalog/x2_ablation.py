"""X2: without v_1 the network forgets."""

from collections.abc import Sequence

from spectral_edge.claims.claim import Claim, Measured, Published, Unit
from spectral_edge.claims.evidence import Evidence

HARM = 0.4
"""The published harm less two of its standard deviations."""
RANDOM, SHRINKING = "random direction", "shrinking"


def units(evidence: Evidence, family: str) -> Sequence[Unit]:
    """Each seed of both batch sizes, at the transition."""
    del family
    record = evidence.record("theory/lifecycle")
    found: list[Unit] = []
    for regime in ("full", "mini") if record is not None else ():
        change = record[regime]["ablation"]["at, v1"]  # pyright: ignore[reportOptionalSubscript]
        for seed, removed in enumerate(change["removed"]["each"]):
            name = f"{regime}, seed {seed}"
            controls = {RANDOM: change["random"]["each"][seed], SHRINKING: change["shrunk"]["each"][seed]}
            found.append(Unit(_read(name, removed), {key: _read(name, value) for key, value in controls.items()}))
    return found


def _read(name: str, change: float) -> Measured:
    return Measured(name, -change, -change >= HARM)


CLAIM = Claim(
    id="X2",
    title="removing v_1 destroys the solution",
    statement="Removing v_1 from the weights destroys the accuracy, removing random directions does nothing.",
    published={"": Published("-.58 +- .09 against 0.000", "2604.07380", 4, 4)},
    criterion="removing v_1 from the weights at the transition costs at least .4 of the test accuracy",
    corrected="the loss of accuracy, against moves of the same length: the published random directions moved the "
    "weights by an order of magnitude less",
    convention="addition mod 31, six seeds with full batches and six with mini-batches, W = 10",
    controls={
        RANDOM: "a random direction, the weights moved as far",
        SHRINKING: "the weights shrunk, moved as far",
    },
    needs="record theory/lifecycle (python examples/theory/lifecycle.py)",
    would_change="no further harm than by a random move of the same length",
    families=("addition mod 31",),
    units=units,
    unit="loss of accuracy",
    note="Moving the weights as far along v_1 in the other direction does no harm: the removal rewinds training.",
)
