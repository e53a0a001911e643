"""What a claim is: words, a published figure, and the code that reduces every run and its controls to one number.

The unit is the run. A claim names one convention, one time rule and one scalar; windows of a run are never replicates.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import isfinite
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spectral_edge.claims.evidence import Evidence

SURROGATES, NO_DECAY, RANDOM_LABELS, LITTLE_DATA = "surrogates", "no decay", "random labels", "little data"
"""Classes of controls: structureless updates with the run's own norms and its optimizer's memory; the run's twin
without weight decay at the same step; runs with the same decay that make no transition, of two kinds, at the same
step."""
SAME_DECAY = (RANDOM_LABELS, LITTLE_DATA)
NO_LITTLE_DATA = ("dual", "tri", "dyck", "scan")
"""Families of whose runs no study plans one with little data."""

GROKKING_CONTROLS: Mapping[str, str] = {
    SURROGATES: "noise of the run's own norms, with its optimizer's memory, in place of its updates",
    NO_DECAY: "the twin of the same seed without weight decay, at the run's step",
    RANDOM_LABELS: "a run with the same weight decay that makes no transition, since its labels are dealt at random, "
    "at the run's step",
    LITTLE_DATA: "a run with the same weight decay that makes no transition, since its examples are too few, at the "
    "run's step; of arithmetic only",
}
"""What a claim about a transition under weight decay has to beat, and what each is."""

WEIGHTS_CONTROLS: Mapping[str, str] = {name: what for name, what in GROKKING_CONTROLS.items() if name != SURROGATES}
"""The same for a claim that reads weights, which noise in place of updates has none of."""

AR_NOISE, DRIFT_NOISE = "AR(1) noise", "drift and noise"
NOISE_ONLY: Mapping[str, str] = {
    SURROGATES: GROKKING_CONTROLS[SURROGATES],
    AR_NOISE: "noise of the run's own norms and of its own correlation between neighbouring updates",
    DRIFT_NOISE: "one fixed direction and noise, of the run's own norms and of its own cosine between distant updates",
}
"""What a claim about any run has to beat: it says more than that updates remember, or that they drift."""
FEW_DIRECTIONS = "few directions"
SPREAD_NOISE: Mapping[str, str] = {
    **NOISE_ONLY,
    FEW_DIRECTIONS: "AR(1) noise as above, in as many independent directions as the scatter of the run's cosines "
    "between distant updates tells",
}
"""What a claim about how eigenvalues spread has to beat besides: noise of few directions spreads them by itself."""


class Criterion(StrEnum):
    """Whose criterion a run meets or not."""

    PUBLISHED = "published criterion"
    READING = "criterion, our reading of what was published"
    OURS = "criterion, ours: none was published"


@dataclass(frozen=True, slots=True)
class Measured:
    """What a claim reads of one run.

    Attributes:
        name: of the run.
        value: the claim's scalar, larger where the run is more as claimed; None where it is undefined.
        passed: whether the run meets the criterion; None where that is undefined.
        statistics: what was published of a run, by name and in the published units; what is undefined is left out.
    """

    name: str
    value: float | None
    passed: bool | None = None
    statistics: Mapping[str, float] = field(default_factory=dict[str, float])

    def __post_init__(self) -> None:
        # What is read comes as NumPy's numbers as often as not; the record is JSON.
        if self.value is not None:
            object.__setattr__(self, "value", float(self.value))
        if self.passed is not None:
            object.__setattr__(self, "passed", bool(self.passed))
        known = {name: float(value) for name, value in self.statistics.items()}
        object.__setattr__(self, "statistics", {name: value for name, value in known.items() if isfinite(value)})


@dataclass(frozen=True, slots=True)
class Unit:
    """One run, and its control of each class that has one.

    Attributes:
        run: what is read of the run.
        controls: one control by class, read in the same way; no control serves two units of a claim.
    """

    run: Measured
    controls: Mapping[str, Measured] = field(default_factory=dict[str, Measured])


@dataclass(frozen=True, slots=True)
class Published:
    """What was reported.

    Attributes:
        value: in words, as published.
        source: paper and version.
        passed: how many runs of this family met the criterion; None where no count was published, or the criterion is
            another one.
        of: of how many.
    """

    value: str
    source: str
    passed: int | None = None
    of: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A statement that recorded runs can support or contradict.

    Attributes:
        id: short and stable, for instance "T5".
        title: a few words.
        statement: what is claimed.
        published: what was reported, by family; the key "" serves families without an entry of their own.
        criterion: as it is applied here to one run.
        whose: who stated it.
        corrected: what the scalar is in place of it, and why.
        convention: window, interval, parameters and which k*.
        controls: classes that the claim has to beat, with what each is.
        needs: which records it is judged on.
        would_change: what would change the verdict.
        families: what it is judged on, one verdict each.
        units: reduces the evidence of one family to units; an empty result means that nothing is recorded.
        unit: formats the scalar's name, for instance "fall of g23 / tr G".
        joint: whether the one unit is a fit over all runs, so that more runs make no more units.
        note: what the numbers cannot say.
    """

    id: str
    title: str
    statement: str
    published: Mapping[str, Published]
    criterion: str
    corrected: str
    convention: str
    controls: Mapping[str, str]
    needs: str
    would_change: str
    families: tuple[str, ...]
    units: "Callable[[Evidence, str], Sequence[Unit]]"
    unit: str
    whose: Criterion = Criterion.PUBLISHED
    joint: bool = False
    note: str = ""

    def classes(self, family: str) -> tuple[str, ...]:
        """Classes of controls that the claim has to beat on a family."""
        return tuple(name for name in self.controls if name != LITTLE_DATA or family not in NO_LITTLE_DATA)

    def published_for(self, family: str) -> Published:
        """What was reported for a family."""
        return self.published.get(family, self.published.get("", Published("nothing", "none")))
