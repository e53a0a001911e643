"""What a study runs: a question, and the runs whose results answer it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from math import ceil

from spectral_edge.errors import InputError
from spectral_edge.experiments import RunConfig
from spectral_edge.experiments.config import require_choice

HALVES = ("development", "held-out")
"""Runs on which alarms may be tuned, and those on which they are judged."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One run of a study.

    Attributes:
        name: its folder's name, unlike any other's in the study.
        config: what to run.
        role: what it is in the study's design, for instance "run" or "control".
        twin: the run that it is compared with; where given, it trains as many steps as that one did and `longer` more.
        longer: share of the twin's steps to add.
        half: "development" or "held-out", where the study keeps runs apart on which nothing is tuned.
    """

    name: str
    config: RunConfig
    role: str = "run"
    twin: str | None = None
    longer: float = 0.5
    half: str = ""

    def __post_init__(self) -> None:
        require_choice("half", self.half, ("", *HALVES))

    def resolved(self, twin_steps: int | None) -> RunConfig:
        """The configuration, once the number of its twin's steps is known; rounded up to whole evaluations."""
        if self.twin is None or twin_steps is None:
            return self.config
        every = self.config.eval_every
        return replace(self.config, steps=ceil(twin_steps * (1 + self.longer) / every) * every)


@dataclass(frozen=True)
class Study:
    """A named set of runs.

    Attributes:
        name: as the command line knows it.
        question: what it is to decide.
        runs: in the order in which they are started.
        whole: every run of the study, where `runs` are some of them; nothing where they are all.
    """

    name: str
    question: str
    runs: tuple[Planned, ...]
    whole: tuple[Planned, ...] = ()

    def __post_init__(self) -> None:
        names = [planned.name for planned in self.runs]
        double = next((name for name in names if names.count(name) > 1), None)
        if double is not None:
            raise InputError(
                f"study {self.name}", expected="runs of different names", found=f"{double} twice", remedy="rename one"
            )
        known: set[str] = set()
        for planned in self.runs:
            if planned.twin is not None and planned.twin not in known:
                raise InputError(
                    f"run {planned.name} of study {self.name}",
                    expected="a twin that comes before it",
                    found=planned.twin,
                    remedy="list the twin first",
                )
            known.add(planned.name)

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that its runs ask for."""
        return tuple(sorted({planned.config.device for planned in self.runs}))

    def some(self, patterns: Iterable[str]) -> "Study":
        """The runs whose names match any of the globs, with the twins that they need.

        Raises:
            InputError: if a pattern matches none.
        """
        by_name: Mapping[str, Planned] = {planned.name: planned for planned in self.runs}
        wanted: set[str] = set()
        for pattern in patterns:
            found = [name for name in by_name if fnmatchcase(name, pattern)]
            if not found:
                raise InputError(
                    f"runs of study {self.name}",
                    expected="a glob that matches a run",
                    found=repr(pattern),
                    remedy=f"names look like {self.runs[0].name}",
                )
            wanted.update(found)
        for name in list(wanted):
            twin = by_name[name].twin
            while twin is not None:
                wanted.add(twin)
                twin = by_name[twin].twin
        runs = tuple(planned for planned in self.runs if planned.name in wanted)
        return replace(self, runs=runs, whole=self.whole or self.runs)
