"""Recorded traces read at the step of the transition, kept beside the results so that pages need no trace.

A run is read at its own step and its control at the same step. Where a run never makes the transition both are read at
its last step, and the reading says so. A run that has the same decay and is not to make the transition is read at the
step of the run with its operation and seed, or at the median step of its operation where that seed was not run.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median_high
from typing import Any

from experiment_pages.records import BANKS, Run, Study
from experiment_pages.walks import walks
from spectral_edge import InputError, Trace, open_trace
from spectral_edge.evaluate.transition import at_transition
from spectral_edge.measure import decline_null
from spectral_edge.studies.plan import HALVES

ATTENTION = "attention*"


@dataclass(frozen=True)
class Convention:
    """How a trace is read.

    Attributes:
        window: number W of updates.
        interval: steps that one update spans; None is every observation.
        group: a recorded group; None is the whole model.
        criterion: whose step is read.
    """

    window: int
    interval: int | None
    group: str | None
    criterion: str = "first_95"


PUBLISHED = {
    "arithmetic": Convention(10, 100, ATTENTION),
    "dual": Convention(10, 200, ATTENTION),
    "tri": Convention(10, 200, ATTENTION),
    "dyck": Convention(3, 200, ATTENTION),
    # At the size of this machine a run takes a tenth of the published steps: 100 steps in place of 500.
    "scan": Convention(5, 100, ATTENTION),
}
"""The published window, snapshot interval and matrices of each family."""

GROKKING = tuple(PUBLISHED)
"""The families that make a transition."""

READ = ("grokking", "same-decay", "gpu")
"""Studies whose runs of these families are read at the transition."""
WALKED = ("optimizers", "shift", "gpu", *BANKS, "interventions")
"""Studies whose other traces are read from beginning to end, those of banks in their development half only."""
ALL_INTERVALS = ("optimizers", "shift", "gpu")
"""Those that are read at every interval, the others at that of the observations."""

Studies = Mapping[str, Study]


def conventions(run: Run) -> dict[str, Convention]:
    """The published convention and what is changed in it, one thing at a time."""
    family = run.family
    published = PUBLISHED[family]
    if family == "scan" and run.config["size"] != "cpu":
        published = replace(published, interval=500)
    found = {
        "published": published,
        "every observation": Convention(published.window, None, ATTENTION),
        "whole model": Convention(published.window, published.interval, None),
    }
    if family in ("dyck", "scan"):
        found["at 0.98"] = Convention(published.window, published.interval, ATTENTION, "sustained_98")
    return found


def update(studies: Studies, folder: Path, *, again: bool, said: Callable[[str], None]) -> dict[str, Any]:
    """Reads what was not read yet, and keeps it.

    Args:
        studies: what is recorded.
        folder: where readings are kept, one file a study.
        again: read every trace again.
        said: told of every run that is read.

    Returns:
        Study to run to convention to its reading.
    """
    kept = {name: {} if again else load(folder, name) for name in studies}
    for name, study in studies.items():
        fresh = {run.name: _current(studies, study, run, kept[name].get(run.name), said) for run in study.recorded}
        fresh = {run: reading for run, reading in fresh.items() if reading is not None}
        if fresh != kept[name] or again:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.json").write_text(_text(fresh), encoding="utf-8")
        kept[name] = fresh
    return kept


def stale(studies: Studies, folder: Path) -> list[str]:
    """Recorded runs whose kept readings are missing, or are of another record."""
    found: list[str] = []
    for name, study in studies.items():
        kept = load(folder, name)
        for run in study.recorded:
            if is_read(name, run) and kept.get(run.name, {}).get("fingerprint") != _mark(studies, study, run):
                found.append(f"readings of {name}/{run.name}")
        found += [f"readings of {name}/{run}, which is not recorded" for run in kept if not _known(study, run)]
    return found


def _known(study: Study, name: str) -> bool:
    return name in study.runs and study.runs[name].result is not None


def _mark(studies: Studies, study: Study, run: Run) -> str:
    """What a reading depends on: the record of the run, the steps at which it is read, and a control read with it."""
    control = _without_decay(studies, run)
    read = [run.fingerprint(), *(str(step) for step in _steps(studies, study, run).values())]
    return "-".join(read if control is None else [*read, control.fingerprint()])


def load(folder: Path, study: str) -> dict[str, Any]:
    """The kept readings of a study, by run."""
    path = folder / f"{study}.json"
    return json.loads(path.read_text(encoding="utf-8"))["runs"] if path.is_file() else {}


def is_read(study: str, run: Run) -> bool:
    """Whether anything is read of a run's trace."""
    if study in BANKS and run.half == HALVES[1]:
        return False
    return study in WALKED or (run.family in PUBLISHED and study in READ)


