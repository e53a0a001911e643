"""Transitions beside the runs of their kind that were still at risk of one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectral_edge.claims.claim import Measured, Unit
from spectral_edge.claims.evidence import Run
from spectral_edge.evaluate.hazard import Hazard, failures, hazard

Array = NDArray[np.float64]

AT_RISK, NORMS_ALIKE = "runs at risk", "norms alike"
BESIDE: Mapping[str, str] = {
    AT_RISK: "the middle one of the other runs of its kind (operation, labels, amount of data) at risk at that step, "
    "of an even number the larger of the two",
}
BEYOND_NORMS: Mapping[str, str] = {
    **BESIDE,
    NORMS_ALIKE: "what a regression over these runs expects at its norms, and the middle one of what it leaves of the "
    "others; where six or more were at risk",
}
LEAST = 4
"""Runs below which no hazard is fitted."""


@dataclass(frozen=True, slots=True)
class AtRisk:
    """The evaluations of a run up to its transition; behind it a run is not at risk.

    Attributes:
        run: whose.
        step: of each evaluation [N].
        event: whether the transition was found there [N].
        covariate: what is tested, as it was known before each [N].
        norms: what it may have to add to, likewise, by name [N].
    """

    run: Run
    step: Array
    event: NDArray[np.bool_]
    covariate: Array
    norms: Mapping[str, Array] = field(default_factory=dict[str, Array])


def at_risk(
    run: Run, steps: NDArray[np.int64], covariate: ArrayLike, norms: Mapping[str, ArrayLike] | None = None
) -> AtRisk | None:
    """What is known before each evaluation, of norms the logarithm; None where nothing is.

    Args:
        run: whose.
        steps: evaluations [N].
        covariate: what is tested, as it was known before each [N].
        norms: what it may have to add to, likewise, by name [N].
    """
    columns = {name: _log(np.asarray(norm, dtype=np.float64)) for name, norm in (norms or {}).items()}
    tested = np.asarray(covariate, dtype=np.float64)
    known = np.isfinite(np.column_stack([tested, *columns.values()])).all(axis=1)
    grok = run.grok()
    if grok is not None:
        known &= steps <= grok
    if not known.any():
        return None
    kept = {name: values[known] for name, values in columns.items()}
    return AtRisk(run, steps[known].astype(np.float64), steps[known] == grok, tested[known], kept)


def fit_at_risk(runs: Sequence[AtRisk]) -> Hazard | None:
    """One hazard over all rows, beyond the norms; None of too few runs or without a transition."""
    if len(runs) < LEAST or not any(each.event.any() for each in runs):
        return None
    names, step, event, covariate, norms, kinds = _columns(runs)
    return hazard(names, step, event, covariate, norms, strata=kinds)


def units_at_risk(runs: Sequence[AtRisk], *, told: Mapping[str, float] | None = None) -> Iterator[Unit]:
    """A unit for each transition: the covariate known before it, beside that of the runs at risk.

    Args:
        runs: with and without a transition.
        told: what else is reported with every unit.
    """
    if not runs:
        return
    names, step, event, covariate, norms, kinds = _columns(runs)
    for each in failures(names, step, event, covariate, norms, strata=kinds):
        controls: dict[str, Measured] = {}
        beside = f"{each.at_risk} others at step {each.step:.0f}"
        if each.others is not None:
            controls[AT_RISK] = Measured(beside, each.others)
        if norms and each.beyond is not None:
            controls[NORMS_ALIKE] = Measured(f"{beside}, by norms", each.own - each.beyond)
        yield Unit(Measured(each.run, each.own, statistics=told or {}), controls)


def _columns(
    runs: Sequence[AtRisk],
) -> tuple[NDArray[np.str_], Array, NDArray[np.bool_], Array, dict[str, Array], NDArray[np.str_]]:
    """Run, step, event, covariate, norms and kind of every row."""
    lengths = [len(each.step) for each in runs]

    def column(read: Callable[[AtRisk], Array]) -> Array:
        return np.concatenate([read(each) for each in runs])

    norms = {norm: np.concatenate([each.norms[norm] for each in runs]) for norm in runs[0].norms}
    return (
        np.repeat([each.run.name for each in runs], lengths),
        column(lambda each: each.step),
        np.concatenate([each.event for each in runs]),
        column(lambda each: each.covariate),
        norms,
        np.repeat([f"{each.run.member} {each.run.kind}" for each in runs], lengths),
    )


def _log(values: Array) -> Array:
    return np.log(np.where(values > 0, values, np.nan))
