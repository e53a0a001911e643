"""Claims that something tells which run comes next: each transition beside the runs of its kind still at risk."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from spectral_edge.claims.claim import Measured, Unit
from spectral_edge.claims.evidence import Run
from spectral_edge.evaluate.hazard import hazard

Array = NDArray[np.float64]

AT_RISK = "runs at risk"
CONTROLS = {AT_RISK: "the runs of its kind (study, operation, labels, amount of data) that were at risk at that step"}
LEAST = 4
"""Runs below which no hazard is fitted."""


def rows_at_risk(run: Run, steps: NDArray[np.int64], covariate: Array, update: Array, weight: Array) -> Array | None:
    """Step, event, covariate and the logarithms of both norms, a row for each evaluation up to the transition.

    Behind its transition a run is not at risk. None where what is known before the transition is not finite, which is
    so where it came before the first window.

    Args:
        run: whose.
        steps: evaluations [N].
        covariate: what is tested, as it was known before each [N].
        update: norm of an update, likewise [N].
        weight: norm of the weights, likewise [N].
    """
    grok = run.grok()
    norms = [np.log(np.where(norm > 0, norm, np.nan)) for norm in (update, weight)]
    table = np.column_stack([steps.astype(np.float64), (steps == grok).astype(np.float64), covariate, *norms])
    if grok is not None:
        table = table[table[:, 0] <= grok]
    table = table[np.isfinite(table).all(axis=1)]
    told = len(table) > 0 and (grok is None or table[-1, 1] > 0)
    return table if told else None


def units_at_risk(tables: Sequence[tuple[Run, Array]], name: str) -> Iterator[Unit]:
    """A unit for each transition: what step and norms leave of the covariate, beside the median of those at risk.

    Args:
        tables: runs with and without a transition, each with its rows at risk.
        name: of the covariate.
    """
    if len(tables) < LEAST or not any(table[:, 1].any() for _, table in tables):
        return
    lengths = [len(table) for _, table in tables]
    names = np.repeat([run.name for run, _ in tables], lengths)
    kinds = np.repeat([f"{run.study} {run.member} {run.kind}" for run, _ in tables], lengths)
    step, event, covariate, update, weight = np.concatenate([table for _, table in tables]).T
    found = hazard(names, step, event, covariate, {"update norm": update, "weight norm": weight}, strata=kinds)
    told = {} if found.coefficient is None else {"log hazard per s.d., one fit": found.coefficient}
    told |= {} if found.p_permutation is None else {"p of the fit, paths exchanged": found.p_permutation}
    for each in found.failures:
        own = (names == each.run) & (event > 0)
        run = Measured(each.run, each.own, statistics={name: float(covariate[own][0]), **told})
        if each.others is None:
            yield Unit(run)
            continue
        beside = (kinds == kinds[own][0]) & (step == step[own][0]) & (names != each.run)
        middle = {name: float(np.median(covariate[beside]))}
        yield Unit(run, {AT_RISK: Measured(f"{each.at_risk} others at that step", each.others, statistics=middle)})
