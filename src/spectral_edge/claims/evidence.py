"""What is recorded: runs of studies with their controls, and the numbers of the chapters on theory.

A run is read once and kept; what was deleted is simply not there, and claims that need it say so.
"""

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from spectral_edge.analysis import Trace, open_trace
from spectral_edge.claims.claim import (
    AR_NOISE,
    DRIFT_NOISE,
    FEW_DIRECTIONS,
    LITTLE_DATA,
    NO_DECAY,
    RANDOM_LABELS,
    SAME_DECAY,
    SURROGATES,
)
from spectral_edge.claims.surrogates import OPTIMIZER_NOISE, Recipe, drifting, few_directions, remembering, surrogate
from spectral_edge.errors import InputError, TraceError, warn
from spectral_edge.studies.recorded import RecordedRun, RecordedStudy, recorded_studies

Array = NDArray[np.float64]
Read = TypeVar("Read")

GROK, GROK_DYCK = "first_95", "sustained_98"
"""The transition: as in the published tables the first evaluation with a test accuracy of at least 0.95; for Dyck that
of 2602.16967, 0.98 at three evaluations running, since its runs pass 0.95 before a window is full."""

GROKKING = ("arithmetic", "dual", "tri", "dyck", "scan")
"""Families whose published Gram matrices watch the attention matrices; those of language models watch everything."""
ATTENTION = "attention*"


@dataclass(frozen=True, eq=False)
class Run:
    """One recorded run, or what stands in its place.

    Attributes:
        study: the study that it belongs to.
        name: within the study.
        family: of the experiments.
        member: what tells runs of one family apart besides seed and role: the operation of arithmetic, else the family.
        role: in the study's design, for instance "run" or "control".
        twin: name of the run that it is compared with.
        half: "development", "held-out" or nothing.
        seed: of the run.
        result: the content of its result.json.
        load: opens its trace.
    """

    study: str
    name: str
    family: str
    member: str
    role: str
    twin: str | None
    half: str
    seed: int
    result: Mapping[str, Any]
    load: Callable[[], Trace]

    @cached_property
    def trace(self) -> Trace:
        """Its lag rows, probes and metrics."""
        return self.load()

    @property
    def path(self) -> str:
        """Where it lies among the results."""
        return f"{self.study}/{self.name}"

    @property
    def kind(self) -> str:
        """The class of controls that a run with the same decay and no transition belongs to."""
        return RANDOM_LABELS if self.result["config"]["task"].get("random_labels") else LITTLE_DATA

    def grok(self) -> int | None:
        """The step of its transition, None where it made none."""
        return self.result["grok"].get(GROK_DYCK if self.family == "dyck" else GROK)

    @property
    def cadence(self) -> int:
        """Steps between two observations."""
        steps = self.trace.steps
        return max(int(np.median(np.diff(steps))), 1) if len(steps) > 1 else 1

    def reaches(self, step: int) -> bool:
        """Whether it was observed up to a step."""
        steps = self.trace.steps
        return bool(len(steps)) and 1 <= step < int(steps[-1]) + self.cadence

    def metric(self, name: str) -> tuple[NDArray[np.int64], Array]:
        """Steps and values of a metric, where it is finite; empty where it was not evaluated."""
        columns = self.result["metrics"]
        found = [
            (step, value)
            for step, value in zip(columns["step"], columns.get(name, []), strict=False)
            if value is not None
        ]
        steps, values = np.array([step for step, _ in found], dtype=np.int64), np.array([value for _, value in found])
        known = np.isfinite(values.astype(np.float64))
        return steps[known], values[known].astype(np.float64)

    @property
    def watched(self) -> str | None:
        """The group that claims are read on: the attention matrices of grokking runs, else None, the whole model."""
        recorded = any(name.startswith("attention") for name in self.trace.groups)
        return ATTENTION if self.family in GROKKING and recorded else None

    @property
    def parameters(self) -> int:
        """How many parameters that group has."""
        inventory = self.trace.segments[-1].inventory
        members: Iterable[int] = range(len(inventory.tensors))
        if self.watched is not None:
            named = [some for name, some in inventory.groups.items() if name.startswith("attention")]
            members = {index for some in named for index in some}
        return sum(inventory.tensors[index].numel for index in members)

    def noise(self, recipe: Recipe = OPTIMIZER_NOISE, *, name: str = SURROGATES) -> "Run":
        """The same run with noise of its norms in place of its updates.

        The draws follow from the run's path and the name of the noise, the same every time: were numbers of the recipe
        in the seed, their last digit would change them all.
        """
        seed = zlib.crc32(f"{self.path} {name}".encode())
        return replace(self, name=f"{self.name} ({name})", load=lambda: surrogate(self.trace, seed=seed, recipe=recipe))

    def noises(self) -> dict[str, "Run"]:
        """Noise in its place, by class: of the optimizer's memory, the run's own, its drift, its few directions."""
        rows = self.trace.lag_rows(self.watched)
        entries = self.trace.segments[-1].entries
        parts = [name for name in entries if self.watched is None or name.startswith(ATTENTION.rstrip("*"))]
        groups = [self.trace.lag_rows(name) for name in parts if name in self.trace.groups]
        recipes = {
            SURROGATES: OPTIMIZER_NOISE,
            AR_NOISE: remembering(rows),
            DRIFT_NOISE: drifting(rows),
            FEW_DIRECTIONS: few_directions(rows, groups or [rows]),
        }
        return {name: self.noise(recipe, name=name) for name, recipe in recipes.items()}


