"""X6: the commutator of weight matrices peaks before grokking."""

from collections.abc import Sequence

import numpy as np

from spectral_edge.claims.claim import WEIGHTS_CONTROLS, Claim, Criterion, Measured, Published, Unit
from spectral_edge.claims.evidence import Evidence, Run


def units(evidence: Evidence, family: str) -> Sequence[Unit]:
    """Every run with a transition whose weights were looked at, beside its controls over the same steps."""
    return [
        Unit(
            _read(pair.run, pair.step, pair.run),
            {
                name: _read(run, pair.step, pair.run)
                for name, run in pair.controls.items()
                if name in WEIGHTS_CONTROLS and _logged(run)
            },
        )
        for pair in evidence.yoked(family)
        if _logged(pair.run)
    ]


def _logged(run: Run) -> bool:
    """Whether commutators were logged from the first step on."""
    steps = run.metric("commutator")[0]
    return len(steps) > 0 and int(steps[0]) == 1


def _read(run: Run, step: int, yoked: Run) -> Measured:
    """How the normalised commutator stands out before the transition; where the plain norm is largest as the criterion.

    Nothing is read behind the last step of the yoked run: a longer control would have more time for a later peak.
    """
    steps, norm = run.metric("commutator_norm")
    norm = norm[steps <= yoked.metric("commutator_norm")[0][-1]]
    peak = int(steps[int(np.argmax(norm))])
    told = {"step of the norm's peak": float(peak), "lead, steps": float(step - peak)}
    standing = {name: _prominence(run, name, step) for name in ("commutator", "commutator_norm", "commutator_circuits")}
    told |= {f"prominence of {name}": value for name, value in standing.items() if value is not None}
    return Measured(run.name, standing["commutator"], 1 < peak < step, told)


def _prominence(run: Run, name: str, step: int) -> float | None:
    """Ln of the largest value up to a step over the larger of the first one and the one at the step."""
    steps, values = run.metric(name)
    until = values[steps <= step]
    ends = max(until[0], until[-1]) if len(until) else 0.0
    return float(np.log(until.max() / ends)) if ends > 0 else None


CLAIM = Claim(
    id="X6",
    title="weight matrices stop commuting before grokking",
    statement="The commutator of attention weight matrices peaks before the transition.",
    published={"": Published("6 of 6, family not given", "notes of 2603.28964")},
    criterion="the Frobenius norm of [W_Q, W_K], mean over the layers, is largest before the transition and not at the "
    "first step, of all steps that the run has",
    corrected="how a peak stands out: ln of the largest value up to the transition over the larger of the values at "
    "the first step and at the transition, of that norm over |W_Q| |W_K|: the norms of the weights fall under decay by "
    "themselves, and what only falls has no peak",
    convention="weights, not updates; at every evaluation; the run's steps for its controls too",
    controls=WEIGHTS_CONTROLS,
    needs="studies grokking and same-decay, runs recorded since commutators are logged",
    would_change="runs whose normalised commutator has a higher peak than that of their controls with the same decay",
    families=("arithmetic", "dyck"),
    units=units,
    unit="prominence of the normalised commutator",
    whose=Criterion.READING,
    note="The notes name no matrices. [W_Q, W_K] depends on the basis of the heads, which a network is free to choose: "
    "rotating queries and keys of a head alike changes it and nothing that the network does. The commutator of "
    "W_Q^T W_K and W_O W_V has no such freedom; it stands among the statistics. What fluctuates more has higher peaks.",
)
