"""Makes the ledger: judges every claim on the recorded runs, writes results/claims, docs/claims and their pictures.

python tools/make_claims.py             # after runs were recorded, or a claim was changed
python tools/make_claims.py --check     # says whether pages and record disagree, judges nothing
"""

import argparse
import json
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch

import spectral_edge
from experiment_pages.words import filled
from spectral_edge.claims import (
    GROKKING_CONTROLS,
    NO_DECAY,
    RECORD,
    SAME_DECAY,
    Claim,
    Criterion,
    Entry,
    Evidence,
    Ledger,
    Spread,
    Verdict,
    load_claims,
)
from spectral_edge.claims.candidates import CANDIDATES, search
from spectral_edge.claims.evidence import GROKKING
from spectral_edge.claims.next_run import QUANTITIES, bank, told
from spectral_edge.claims.onset import TRACKS, onset, relief

ROOT = Path(__file__).parents[1]
DOCS, PICTURES = ROOT / "docs", ROOT / "docs" / "images" / "claims"
RESULTS = ROOT / "results"
SEARCH, ONSETS, NEXT, SYNTHETIC = (
    RESULTS / "claims" / f"{name}.json" for name in ("search", "onsets", "next", "synthetic")
)
ORDER = [str(verdict) for verdict in Verdict]
CHAPTERS = {
    "H": "Headlines of the abstract",
    "T": "Predictions of the thesis",
    "S": "Predictions on language models",
    "M": "Predictions on grokking",
    "X": "Further published numbers",
    "N": "What holds instead",
}
Line = Mapping[str, Any]
AHEAD = (0.1, 0.2, 0.3, 0.4, 0.5)
"""Shares of the steps up to a transition at which it is told which run is next."""
_FALLEN = "test loss a tenth below its peak for good"
_SHORT = {
    Criterion.PUBLISHED: "published criterion",
    Criterion.READING: "criterion",
    Criterion.OURS: "criterion, which is ours",
}


def record(entries: Sequence[Entry]) -> dict[str, Any]:
    """The ledger as it is recorded."""
    return {
        "command": "python tools/make_claims.py",
        "ledger": [entry.to_json() for entry in entries],
        "versions": {
            "python": platform.python_version(),
            "spectral-edge": spectral_edge.__version__,
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "torch": torch.__version__,
        },
    }


def pages(lines: Sequence[Line], claims: Sequence[Claim]) -> dict[Path, str]:
    """Every page of the ledger, from its record.

    Args:
        lines: of the record.
        claims: the catalogue.
    """
    of = {claim.id: [line for line in lines if line["id"] == claim.id] for claim in claims}
    made = {DOCS / "claims.md": _overview(claims, of)}
    for claim in claims:
        made[DOCS / "claims" / f"{claim.id.lower()}.md"] = _page(claim, of[claim.id])
    for name, blocks in (
        ("held-out.md", {"onsets": _onsets, "next": _next, "search": _search}),
        ("rules.md", {"synthetic": _synthetic}),
    ):
        path = DOCS / "claims" / name
        made[path] = filled(path.read_text(encoding="utf-8"), blocks)
    return made


def searched(evidence: Evidence) -> dict[str, Any]:
    """Wins of every candidate on the development pairs, by family and class of controls."""
    numbers: dict[str, Any] = {}
    for family in GROKKING:
        found: dict[str, Any] = {}
        for name, units in search(evidence, family).items():
            found[name] = {}
            for control in GROKKING_CONTROLS:
                pairs = [(u.run.value, u.controls[control].value) for u in units if control in u.controls]
                known = [(run, other) for run, other in pairs if run is not None and other is not None]
                found[name][control] = [sum(run > other for run, other in known), len(known)]
        numbers[family] = found
    return {"command": "python tools/make_claims.py", "numbers": numbers}


def onsets(evidence: Evidence) -> dict[str, Any]:
    """From how many steps before its transition on each quantity of a run stands above a control of each class."""
    numbers: dict[str, Any] = {}
    for family in GROKKING:
        pairs = evidence.yoked(family)
        falls = sorted(steps for pair in pairs if (steps := relief(pair.run, pair.step)) is not None)
        numbers[family] = {"runs": len(pairs), _FALLEN: falls, "quantities": {}}
        for name, track in TRACKS.items():
            numbers[family]["quantities"][name] = {}
            for control in (NO_DECAY, *SAME_DECAY):
                found = [
                    onset(evidence, pair.run, pair.step, pair.controls[control], track)
                    for pair in pairs
                    if control in pair.controls
                ]
                known = [one for one in found if one is not None]
                numbers[family]["quantities"][name][control] = {
                    "pairs": len(known),
                    "steps": sorted(one.steps for one in known if one.steps is not None),
                    "whole": sum(one.whole for one in known),
                }
    return {"command": "python tools/make_claims.py", "numbers": numbers}


