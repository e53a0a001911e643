"""Which of several runs of a kind makes its transition next, as it can be told some share of the steps ahead."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from spectral_edge.claims.claim import Unit
from spectral_edge.claims.evidence import Evidence, Run
from spectral_edge.claims.reading import edge
from spectral_edge.claims.risk import AT_RISK, AtRisk, at_risk, units_at_risk
from spectral_edge.studies.banks import half

Array = NDArray[np.float64]

AHEAD = 0.2
"""Share of the steps up to a transition by which the claims look ahead."""
BANK, HALF = "null-bank", "development"
"""Where they are judged: they were stated before it was recorded. Its other half stays unread, for alarms."""

COHERENCE, WEIGHTS = "coherence", "minus norm of the weights"


def _edge(name: str, *, sign: int = 1) -> Callable[[Evidence, Run], tuple[NDArray[np.int64], Array]]:
    def read(evidence: Evidence, run: Run) -> tuple[NDArray[np.int64], Array]:
        series = edge(evidence, run)
        return series.step, sign * series[name]

    return read


def _metric(name: str, *, sign: int = 1) -> Callable[[Evidence, Run], tuple[NDArray[np.int64], Array]]:
    def read(evidence: Evidence, run: Run) -> tuple[NDArray[np.int64], Array]:
        steps, values = run.metric(name)
        return steps, sign * values

    return read


QUANTITIES: Mapping[str, Callable[[Evidence, Run], tuple[NDArray[np.int64], Array]]] = {
    COHERENCE: _edge("coherence"),
    WEIGHTS: lambda evidence, run: (run.trace.steps, -run.trace.row_metadata("parameter_norm")),
    "norm of an update": _edge("update_norm"),
    "minus g23 / tr G": _edge("g23_normalized", sign=-1),
    "minus training loss": _metric("train_loss", sign=-1),
    "minus test loss": _metric("test_loss", sign=-1),
    "test accuracy": _metric("test_accuracy"),
}
"""What may tell it, larger in the run that is next: of attention matrices, of all weights, and of evaluations."""


def bank(evidence: Evidence, family: str) -> list[Run]:
    """The bank's half of runs that are to make a transition, once all of them are recorded; until then none."""
    role = "transition"
    planned = {run for run, seed in evidence.planned(BANK, family, role=role).items() if half(seed) == HALF}
    runs = [run for run in evidence.study(BANK, family=family, role=role) if run.name in planned]
    return runs if len(runs) == len(planned) else []


def next_units(evidence: Evidence, runs: Sequence[Run], name: str, *, ahead: float = AHEAD) -> list[Unit]:
    """A unit for each transition: one quantity some steps ahead of it, beside the runs that were still at risk.

    Args:
        evidence: where what was read is kept.
        runs: with and without a transition.
        name: of the quantity.
        ahead: share of the steps.
    """
    found = [_known(evidence, run, name, ahead) for run in runs]
    return list(units_at_risk([each for each in found if each is not None]))


def told(evidence: Evidence, runs: Sequence[Run], name: str, *, ahead: float = AHEAD) -> tuple[int, int]:
    """In how many transitions the run that is next exceeds those at risk, and how many have any beside them."""
    units = [unit for unit in next_units(evidence, runs, name, ahead=ahead) if AT_RISK in unit.controls]
    return sum((unit.run.value or 0.0) > (unit.controls[AT_RISK].value or 0.0) for unit in units), len(units)


def _known(evidence: Evidence, run: Run, name: str, ahead: float) -> AtRisk | None:
    """Before each evaluation the last value up to as many of its steps."""
    times, values = QUANTITIES[name](evidence, run)
    steps = run.metric("test_accuracy")[0]
    at = np.searchsorted(times, (1 - ahead) * steps, side="right") - 1
    return at_risk(run, steps[at >= 0], values[at[at >= 0]]) if (at >= 0).any() else None
