"""What lies in the folders of studies: which runs were planned, and what became of those that are recorded."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spectral_edge.errors import InputError, warn
from spectral_edge.experiments.folder import TRACE
from spectral_edge.studies.progress import RESULT, read_json, recorded
from spectral_edge.studies.work import MANIFEST


@dataclass(frozen=True, eq=False)
class RecordedRun:
    """One planned run of a study.

    Attributes:
        study: its name.
        name: of the run.
        role: in the study's design, for instance "run" or "control".
        twin: name of the run that it is compared with.
        half: "development", "held-out" or nothing.
        config: the recorded configuration, else the planned one.
        folder: where it is recorded.
        result: the content of its result.json, None where it is not recorded.
    """

    study: str
    name: str
    role: str
    twin: str | None
    half: str
    config: Mapping[str, Any]
    folder: Path
    result: Mapping[str, Any] | None

    @property
    def family(self) -> str:
        """Name of the family."""
        return self.config["family"]

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.config["seed"]

    @property
    def member(self) -> str:
        """What tells runs of one family apart besides seed and role: the operation of arithmetic, else the family."""
        return self.config["task"].get("operation", self.family)

    def grok(self, criterion: str) -> int | None:
        """The step under a criterion, None where it was not met or the run is not recorded."""
        return None if self.result is None else self.result["grok"].get(criterion)

    def final(self, metric: str) -> float | None:
        """The last value of a metric."""
        return None if self.result is None else self.result["final_metrics"].get(metric)

    def fingerprint(self) -> str:
        """A digest of everything that is recorded of the run."""
        digest = hashlib.sha256()
        for path in sorted([self.folder / RESULT, *self.folder.glob(f"{TRACE}/**/*")]):
            if path.is_file():
                digest.update(path.relative_to(self.folder).as_posix().encode() + path.read_bytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class RecordedStudy:
    """A study as its manifest plans it.

    Attributes:
        name: of the study.
        question: what it is to decide.
        runs: every planned run by name.
    """

    name: str
    question: str
    runs: Mapping[str, RecordedRun]

    @property
    def recorded(self) -> list[RecordedRun]:
        """The runs with a result."""
        return [run for run in self.runs.values() if run.result is not None]

    def family(self, *names: str) -> list[RecordedRun]:
        """The recorded runs of some families."""
        return [run for run in self.recorded if run.family in names]

    def pairs(self, *families: str) -> Iterator[tuple[RecordedRun, RecordedRun]]:
        """Recorded runs with their recorded controls, in the order of the plan."""
        for control in self.recorded:
            twin = self.runs.get(control.twin or "")
            if twin is not None and twin.result is not None and twin.family in families:
                yield twin, control


def recorded_studies(results: Path) -> dict[str, RecordedStudy]:
    """Every study that has a manifest, by name. A result that cannot be read is warned of and counts as not recorded.

    Args:
        results: folder of the studies' folders.

    Raises:
        InputError: if a manifest cannot be read.
    """
    return {path.parent.name: _study(path) for path in sorted(results.glob(f"*/{MANIFEST}"))}


def _study(manifest: Path) -> RecordedStudy:
    plan, name = read_json(manifest), manifest.parent.name
    if plan is None or not {"question", "runs"} <= plan.keys():
        raise InputError(
            f"manifest {manifest}",
            expected="a JSON object with the question and the runs of a study",
            found="something else",
            remedy=f"have it written again: spectral-edge study {name} --out {manifest.parent}",
        )
    runs: dict[str, RecordedRun] = {}
    for run, planned in plan["runs"].items():
        folder = manifest.parent / run
        result = folder / RESULT
        content = read_json(result)
        if result.is_file() and recorded(folder) is None:
            warn(f"{result} is damaged; run {run} of study {name} counts as not recorded")
            content = None
        runs[run] = RecordedRun(
            study=name,
            name=run,
            role=planned["role"],
            twin=planned["twin"],
            half=planned.get("half", ""),
            config=planned["config"] if content is None else content["config"],
            folder=folder,
            result=content,
        )
    return RecordedStudy(name, plan["question"], runs)
