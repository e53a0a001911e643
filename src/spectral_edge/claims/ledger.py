"""The ledger itself: every claim on every family that it covers, judged by the same rules."""

import importlib
import importlib.util
import json
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from spectral_edge.claims import catalog
from spectral_edge.claims.claim import Claim, Published, Unit
from spectral_edge.claims.evidence import Evidence
from spectral_edge.claims.rules import ALTERNATIVE, Judgement, Rate, Verdict, judge
from spectral_edge.errors import InputError

RECORD = "claims/ledger.json"
"""Where verdicts are recorded among the results."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some numbers with the least and the largest of them.

    Attributes:
        median: of them.
        least: of them.
        largest: of them.
        of: how many.
    """

    median: float
    least: float
    largest: float
    of: int

    def __str__(self) -> str:
        around = "" if self.least == self.largest else f" ({self.least:.3g} to {self.largest:.3g})"
        return f"{self.median:.3g}{around}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger.

    Attributes:
        claim: what is claimed.
        family: on which runs.
        published: what was reported for this family.
        units: what was measured.
        judgement: the verdict and what led to it.
    """

    claim: Claim
    family: str
    published: Published
    units: tuple[Unit, ...]
    judgement: Judgement

    @property
    def middle(self) -> float | None:
        """The median of the runs' scalars."""
        values = [unit.run.value for unit in self.units if unit.run.value is not None]
        return median(values) if values else None

    def middle_of(self, name: str) -> float | None:
        """The median of the scalars of one class of controls."""
        found = [unit.controls[name].value for unit in self.units if name in unit.controls]
        values = [value for value in found if value is not None]
        return median(values) if values else None

    @property
    def measured(self) -> str:
        """What came out, in words: how many meet the criterion, and the published statistics, else the scalar."""
        passed, parts = self.judgement.passed, list[str]()
        if passed is not None:
            parts.append(f"{passed.count} of {passed.of}")
        parts += [f"{name} {found}" for name, found in self.statistics().items()]
        if self.middle is not None and not self.statistics():
            parts.append(f"{self.claim.unit} {self.middle:.3g}")
        return ", ".join(parts) or "nothing recorded"

    def statistics(self, control: str | None = None) -> dict[str, "Spread"]:
        """The published statistics of the runs, or of one class of their controls, by name."""
        read = [unit.run if control is None else unit.controls.get(control) for unit in self.units]
        found: dict[str, list[float]] = {}
        for one in read:
            for name, value in {} if one is None else one.statistics.items():
                found.setdefault(name, []).append(value)
        return {name: Spread(median(values), min(values), max(values), len(values)) for name, values in found.items()}

    def to_json(self) -> dict[str, Any]:
        """The line as plain values."""
        judgement = self.judgement
        return {
            "id": self.claim.id,
            "family": self.family,
            "title": self.claim.title,
            "verdict": str(judgement.verdict),
            "because": judgement.because,
            "scalar_verdict": str(judgement.scalar),
            "published": self.published.value,
            "measured": self.measured,
            "interval": None if judgement.passed is None else list(judgement.passed.interval),
            "statistics": {name: asdict(found) for name, found in self.statistics().items()},
            "runs": len(self.units),
            "controls": {name: self._against(name) for name in self.claim.classes(self.family)},
            "null": judgement.because if judgement.verdict is Verdict.NOT_DISCRIMINATING else None,
            "power": judgement.power,
            "alternative": ALTERNATIVE,
            "runs_to_decide": judgement.needed,
            "evidence": [unit.run.name for unit in self.units],
        }

    def _against(self, name: str) -> dict[str, Any]:
        tally = self.judgement.tallies[name]
        return {
            "pairs": 0 if tally.wins is None else tally.wins.of,
            "wins": None if tally.wins is None else tally.wins.count,
            "interval": None if tally.wins is None else list(tally.wins.interval),
            "e_value": tally.e_value,
            "passed": _counted(tally.passed),
            "measured": self.middle_of(name),
            "statistics": {key: asdict(found) for key, found in self.statistics(name).items()},
        }


