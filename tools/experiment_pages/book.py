"""Everything that pages are made from: records, readings of traces, published numbers."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiment_pages.readings import GROKKING
from experiment_pages.records import BANKS, Run, Study, arm

Reading = Mapping[str, Any]

PUBLISHED = Path(__file__).parents[1] / "published.json"


@dataclass(frozen=True)
class Statistic:
    """A number that is read of a run and of its control at the same step.

    Attributes:
        title: what the tables call it.
        convention: how the trace is read.
        name: field of the reading; a decline stands for its fold.
        multiplies: whether it is compared as a ratio, like a fold, or as a difference.
    """

    title: str
    convention: str
    name: str
    multiplies: bool = True

    def of(self, readings: Reading) -> float | None:
        """Its value in the readings of one run."""
        value = readings.get(self.convention, {}).get(self.name)
        return value.get("fold") if isinstance(value, Mapping) else value


DECLINES = (
    Statistic("g23, published windows", "published", "g23"),
    Statistic("g23, growing windows too", "published", "g23_growing"),
    Statistic("g23, median of the last W windows", "published", "g23_settled"),
    Statistic("g23 / tr G", "published", "g23_normalized"),
    Statistic("tr G", "published", "gram_trace"),
    Statistic("g23, windows of single observations", "every observation", "g23"),
    Statistic("g23, whole model", "whole model", "g23"),
)
COHERENCE = Statistic("coherence", "published", "coherence", multiplies=False)
STATES = (
    Statistic("R at the weighted k*", "published", "ratio", multiplies=False),
    COHERENCE,
    Statistic("share of windows outside the band", "published", "outside", multiplies=False),
)


@dataclass(frozen=True)
class Pair:
    """A run that made its transition and its control at the same step.

    Attributes:
        run: the run.
        control: its control.
        of_run: readings of the run by convention.
        of_control: readings of the control.
    """

    run: Run
    control: Run
    of_run: Reading
    of_control: Reading


@dataclass(frozen=True)
class Book:
    """What pages are made from.

    Attributes:
        studies: those with a manifest, by name.
        readings: study to run to convention to reading.
        published: the content of published.json.
    """

    studies: Mapping[str, Study]
    readings: Mapping[str, Mapping[str, Any]]
    published: Mapping[str, Any]

    @property
    def at_size(self) -> list[Study]:
        """The studies whose runs are of the families' sizes."""
        return [study for name, study in self.studies.items() if name not in BANKS]

    def reading(self, run: Run) -> Reading:
        """Every reading of a run by convention, empty where there is none."""
        return self.readings.get(run.study, {}).get(run.name, {}).get("readings", {})

    def planned(self, study: str, *families: str) -> list[Run]:
        """The planned runs of some families in a study, recorded or not."""
        found = self.studies.get(study)
        return [] if found is None else [run for run in found.runs.values() if run.family in families]

    def recorded(self, study: str, *families: str) -> list[Run]:
        """The recorded ones."""
        return [run for run in self.planned(study, *families) if run.result is not None]

    def pairs(self, *families: str, study: str = "grokking") -> list[Pair]:
        """Recorded pairs of a study whose run made its transition."""
        found = self.studies.get(study)
        if found is None:
            return []
        return [
            Pair(run, control, self.reading(run), self.reading(control))
            for run, control in found.pairs(*families)
            if run.grok("first_95") is not None
        ]

    def same_decay(self) -> dict[str, list[Pair]]:
        """By arm: runs that made their transition beside those of the same decay, operation and seed that did not."""
        runs = {(run.family, run.member, run.seed): run for run in self.runs_with_decay(*GROKKING)}
        found: dict[str, list[Pair]] = {}
        for other in self.studies["same-decay"].recorded if "same-decay" in self.studies else []:
            run = runs.get((other.family, other.member, other.seed))
            if other.role == "same-decay" and run is not None and run.grok("first_95") is not None:
                found.setdefault(arm(other), []).append(Pair(run, other, self.reading(run), self.reading(other)))
        return found

    def without_decay(self) -> dict[str, list[Pair]]:
        """By arm: runs that made their transition without decay beside controls without decay that did not."""
        controls = {
            (run.family, run.member, run.seed): run
            for run in self.recorded("grokking", *GROKKING)
            if run.role == "control"
        }
        found: dict[str, list[Pair]] = {}
        for run in self.studies["same-decay"].recorded if "same-decay" in self.studies else []:
            control = controls.get((run.family, run.member, run.seed))
            reading = self.reading(run)
            if run.role == "grok-without-decay" and control is not None and "control" in reading:
                found.setdefault(arm(run), []).append(Pair(run, control, reading, {"published": reading["control"]}))
        return found

    def runs_with_decay(self, *families: str, study: str = "grokking") -> list[Run]:
        """Recorded runs of a study that are no controls."""
        return [run for run in self.recorded(study, *families) if run.role == "run"]


def both(pairs: Sequence[Pair], statistic: Statistic) -> list[tuple[float, float]]:
    """A statistic of run and control, for the pairs in which both have it."""
    found = [(statistic.of(pair.of_run), statistic.of(pair.of_control)) for pair in pairs]
    return [(run, control) for run, control in found if run is not None and control is not None]


def published() -> dict[str, Any]:
    """The published numbers."""
    return json.loads(PUBLISHED.read_text(encoding="utf-8"))


def by_member(runs: Sequence[Run], key: Callable[[Run], str] = lambda run: run.member) -> dict[str, list[Run]]:
    """Runs by operation or family, in order of appearance."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(key(run), []).append(run)
    return found
