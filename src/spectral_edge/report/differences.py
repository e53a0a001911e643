"""In what a run and its control differ besides the treatment."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from spectral_edge.report.facts import RunFacts, window_of
from spectral_edge.report.words import number, percent


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not the same in both.

    Attributes:
        name: what.
        run: how it is in the run.
        control: how it is in the control.
    """

    name: str
    run: str
    control: str

    @property
    def words(self) -> str:
        """Name and both values."""
        return f"{self.name} ({self.run} in the run, {self.control} in the control)"


def differences(run: RunFacts, control: RunFacts) -> list[Difference]:
    """What differs besides weight decay, the treatment of a yoked control; what was not recorded is not compared."""
    return [
        Difference(name, *said) for name, said in _compared(run, control) if said is not None and said[0] != said[1]
    ]


def _compared(run: RunFacts, control: RunFacts) -> Iterator[tuple[str, tuple[str, str] | None]]:
    first, second = run.trace, control.trace
    yield "parameters watched", (f"{first.parameter_count:,}", f"{second.parameter_count:,}")
    if first.parameter_count == second.parameter_count:
        yield "tensors watched", _tensors(run, control)
    yield "coverage", _coverage(first.coverage, second.coverage)
    yield "steps an update spans", _known(run.cadence, control.cadence)
    yield "window watched with", (f"{window_of(first)} updates", f"{window_of(second)} updates")
    ours, theirs = _watched(run), _watched(control)
    yield "optimizer", _known(ours.get("optimizer"), theirs.get("optimizer"))
    # The null of a run whose momentum is unknown has no memory: that is a difference too.
    yield "momentum", (_said(ours.get("momentum")), _said(theirs.get("momentum")))
    yield "learning rate", _learning_rates(run, control)
    yield "last step", (f"{run.end:,}", f"{control.end:,}")
    yield "seed", _known(first.metadata.get("seed"), second.metadata.get("seed"))
    mine, yours = _task(run), _task(control)
    for name in mine:
        if name in yours and name != "learning_rate":
            yield name.replace("_", " "), (_said(mine[name]), _said(yours[name]))


def _said(value: Any) -> str:
    if value is None:
        return "unknown"
    return number(value) if isinstance(value, float) else str(value)


def _known(run: Any, control: Any) -> tuple[str, str] | None:
    return None if run is None or control is None else (_said(run), _said(control))


def _watched(facts: RunFacts) -> Mapping[str, Any]:
    return facts.trace.metadata.get("monitor") or {}


def _task(facts: RunFacts) -> Mapping[str, Any]:
    """The recorded settings of what was learned, where the trace was made by `spectral_edge.experiments`."""
    config = facts.trace.metadata.get("config")
    task: Any = config.get("task") if isinstance(config, dict) else None
    return task if isinstance(task, dict) else {}


def _tensors(run: RunFacts, control: RunFacts) -> tuple[str, str] | None:
    ours, theirs = ({(t.name, t.shape) for t in f.trace.segments[-1].inventory.tensors} for f in (run, control))
    return None if ours == theirs else (_first(ours - theirs), _first(theirs - ours))


def _first(alone: set[tuple[str, tuple[int, ...]]]) -> str:
    """The first of the tensors that only one of the two has."""
    if not alone:
        return "none of its own"
    name, shape = min(alone)
    return f"{name} of shape {shape}" + (f" and {len(alone) - 1} more" if len(alone) > 1 else "")


def _coverage(run: float, control: float) -> tuple[str, str] | None:
    if not np.isfinite([run, control]).all() or abs(run - control) < 1e-9:
        return None
    apart = percent(run) != percent(control)
    return (percent(run), percent(control)) if apart else (f"{run:.6f}", f"{control:.6f}")


def _learning_rates(run: RunFacts, control: RunFacts) -> tuple[str, str] | None:
    """By the rows of the steps that both observed, else by the median."""
    ours, theirs = (facts.trace.row_metadata("learning_rate") for facts in (run, control))
    if not (np.isfinite(ours).any() and np.isfinite(theirs).any()):
        return None
    _, at, there = np.intersect1d(run.trace.steps, control.trace.steps, return_indices=True)
    usable = np.isfinite(ours[at]) & np.isfinite(theirs[there])
    if usable.any():
        ours, theirs = ours[at][usable], theirs[there][usable]
        if np.allclose(ours, theirs, rtol=1e-6, atol=0.0):
            return None
        least = int(np.argmax(np.abs(ours - theirs)))
        return number(float(ours[least])), number(float(theirs[least]))
    return number(float(np.nanmedian(ours))), number(float(np.nanmedian(theirs)))