class Ledger:
    """Claims, and the evidence that they are judged on.

    Args:
        evidence: what is recorded.
        claims: the claims; those of the catalogue by default.
    """

    def __init__(self, evidence: Evidence, claims: Sequence[Claim] | None = None) -> None:
        self.evidence = evidence
        self.claims = tuple(load_claims() if claims is None else claims)

    def lines(self, *, claim: str | None = None, family: str | None = None) -> list[tuple[Claim, str]]:
        """Claims and families, in the order of the ledger; see `chosen`."""
        return chosen(self.claims, claim=claim, family=family)

    def entries(self, *, claim: str | None = None, family: str | None = None) -> Iterator[Entry]:
        """Judges the lines that are asked for, one at a time; see `lines`."""
        for one, name in self.lines(claim=claim, family=family):
            yield self.judged(one, name)

    def judged(self, claim: Claim, family: str) -> Entry:
        """One line."""
        units = tuple(claim.units(self.evidence, family))
        published, classes = claim.published_for(family), claim.classes(family)
        found = judge(units, classes=classes, published=published, claims=len(self.claims), joint=claim.joint)
        return Entry(claim, family, published, units, found)


def chosen(claims: Sequence[Claim], *, claim: str | None = None, family: str | None = None) -> list[tuple[Claim, str]]:
    """Claims and families that are asked for, in the order of the ledger.

    Args:
        claims: all of them.
        claim: the id of one; None takes all.
        family: one family; None takes all.

    Raises:
        InputError: if no claim has the id, or none of those asked for covers the family.
    """
    some = [one for one in claims if claim is None or one.id.casefold() == claim.casefold()]
    if not some:
        known = ", ".join(one.id for one in claims)
        raise InputError("claim", expected=f"one of {known}", found=repr(claim), remedy="see spectral-edge claims")
    families = list(dict.fromkeys(name for one in some for name in one.families))
    if family is not None and family not in families:
        raise InputError(
            "family", expected=f"one of {', '.join(families)}", found=repr(family), remedy="leave it out for all"
        )
    return [(one, name) for one in some for name in one.families if family in (None, name)]


def load_claims(*files: Path) -> list[Claim]:
    """The claims of the catalogue, and those of the user's own files.

    Args:
        files: Python files, run as they are, each with a `CLAIM`.

    Raises:
        InputError: if a file is none, has no claim, or uses an id that is taken.
    """
    found: dict[str, Claim] = {}
    for module in sorted(module.name for module in pkgutil.iter_modules(catalog.__path__)):
        claim: Claim = importlib.import_module(f"{catalog.__name__}.{module}").CLAIM
        found[claim.id] = claim
    for file in files:
        claim = _from_file(file)
        if claim.id in found:
            raise InputError(f"claim of {file}", expected="a new id", found=claim.id, remedy="choose another id")
        found[claim.id] = claim
    return sorted(found.values(), key=lambda claim: (_CHAPTERS.find(claim.id[0]), claim.id))


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is on record for one claim and family.

    Attributes:
        verdict: in words.
        runs: how many it was judged on.
    """

    verdict: str
    runs: int


def recorded_lines(results: Path) -> dict[tuple[str, str], Recorded]:
    """The record of each claim and family; empty where none is there.

    Raises:
        InputError: if the record cannot be read.
    """
    path = results / RECORD
    if not path.is_file():
        return {}
    try:
        lines = json.loads(path.read_text(encoding="utf-8"))["ledger"]
        return {(line["id"], line["family"]): Recorded(line["verdict"], line["runs"]) for line in lines}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"record of verdicts {path}",
            expected="the ledger as make claims writes it",
            found="something else",
            remedy="make it again with: make claims",
        ) from error


_CHAPTERS = "HTSMXN"
"""Order of the ledger: headlines of the abstract, thesis, spectral dynamics, grokking, extra rows, new claims."""


def _from_file(file: Path) -> Claim:
    spec = importlib.util.spec_from_file_location(f"claim_{file.stem}", file) if file.suffix == ".py" else None
    if spec is None or spec.loader is None or not file.is_file():
        raise InputError("file of a claim", expected="a Python file", found=str(file), remedy="check the path")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(
            f"file of a claim {file}",
            expected="Python that runs",
            found=f"{type(error).__name__}: {error}",
            remedy="mend it; docs/claims/your-own.md has one that runs",
        ) from error
    claim = getattr(module, "CLAIM", None)
    if not isinstance(claim, Claim):
        raise InputError(
            f"file of a claim {file}",
            expected="a variable CLAIM of type spectral_edge.claims.Claim",
            found="none",
            remedy="see docs/claims/your-own.md",
        )
    return claim


def _counted(rate: Rate | None) -> Mapping[str, Any] | None:
    return None if rate is None else {"count": rate.count, "of": rate.of, "interval": list(rate.interval)}