def read(studies: Studies, study: Study, run: Run) -> dict[str, Any]:
    """Every reading of one run, as plain values of six digits."""
    if run.result is None:
        return {}
    trace = open_trace(run.folder)
    if study.name not in READ or run.family not in PUBLISHED:
        return _plain(walks(trace, run, every_interval=study.name in ALL_INTERVALS))
    found: dict[str, Any] = {}
    chosen, steps = conventions(run), _steps(studies, study, run)
    for name, convention in chosen.items():
        step = steps[convention.criterion]
        if step is None or step <= run.result["steps"]:  # else it ended before its twin's transition
            found[name] = _read(trace, run, convention, step or _last(study, run), transition=step is not None)
    own = run.grok("first_95")
    if run.role == "control" and own is not None:
        found["own step"] = _read(trace, run, chosen["published"], own, transition=True)
    control = _without_decay(studies, run)
    if control is not None and own is not None and own <= control.result["steps"]:
        found["control"] = _read(open_trace(control.folder), control, chosen["published"], own, transition=True)
    return {name: reading for name, reading in found.items() if reading}


def _steps(studies: Studies, study: Study, run: Run) -> dict[str, int | None]:
    """The step at which a run is read, by criterion; None where that transition was never made."""
    criteria = ("first_95", "sustained_98")
    if run.role == "same-decay":
        grokking = studies["grokking"].family(run.family) if "grokking" in studies else []
        likes = [other for other in grokking if other.role == "run" and other.member == run.member]
        return {name: _like(likes, run.seed, name) for name in criteria}
    twin = study.runs.get(run.twin or "", run)
    return {name: twin.grok(name) for name in criteria}


def _like(runs: list[Run], seed: int, criterion: str) -> int | None:
    """The step of the run with this seed, or else the median over all of them."""
    steps = {run.seed: step for run in runs if (step := run.grok(criterion)) is not None}
    return steps.get(seed, median_high(steps.values()) if steps else None)


def _last(study: Study, run: Run) -> int:
    """The last step of a run that has no transition, or the last that it and its twin both reached."""
    twin = study.runs.get(run.twin or "", run)
    reached = [other.result["steps"] for other in (run, twin) if other.result is not None]
    return min(reached)


def _without_decay(studies: Studies, run: Run) -> Run | None:
    """The recorded control without decay that a run which groks without decay is compared with."""
    if run.role != "grok-without-decay" or "grokking" not in studies:
        return None
    found = studies["grokking"].family(run.family)
    likes = (r for r in found if r.role == "control" and (r.member, r.seed) == (run.member, run.seed))
    return next(likes, None)


def _read(trace: Trace, run: Run, convention: Convention, step: int, *, transition: bool) -> dict[str, Any]:
    """One reading; empty where the trace was not recorded often enough, or not far enough back."""
    every = run.config["observe_every"]
    if (convention.interval or every) % every:
        return {}
    stride = (convention.interval or every) // every
    try:
        reading = at_transition(trace, step, window=convention.window, stride=stride, group=convention.group)
    except InputError:
        return {}
    plain = _plain(asdict(reading))
    for fall in (value for value in plain.values() if isinstance(value, dict)):
        fall["fold"] = _short(fall["peak"] / fall["value"])
    plain |= {"declined": reading.declined, "monotone": reading.monotone, "transition": transition}
    if reading.windows > 1:
        plain["noise"] = [_short(fold) for fold in decline_null(convention.window, reading.windows)]
    return plain


def _current(studies: Studies, study: Study, run: Run, kept: Any, said: Callable[[str], None]) -> dict[str, Any] | None:
    if not is_read(study.name, run):
        return None
    mark = _mark(studies, study, run)
    if kept is not None and kept["fingerprint"] == mark:
        return kept
    said(f"reading {study.name}/{run.name}")
    return {"fingerprint": mark, "readings": read(studies, study, run)}


def _text(fresh: Mapping[str, Any]) -> str:
    """A JSON object with a line a run, so that a new run is a new line."""
    lines = [f"  {json.dumps(run)}: {json.dumps(value, allow_nan=False)}" for run, value in fresh.items()]
    return '{\n "command": "python tools/make_experiments.py",\n "runs": {\n' + ",\n".join(lines) + "\n }\n}\n"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return _short(value) if isinstance(value, float) else value


def _short(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None