@dataclass(frozen=True, eq=False)
class Yoked:
    """A run up to its transition, and its controls up to the same step.

    Attributes:
        run: with a transition.
        step: of the transition.
        controls: by class; each control belongs to one run.
    """

    run: Run
    step: int
    controls: Mapping[str, Run]


class Evidence:
    """Everything that is recorded under one folder.

    Args:
        results: folder of the studies' folders and of the chapters' records.
        replaced: what takes the place of each run when the ledger itself is put to the test; None leaves them.
    """

    def __init__(self, results: Path, *, replaced: Callable[[Run], Run] | None = None) -> None:
        if not results.is_dir():
            raise InputError(
                "folder of results",
                expected="a folder with recorded studies",
                found=f"{results}, which is none",
                remedy="give the folder with --results",
            )
        self.results = results
        self._replaced = replaced or _as_it_is
        self._read: dict[str, tuple[Run, ...]] = {}
        self._kept: dict[tuple[Any, ...], Any] = {}

    def study(self, name: str, *, family: str | None = None, role: str | None = None) -> list[Run]:
        """Recorded runs of one study, in the order of its plan; read when they are first asked for.

        Args:
            name: of the study.
            family: of the runs; None takes all.
            role: of the runs; None takes all.
        """
        if name not in self._read:
            self._read[name] = tuple(self._replaced(run) for run in self._recorded(name))
        return [run for run in self._read[name] if family in (None, run.family) and role in (None, run.role)]

    def planned(self, name: str, family: str, *, role: str | None = None) -> dict[str, int]:
        """Names and seeds of the runs that a study plans, recorded or not; empty without the study.

        Args:
            name: of the study.
            family: of the runs.
            role: of the runs; None takes all.
        """
        study = self._studies.get(name)
        runs = [] if study is None else study.runs.values()
        return {run.name: run.seed for run in runs if run.family == family and role in (None, run.role)}

    def twins(self, run: Run, *, role: str | None = None) -> list[Run]:
        """Recorded runs that are compared with this one."""
        return [other for other in self.study(run.study, role=role) if other.twin == run.name]

    def yoked(self, family: str) -> list[Yoked]:
        """Every run of the grokking study that made its transition, with its controls of each class.

        Of the runs with the same decay and no transition each serves one run, and each kind gives a run one: that of
        the same member and seed, else one of the same member that is no other run's. A control that was not observed
        as long is left out.
        """
        transitions = [run for run in self.study("grokking", family=family, role="run") if run.grok() is not None]
        spare = [run for run in self.study("same-decay", family=family, role="same-decay") if run.grok() is None]
        owned = {other.name for other in spare if any(_same(run, other) for run in transitions)}
        found: list[Yoked] = []
        for run in transitions:
            step = run.grok()
            assert step is not None
            controls: dict[str, Run] = {SURROGATES: run.noise()}
            twin = next((other for other in self.twins(run, role="control") if other.reaches(step)), None)
            if twin is not None:
                controls[NO_DECAY] = twin
            for kind in SAME_DECAY:
                able = [
                    other
                    for other in spare
                    if other.kind == kind
                    and other.reaches(step)
                    and (_same(run, other) or (other.member == run.member and other.name not in owned))
                ]
                match = next((other for other in able if _same(run, other)), able[0] if able else None)
                if match is not None:
                    spare.remove(match)
                    controls[kind] = match
            found.append(Yoked(run, step, controls))
        return found

    def without_transition(self, family: str) -> list[Run]:
        """Runs of the grokking study with decay that made no transition."""
        return [run for run in self.study("grokking", family=family, role="run") if run.grok() is None]

    def record(self, name: str) -> Mapping[str, Any] | None:
        """The numbers of one record of the chapters, for instance "theory/lifecycle"; None where it is not there.

        Raises:
            InputError: if the file is no record.
        """
        path = self.results / f"{name}.json"
        if not path.is_file():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))["numbers"]
        except (ValueError, KeyError) as error:
            raise InputError(
                f"record {path}",
                expected="a JSON object with numbers",
                found="something else",
                remedy="make it again with the command that its chapter names",
            ) from error

    def kept(self, run: Run, name: str, read: Callable[[Run], Read], *key: Any) -> Read:
        """What was read of a run, read once.

        Args:
            run: of which.
            name: of what is read.
            read: reads it.
            key: whatever else it depends on.
        """
        at = (run.path, name, *key)
        if at not in self._kept:
            self._kept[at] = read(run)
        return self._kept[at]

    @cached_property
    def _studies(self) -> Mapping[str, RecordedStudy]:
        return recorded_studies(self.results)

    def _recorded(self, name: str) -> Iterator[Run]:
        study = self._studies.get(name)
        for run in study.recorded if study is not None else ():
            trace = _trace(run)
            if trace is not None:
                yield _run(run, trace)


