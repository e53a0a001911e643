"""X6: the commutator of weight matrices peaks before grokking."""

from collections.abc import Sequence

import numpy as np

from spectral_edge.claims.claim import GROKKING_CONTROLS, SURROGATES, Claim, Criterion, Measured, Published, Unit
from spectral_edge.claims.evidence import Evidence, Run

# Noise in place of updates has no weights.
CONTROLS = {name: what for name, what in GROKKING_CONTROLS.items() if name != SURROGATES}


def units(evidence: Evidence, family: str) -> Sequence[Unit]:
    """Every run with a transition whose weights were looked at, beside its controls at the same step."""
    return [
        Unit(
            _read(pair.run, pair.step),
            {name: _read(run, pair.step) for name, run in pair.controls.items() if name in CONTROLS and _logged(run)},
        )
        for pair in evidence.yoked(family)
        if _logged(pair.run)
    ]


def _logged(run: Run) -> bool:
    return len(run.metric("commutator")[0]) > 0


def _read(run: Run, step: int) -> Measured:
    """How far the normalised commutator has fallen from its largest value; when the plain norm was largest."""
    falls = {name: _fall(run, name, step) for name in ("commutator", "commutator_norm", "commutator_circuits")}
    steps, norm = run.metric("commutator_norm")
    peak = int(steps[int(np.argmax(norm))])
    told = {"step of the norm's peak": float(peak), "lead, steps": float(step - peak)}
    told |= {f"ln fall of {name}": fall for name, fall in falls.items() if fall is not None}
    return Measured(run.name, falls["commutator"], peak < step, told)


def _fall(run: Run, name: str, step: int) -> float | None:
    """Ln of the largest value up to a step over the one at the step."""
    steps, values = run.metric(name)
    until = values[steps <= step]
    return float(np.log(until.max() / until[-1])) if len(until) and until[-1] > 0 else None


CLAIM = Claim(
    id="X6",
    title="weight matrices stop commuting before grokking",
    statement="The commutator of attention weight matrices peaks before the transition.",
    published={"": Published("6 of 6, family not given", "notes of 2603.28964")},
    criterion="the Frobenius norm of [W_Q, W_K], mean over the layers, is largest over the whole "
    "run before the transition",
    corrected="ln of the largest value up to the transition over the value at it, of that norm over |W_Q| |W_K|: the "
    "norms of the weights fall under decay by themselves, and the commutator with them",
    convention="weights, not updates; at every evaluation; the step of the run's transition for its controls too",
    controls=CONTROLS,
    needs="studies grokking and same-decay, runs recorded since commutators are logged",
    would_change="runs whose normalised commutator falls by more than that of their controls with the same decay",
    families=("arithmetic", "dyck"),
    units=units,
    unit="ln fall of the normalised commutator",
    whose=Criterion.READING,
    note="The notes name no matrices. [W_Q, W_K] depends on the basis of the heads, which a network is free to choose: "
    "rotating queries and keys of a head alike changes it and nothing that the network does. The commutator of "
    "W_Q^T W_K and W_O W_V has no such freedom; it stands among the statistics. A peak need not be a spike: what only "
    "falls is largest at the first step.",
)
