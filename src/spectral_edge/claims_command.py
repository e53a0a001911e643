"""The verb `claims` of the command line: the ledger in a table, beside the verdicts that are recorded."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from spectral_edge.claims import Entry, Evidence, Ledger, Recorded, Verdict, load_claims, recorded_lines
from spectral_edge.claims.ledger import chosen
from spectral_edge.study_command import study
from spectral_edge.terminal import COLUMNS, EXIT_FAILED, Json, fail, print_json

COLOURS = {
    Verdict.CONFIRMED: "green",
    Verdict.NOT_DISCRIMINATING: "yellow",
    Verdict.REFUTED: "red",
    Verdict.INCONCLUSIVE: "default",
    Verdict.NOT_TESTABLE: "bright_black",
}
FRESH = Path("runs/claims")
"""Where runs that are trained for a ledger lie; those that are there already are not trained again."""
Known = dict[tuple[str, str], Recorded]
"""The record, by claim and family."""
Claim = Annotated[str | None, Parameter(help="One claim by its id, for instance T5; all by default.")]


def claims(
    *,
    claim: Claim = None,
    family: str | None = None,
    results: Path = Path("results"),
    file: list[Path] | None = None,
    fresh: bool = False,
    as_json: Json = False,
    quiet: bool = False,
) -> None:
    """Judge the published predictions on what is recorded, and compare with the recorded verdicts.

    Ends with 0 where every verdict is the recorded one, with 1 where one differs.

    Args:
        claim: Claim.
        family: One family of runs; all by default.
        results: Folder of the recorded studies.
        file: A Python file with a claim of your own, which is run; repeatable.
        fresh: Train two small pairs now, in runs/claims, and judge on these alone; no verdict is compared.
        as_json: Print one JSON list and nothing else.
        quiet: Print nothing; the exit code tells.
    """
    catalogue = load_claims(*(file or []))
    lines = chosen(catalogue, claim=claim, family=family)
    if fresh:
        results = FRESH
        study("fresh", out=FRESH / "grokking", quiet=quiet or as_json)
    ledger = Ledger(Evidence(results), catalogue)
    console = Console(quiet=quiet or as_json, highlight=False)
    found: list[Entry] = []
    with Progress(*COLUMNS, console=console, transient=True) as progress:
        for one, name in progress.track(lines, description="judging"):
            found.append(ledger.judged(one, name))
    known = {} if fresh else recorded_lines(results)
    different = [] if fresh else [entry for entry in found if _before(entry, known) != entry.judgement.verdict]
    if as_json:
        print_json([entry.to_json() for entry in found])
    else:
        console.print(_table(found))
        console.print(_summary(found), markup=False, soft_wrap=True)
        if claim is not None and found:
            console.print(_told(found), markup=False, soft_wrap=True)
        for line in _on_other_runs(found, known):
            console.print(line, markup=False, soft_wrap=True)
    if different:
        if quiet:
            sys.exit(EXIT_FAILED)
        fail("\n".join(_differs(entry, known) for entry in different), EXIT_FAILED)


def _table(entries: list[Entry]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("id", "family", "verdict", "published", "measured"):
        table.add_column(heading, overflow="fold")
    for entry in entries:
        verdict = entry.judgement.verdict
        style = COLOURS[verdict]
        table.add_row(
            entry.claim.id, entry.family, f"[{style}]{verdict}[/{style}]", entry.published.value, entry.measured
        )
    return table


def _summary(entries: list[Entry]) -> str:
    counts = {verdict: sum(entry.judgement.verdict is verdict for entry in entries) for verdict in Verdict}
    return "\n" + ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)


def _told(entries: list[Entry]) -> str:
    """One claim in full, and why each of its verdicts."""
    claim = entries[0].claim
    lines = [
        f"\n{claim.id}: {claim.title}",
        f"  statement   {claim.statement}",
        f"  criterion   {claim.criterion} ({claim.whose})",
        f"  instead     {claim.corrected}",
        f"  convention  {claim.convention}",
        *(f"  control     {name}: {words}" for name, words in claim.controls.items()),
        f"  needs       {claim.needs}",
    ]
    for entry in entries:
        judgement = entry.judgement
        lines += [f"\n{entry.family}: {judgement.verdict}", f"  because     {judgement.because}"]
        if judgement.power is not None:
            lines.append(f"  power       {judgement.power:.2f} with what was run")
        if judgement.needed is not None:
            lines.append(f"  would do    {judgement.needed} runs, each with its controls")
    return "\n".join(lines)


def _before(entry: Entry, known: Known) -> str:
    line = known.get((entry.claim.id, entry.family))
    return "no verdict" if line is None else line.verdict


def _differs(entry: Entry, known: Known) -> str:
    return f"{entry.claim.id}, {entry.family}: {entry.judgement.verdict}, recorded {_before(entry, known)}"


def _on_other_runs(entries: list[Entry], known: Known) -> list[str]:
    """Verdicts that stand, but not on as many runs as the recorded ones: runs came or went since."""
    said: list[str] = []
    for entry in entries:
        line, runs = known.get((entry.claim.id, entry.family)), len(entry.units)
        if line is not None and line.verdict == entry.judgement.verdict and line.runs != runs:
            said.append(f"{entry.claim.id}, {entry.family}: same verdict, runs {runs}, recorded {line.runs}")
    return said