def _onsets() -> list[str]:
    """Onsets, those of a family below each other."""
    numbers = _numbers(ONSETS)
    if numbers is None:
        return ["Nothing is recorded yet."]
    rows = [
        [family, name, *(_apart(found[control]) for control in found)]
        for family, of in numbers.items()
        for name, found in of["quantities"].items()
        if any(one["pairs"] for one in found.values())
    ]
    falls = [
        f"- {family}: {_FALLEN}, {_median(of[_FALLEN])} steps before the transition, in {len(of[_FALLEN])} of "
        f"{of['runs']} runs, without a look at any control."
        for family, of in numbers.items()
        if of[_FALLEN]
    ]
    head = ["family", "quantity", *(f"above {kind}" for kind in (NO_DECAY, *SAME_DECAY))]
    return [*_table(head, rows).splitlines(), "", *falls]


def _apart(found: Mapping[str, Any]) -> str:
    """In how many pairs, from how many steps before on, and in how many of them from the first reading on."""
    if not found["pairs"]:
        return "–"
    whole = f"; {found['whole']} throughout" if found["whole"] else ""
    since = f": {_median(found['steps'])}{whole}" if found["steps"] else ""
    return f"{len(found['steps'])} of {found['pairs']}{since}"


def _median(values: Sequence[int]) -> str:
    around = f" ({min(values):,} to {max(values):,})" if max(values) > min(values) else ""
    return f"{np.median(values):,.0f}{around}"


def next_runs(evidence: Evidence) -> dict[str, Any]:
    """In how many transitions each quantity tells which run is next, on the runs it was found on and on the bank."""
    groups = {
        f"{family}, {source}": runs
        for family in ("arithmetic", "dyck")
        for source, runs in (
            ("published size", evidence.study("grokking", family=family, role="run")),
            ("the bank's half", bank(evidence, family)),
        )
        if runs
    }
    numbers = {
        group: {name: {f"{share:g}": told(evidence, runs, name, ahead=share) for share in AHEAD} for name in QUANTITIES}
        for group, runs in groups.items()
    }
    return {"command": "python tools/make_claims.py", "numbers": numbers}


def _next() -> list[str]:
    """Quantities that tell which run is next, those of a group below each other."""
    numbers = _numbers(NEXT)
    if numbers is None:
        return ["Nothing is recorded yet."]
    rows = [
        [group, name, *(f"{wins} of {pairs}" if pairs else "–" for wins, pairs in by.values())]
        for group, found in numbers.items()
        for name, by in found.items()
    ]
    return _table(["runs", "larger in the next", *(f"{share:g} ahead" for share in AHEAD)], rows).splitlines()


def _search() -> list[str]:
    """The candidates, those of a family below each other."""
    numbers = _numbers(SEARCH)
    if numbers is None:
        return ["Nothing is recorded yet."]
    rows = [
        [family, name, *(f"{wins} of {pairs}" if pairs else "–" for wins, pairs in found[name].values())]
        for family, found in numbers.items()
        for name in CANDIDATES
        if name in found and any(pairs for _, pairs in found[name].values())
    ]
    return _table(["family", "candidate", *GROKKING_CONTROLS], rows).splitlines()


def _synthetic() -> list[str]:
    """What synthetic ledgers confirm."""
    numbers = _numbers(SYNTHETIC)
    if numbers is None:
        return ["Nothing is recorded yet."]
    rows = [
        [
            kind,
            f"{of['confirm anything']} of {of['ledgers']}",
            f"{of['confirm anything by the scalar alone']} of {of['ledgers']}",
        ]
        for kind, of in numbers["kinds"].items()
    ]
    planted = list(numbers["kinds"])[-1]
    by = numbers["kinds"][planted]["by claim"]
    true = [
        f"{name} {by[name]['confirmed']} ({by[name]['by the scalar alone']})"
        for name in numbers["true by construction"]
    ]
    lines = _table(["runs", "ledgers that confirm anything", "by the scalar alone"], rows).splitlines()
    return [
        f"{numbers['kinds'][planted]['ledgers']} ledgers of {numbers['runs of a ledger']} runs each, drawn from "
        f"{numbers['pool']} synthetic pairs of each kind; {numbers['claims']} claims, of which those that read "
        f"traces apply.",
        "",
        *lines,
        "",
        f"In the last row a direction sets in before the transition, in runs only. Of the claims that this makes "
        f"true of their "
        f"scalar, ledgers confirm, and in brackets would confirm by the scalar alone: {', '.join(true)}. Where the "
        f"first number "
        "is 0, noise meets the published criterion too often.",
        "",
        "With wins and passes planted (97 % of runs, 20 % of controls) a ledger confirms "
        f"{100 * numbers['share of claims that a planted ledger confirms']:.0f} % of the claims that have controls.",
    ]