def _run(run: RecordedRun, trace: Trace) -> Run:
    assert run.result is not None  # recorded
    return Run(
        study=run.study,
        name=run.name,
        family=run.family,
        member=run.member,
        role=run.role,
        twin=run.twin,
        half=run.half,
        seed=run.seed,
        result=run.result,
        load=lambda: trace,
    )


def _trace(run: RecordedRun) -> Trace | None:
    """The trace of a run; None, with a warning, where it is not whole: a result without it supports nothing."""
    assert run.result is not None  # recorded
    try:
        trace = open_trace(run.folder)
        last, rows = int(trace.steps[-1]) if len(trace.steps) else 0, len(trace.lag_rows())
        # The last observation is within one cadence of the run's last step.
        whole = rows == len(trace.steps) and last + run.config["observe_every"] > run.result["steps"]
        why = "" if whole else f"it ends at step {last:,} of {run.result['steps']:,}"
    except (TraceError, OSError, ValueError, IndexError) as error:
        trace, why = None, " ".join(str(error).split())
    if why:
        warn(f"trace of run {run.name} of study {run.study}: {why}; it counts as not recorded")
        return None
    return trace


def _as_it_is(run: Run) -> Run:
    return run


def _same(run: Run, other: Run) -> bool:
    return (run.member, run.seed) == (other.member, other.seed)
