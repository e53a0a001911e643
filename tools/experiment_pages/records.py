"""What is recorded: studies, their runs, and what became of each."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STUDIES = {
    "grokking": "The runs with and without weight decay of all families, each run with a control.",
    "same-decay": "Runs that have the same weight decay and do not make the transition.",
    "fault-bank": "What goes wrong in real training, put into healthy runs at a known step.",
    "null-bank": "Runs without and with a transition, for calibrating alarms.",
    "optimizers": "Story models under AdamW, SGD and Muon.",
    "shift": "Language models whose data change, and those whose data do not.",
    "interventions": "Runs in which weight decay or the gradient is changed on purpose.",
    "gpu": "SCAN, stories and shift at the published sizes, for whoever has a GPU.",
}
"""Every study that this chapter reports, recorded or not."""


@dataclass(frozen=True)
class Run:
    """One planned run of a study.

    Attributes:
        study: its name.
        name: of the run.
        role: in the study's design, for instance "run" or "control".
        twin: name of the run that it is compared with.
        half: "development", "held-out" or nothing.
        config: the planned configuration.
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
        for path in sorted([self.folder / "result.json", *self.folder.glob("trace/**/*")]):
            if path.is_file():
                digest.update(path.relative_to(self.folder).as_posix().encode() + path.read_bytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Study:
    """A study as its manifest plans it.

    Attributes:
        name: of the study.
        question: what it is to decide.
        runs: every planned run by name.
    """

    name: str
    question: str
    runs: Mapping[str, Run]

    @property
    def recorded(self) -> list[Run]:
        """The runs with a result."""
        return [run for run in self.runs.values() if run.result is not None]

    def family(self, *names: str) -> list[Run]:
        """The recorded runs of some families."""
        return [run for run in self.recorded if run.family in names]

    def pairs(self, *families: str) -> Iterator[tuple[Run, Run]]:
        """Recorded runs with their recorded controls, in the order of the plan."""
        for control in self.recorded:
            twin = self.runs.get(control.twin or "")
            if twin is not None and twin.result is not None and twin.family in families:
                yield twin, control


def arm(run: Run) -> str:
    """What a run has in common with those that differ from it in nothing but the seed: its name without the seed."""
    return "-".join(part for part in run.name.split("-") if part != str(run.seed))


def load(results: Path) -> dict[str, Study]:
    """Every study that has a manifest, by name.

    Args:
        results: folder of the studies' folders.
    """
    found: dict[str, Study] = {}
    for name in STUDIES:
        manifest = results / name / "study.json"
        if manifest.is_file():
            found[name] = _study(name, manifest)
    return found


def _study(name: str, manifest: Path) -> Study:
    plain = json.loads(manifest.read_text(encoding="utf-8"))
    runs: dict[str, Run] = {}
    for run, planned in plain["runs"].items():
        folder = manifest.parent / run
        result = folder / "result.json"
        content = json.loads(result.read_text(encoding="utf-8")) if result.is_file() else None
        runs[run] = Run(
            study=name,
            name=run,
            role=planned["role"],
            twin=planned["twin"],
            half=planned.get("half", ""),
            config=planned["config"] if content is None else content["config"],
            folder=folder,
            result=content,
        )
    return Study(name, plain["question"], runs)