def _numbers(path: Path) -> Mapping[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8"))["numbers"] if path.is_file() else None


def _overview(claims: Sequence[Claim], of: Mapping[str, Sequence[Line]]) -> str:
    lines = [line for some in of.values() for line in some]
    counts = {verdict: sum(line["verdict"] == verdict for line in lines) for verdict in ORDER}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    parts = [
        "# The ledger of claims",
        "Made by `python tools/make_claims.py` from recorded runs; `spectral-edge claims` judges them again.",
        f"{len(claims)} claims in {len(lines)} lines, one for each family of runs that a claim is about: {told}. "
        "The [rules](claims/rules.md) say what was fixed before which runs were read, and what was changed after. "
        "*Not testable here* means that no run is recorded in which the claim is defined.",
        "![Verdict of each claim on each family of runs](images/claims/ledger.png)",
    ]
    parts.append(
        "What was searched for beyond the published statistics is on [What holds instead](claims/held-out.md); how "
        "to add a claim on "
        "[A claim of your own](claims/your-own.md)."
    )
    for letter, title in CHAPTERS.items():
        chapter = [claim for claim in claims if claim.id.startswith(letter)]
        if chapter:
            rows = [[f"[{c.id}](claims/{c.id.lower()}.md)", c.title, _verdicts(of[c.id])] for c in chapter]
            parts += [f"## {title}", _table(["", "claim", "verdicts"], rows)]
    return "\n\n".join(parts) + "\n"


def _verdicts(lines: Sequence[Line]) -> str:
    by = {verdict: [line["family"] for line in lines if line["verdict"] == verdict] for verdict in ORDER}
    return "; ".join(f"**{verdict}**: {', '.join(names)}" for verdict, names in by.items() if names)


def _page(claim: Claim, lines: Sequence[Line]) -> str:
    rows = [
        [
            line["family"],
            f"**{line['verdict']}**",
            line["published"],
            line["measured"],
            _interval(line["interval"]),
        ]
        for line in lines
    ]
    parts = [
        f"# {claim.id}: {claim.title}",
        claim.statement,
        "## The verdict",
        _table(["family", "verdict", "published", "measured", "95 % of the pass rate"], rows),
    ]
    told = _statistics(claim, lines)
    if any(line["runs"] and line["measured"] != "nothing recorded" for line in lines):
        parts += [_reasons(lines)]
        if claim.unit and (PICTURES / f"{claim.id.lower()}.png").is_file():
            parts += [
                f"![{claim.unit} of runs and of their controls](../images/claims/{claim.id.lower()}.png)",
                f"A filled dot meets the {_SHORT[claim.whose]}, an empty one does not, a pale one has none. Thin lines "
                "join a run and its control. Where two panels stand side by side, the left one has the published "
                "statistic and the right one what is asked here.",
            ]
        parts += [_against(claim, lines), told]
    parts += [
        "## What is asked",
        _table(
            ["", ""],
            [
                [str(claim.whose), claim.criterion],
                ["asked here", claim.corrected],
                ["convention", claim.convention],
                *([f"control: {name}", words] for name, words in claim.controls.items()),
                ["evidence", claim.needs],
                ["source", "; ".join(dict.fromkeys(published.source for published in claim.published.values()))],
            ],
        ),
        "## What would change our mind",
        _sentence(claim.would_change),
    ]
    if claim.note:
        parts += ["## What the numbers cannot say", claim.note]
    return "\n\n".join(part for part in parts if part) + "\n"


def _reasons(lines: Sequence[Line]) -> str:
    told: list[str] = []
    for line in lines:
        if not line["runs"]:
            continue
        text = f"- {line['family']}: {line['because']}."
        if line["verdict"] == str(Verdict.INCONCLUSIVE):
            text += _power(line)
        if line["scalar_verdict"] != line["verdict"] and line["scalar_verdict"] != str(Verdict.NOT_TESTABLE):
            text += f" By the scalar alone it would be *{line['scalar_verdict']}*."
        told.append(text)
    return "\n".join(told)


def _power(line: Line) -> str:
    needed = line["runs_to_decide"]
    if line["power"] is None:
        return "" if needed is None else f" {needed} runs of which none meets the criterion would refute it."
    if needed is None:
        return ""
    return (
        f" What was run confirms with a probability of {line['power']:.2f} if P(run > control) is "
        f"{line['alternative']}; {needed} runs with all controls would do so with one of at least 0.8."
    )


def _against(claim: Claim, lines: Sequence[Line]) -> str:
    rows: list[list[str]] = []
    for line in lines:
        for name, found in line["controls"].items():
            if found["pairs"] or found["passed"]:
                wins = f"{found['wins']} of {found['pairs']}" if found["pairs"] else "–"
                passed = found["passed"]
                rows.append(
                    [
                        line["family"],
                        name,
                        wins,
                        _interval(found["interval"]),
                        f"{found['e_value']:.3g}",
                        "–"
                        if passed is None
                        else f"{passed['count']} of {passed['of']} {_interval(passed['interval'])}",
                        "–" if found["measured"] is None else f"{found['measured']:.3g}",
                    ]
                )
    if not rows:
        return ""
    head = [
        "family",
        "controls",
        "run above control",
        "95 %",
        "e-value",
        "controls that meet the criterion",
        claim.unit,
    ]
    return _table(head, rows)


def _statistics(claim: Claim, lines: Sequence[Line]) -> str:
    """The published statistics here: of the runs, and of each class of controls."""
    rows = [
        [line["family"], name, _spread(found)]
        + [_spread(line["controls"].get(control, {}).get("statistics", {}).get(name)) for control in claim.controls]
        for line in lines
        for name, found in line["statistics"].items()
    ]
    if not rows:
        return ""
    head = ["family", "as published: median (least to largest)", "runs", *claim.controls]
    return _table(head, rows)


def _spread(found: Mapping[str, float] | None) -> str:
    return "–" if found is None else str(Spread(**found))  # pyright: ignore[reportArgumentType]


def _interval(ends: Sequence[float] | None) -> str:
    return "–" if ends is None else f"[{ends[0]:.2f}, {ends[1]:.2f}]"


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(
        f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *[[_cell(c) for c in r] for r in rows]]
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("k*", "k\\*")


def out_of_date(lines: Sequence[Line], claims: Sequence[Claim]) -> list[str]:
    """Pages that are not those of the record, and pages of claims that are gone."""
    made = pages(lines, claims)
    stale = [path for path, text in made.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    gone = [path for path in (DOCS / "claims").glob("*.md") if path not in made and path.name != "your-own.md"]
    return [path.relative_to(ROOT).as_posix() for path in (*stale, *gone)]


def recorded() -> list[Line]:
    """The lines of the record."""
    return json.loads((RESULTS / RECORD).read_text(encoding="utf-8"))["ledger"]


def main() -> None:
    """Judges, writes and draws, or checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is out of date")
    options = parser.parse_args()
    claims = load_claims()
    if options.check:
        stale = out_of_date(recorded(), claims)
        if stale:
            sys.exit(f"out of date: {', '.join(stale)}; run: python tools/make_claims.py")
        return
    from spectral_edge.plots import claim_figure, ledger_figure

    entries: list[Entry] = []
    evidence = Evidence(RESULTS)
    for entry in Ledger(evidence, claims).entries():
        print(f"{entry.claim.id:4} {entry.family:20} {entry.judgement.verdict}", flush=True)
        entries.append(entry)
    (RESULTS / RECORD).parent.mkdir(parents=True, exist_ok=True)
    (RESULTS / RECORD).write_text(json.dumps(record(entries), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    for path, found in ((SEARCH, searched(evidence)), (ONSETS, onsets(evidence)), (NEXT, next_runs(evidence))):
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    PICTURES.mkdir(parents=True, exist_ok=True)
    for old in PICTURES.glob("*.png"):
        old.unlink()
    ledger_figure(entries).savefig(PICTURES / "ledger.png")
    for claim in claims:
        figure = claim_figure([entry for entry in entries if entry.claim.id == claim.id])
        if figure is not None:
            figure.savefig(PICTURES / f"{claim.id.lower()}.png")
    (DOCS / "claims").mkdir(parents=True, exist_ok=True)
    for path, text in pages(recorded(), claims).items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
