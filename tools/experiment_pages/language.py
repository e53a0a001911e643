"""Tables of the language models: k* by optimizer and interval, and what a shift changes beside a sham."""

from collections.abc import Sequence
from typing import Any

from experiment_pages import intervals
from experiment_pages.book import Book
from experiment_pages.records import Run, arm
from experiment_pages.walks import CONVENTIONS
from experiment_pages.words import NOTHING, estimate, number, percents, table


def positions(book: Book, study: str) -> list[str]:
    """Where k* stands in the runs of every optimizer at every interval, beside memory alone."""
    rows = []
    for optimizer, runs in _by_optimizer(book, study).items():
        read = [book.reading(run) for run in runs]
        for interval in sorted({name for found in read for name in found}, key=int):
            walks = [found[interval] for found in read if interval in found]
            cells = [_place(walks, convention) for convention in CONVENTIONS]
            outside = intervals.mean_share([walk["outside"] for walk in walks if walk["outside"] is not None])
            coherence = intervals.mean([walk["coherence"] for walk in walks if walk["coherence"] is not None])
            last = (estimate(outside, percents), estimate(coherence, _two))
            rows.append([f"{optimizer}, {interval} steps", str(len(walks)), *cells, *last])
    head = ["optimizer, interval", "runs", *(f"k* {name}" for name in CONVENTIONS), "outside the band", "coherence"]
    return table(head, rows) if rows else [NOTHING]


def _by_optimizer(book: Book, study: str) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for run in book.studies[study].recorded if study in book.studies else []:
        if "optimizer" in run.config["task"]:
            found.setdefault(run.config["task"]["optimizer"], []).append(run)
    return found


def _place(walks: Sequence[Any], convention: str) -> str:
    """The commonest position with its share over runs, and its share under memory alone."""
    shares = [walk["k_star"][convention] for walk in walks]
    totals: dict[str, float] = {}
    for share in shares:
        for position, value in share.items():
            totals[position] = totals.get(position, 0.0) + value / len(shares)
    if not totals:
        return "undefined"
    best = max(totals, key=totals.__getitem__)
    null = [walk["memory_alone"][convention].get(best, 0.0) for walk in walks if walk["memory_alone"]]
    beside = f", memory alone {percents(sum(null) / len(null))}" if null else ""
    return f"{best} in {estimate(intervals.mean_share([share.get(best, 0.0) for share in shares]), percents)}{beside}"


def around_shift(book: Book) -> list[str]:
    """What changes at the step of the shift, with the shift and with a sham, by interval."""
    runs = book.studies["shift"].recorded if "shift" in book.studies else []
    rows = []
    read = [(bool(run.config["task"].get("sham")), book.reading(run)) for run in runs]
    for interval in sorted({name for _, found in read for name in found}, key=int):
        changes = [(sham, found[interval].get("around", {})) for sham, found in read if interval in found]
        for name in dict.fromkeys(name for _, change in changes for name in change):
            real, shams = (
                [change[name] for sham, change in changes if sham is which and name in change]
                for which in (False, True)
            )
            cells = [estimate(found, _two) for found in (intervals.mean(real), intervals.mean(shams))]
            rows.append([f"{name}, {interval} steps", *cells, estimate(intervals.difference(real, shams), _two)])
    head = ["change at the step", "shift", "sham", "shift minus sham"]
    return table(head, rows) if rows else [NOTHING]


def around_perturbation(book: Book, study: str) -> list[str]:
    """What changes where a perturbation begins, less what changes in the twin at the same step, by arm.

    Runs that are held out for judging alarms are left out.
    """
    planned = book.studies.get(study)
    changes: dict[str, dict[str, list[float]]] = {}
    for run in planned.recorded if planned else []:
        twin = planned.runs.get(run.twin or "")
        if twin is None or run.half == "held-out":
            continue
        own, other = (next(iter(book.reading(each).values()), {}).get("around", {}) for each in (run, twin))
        for name in own.keys() & other.keys():
            changes.setdefault(arm(run), {}).setdefault(name, []).append(own[name] - other[name])
    names = sorted({name for found in changes.values() for name in found})
    rows = [
        [label, *(estimate(intervals.mean(found.get(name, [])), _two) for name in names)]
        for label, found in changes.items()
    ]
    return table(["arm", *names], rows) if rows else [NOTHING]


def _two(value: float) -> str:
    return number(value, 2)
