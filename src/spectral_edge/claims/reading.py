"""How claims reduce runs to units: a run up to its transition beside its controls, or beside noise of its norms."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectral_edge.claims.claim import NOISE_ONLY, Measured, Unit
from spectral_edge.claims.evidence import ATTENTION, Evidence, Run, Yoked
from spectral_edge.evaluate.transition import AtTransition, at_transition
from spectral_edge.series import EdgeSeries

Array = NDArray[np.float64]
Beside = tuple[NDArray[np.int64], Array, Array]
Reader = Callable[[Evidence, Run, int], Measured]
"""Reads a run up to a step."""

WINDOW = 10
"""Full windows of ten updates in every family; the published ones of Dyck and SCAN are shorter and growing."""

WEIGHTS = "parameters"
"""The probe that grokking runs take of their own weights at every observation."""

LANGUAGE = ("stories", "shift")
ADAMW = {"stories": ("optimizers", "adamw"), "shift": ("shift", "run")}
"""Study and role of the language runs on which claims about one run are judged."""


def transition(evidence: Evidence, run: Run, step: int) -> AtTransition:
    """What the gap of a run does up to a step; see `evaluate.transition`."""
    return evidence.kept(
        run, "transition", lambda run: at_transition(run.trace, step, window=WINDOW, group=run.watched), step
    )


def edge(
    evidence: Evidence, run: Run, *, window: int = WINDOW, stride: int = 1, group: str | None = None
) -> EdgeSeries:
    """Every quantity over the full windows of a run, of one group or of what claims watch."""

    def read(run: Run) -> EdgeSeries:
        return run.trace.edge(window, stride=stride, group=group or run.watched)

    return evidence.kept(run, "edge", read, window, stride, group)


def up_to(evidence: Evidence, run: Run, name: str, step: int, *, stride: int = 1, group: str | None = None) -> Array:
    """One quantity over the windows up to a step."""
    series = edge(evidence, run, stride=stride, group=group)
    return series[name][: int(np.searchsorted(series.step, step, side="right"))]


@dataclass(frozen=True, slots=True)
class Weights:
    """The attention matrices of a run at one observation.

    Attributes:
        norm: their norm.
        products: their products with the updates of the window that ends there, the oldest first [W].
    """

    norm: float
    products: Array


def attention_weights(evidence: Evidence, run: Run) -> Mapping[int, Weights]:
    """The weights by step, of runs that were probed with them; empty for others, and for noise in a run's place."""

    def read(run: Run) -> dict[int, Weights]:
        if WEIGHTS not in run.trace.probe_names:
            return {}
        entries = run.trace.segments[-1].entries
        watched = [i for i, name in enumerate(entries) if name.startswith(ATTENTION.rstrip("*"))]
        return {
            row.step: Weights(float(np.sqrt(row.square[watched].sum())), row.lags[watched, :WINDOW].sum(axis=0)[::-1])
            for row in run.trace.probes(WEIGHTS)
        }

    return evidence.kept(run, WEIGHTS, read)


def yoked_unit(evidence: Evidence, pair: Yoked, read: Reader) -> Unit:
    """A run and its controls, read alike at the step of the run's transition."""
    controls = {name: read(evidence, control, pair.step) for name, control in pair.controls.items()}
    return Unit(read(evidence, pair.run, pair.step), controls)


def yoked_units(read: Reader) -> Callable[[Evidence, str], Sequence[Unit]]:
    """Units of a claim about transitions: every run of a family that made one, beside its controls."""

    def units(evidence: Evidence, family: str) -> Sequence[Unit]:
        return [yoked_unit(evidence, pair, read) for pair in evidence.yoked(family)]

    return units


def beside_noise(
    read: Reader, *, controls: Mapping[str, str] = NOISE_ONLY
) -> Callable[[Evidence, str], Sequence[Unit]]:
    """Units of a claim about any run: each to its end, or to its transition, beside kinds of noise.

    Grokking families give their runs with decay, language families those under AdamW.

    Args:
        read: reads a run up to a step.
        controls: the kinds of noise.
    """

    def units(evidence: Evidence, family: str) -> Sequence[Unit]:
        if family in ADAMW:
            study, role = ADAMW[family]
            runs = [(run, int(run.trace.steps[-1])) for run in evidence.study(study, family=family, role=role)]
        else:
            runs = [(pair.run, pair.step) for pair in evidence.yoked(family)]
        return [
            Unit(
                read(evidence, run, step),
                {name: read(evidence, noise, step) for name, noise in run.noises().items() if name in controls},
            )
            for run, step in runs
        ]

    return units


def beside_loss(
    evidence: Evidence, run: Run, name: str = "ratios", *, window: int = WINDOW, group: str | None = None
) -> Beside:
    """A quantity and the validation loss at the steps that have both.

    Args:
        evidence: where what was read is kept.
        run: a language run.
        name: of the quantity.
        window: number W of updates.
        group: a recorded group; None is what claims watch.

    Returns:
        Steps [N], values [N, ...] and losses [N].
    """
    series = edge(evidence, run, window=window, group=group)
    steps, losses = run.metric("val_loss")
    common, left, right = np.intersect1d(series.step, steps, return_indices=True)
    return common, series[name][left], losses[right]


def finite(value: float | None) -> float | None:
    """The value where it is a finite number, else None."""
    return None if value is None or not np.isfinite(value) else float(value)


def middle(values: Array) -> float | None:
    """The median of the finite values, None where there is none."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else None


def share(values: NDArray[np.bool_]) -> float | None:
    """The share that is true, None of nothing."""
    return float(values.mean()) if len(values) else None
