"""Writes docs/performance.md from the records of the parts; whatever was not run is said to be missing."""

from collections.abc import Callable, Mapping
from typing import Any

from accuracy_page import accuracy_section
from goals import Records, against_svd, beside, figure_of, goals, results, sized
from growth import over_sizes
from markdown_lines import line, prose, table
from methods import EXACT, EXACT_LONG, READ, SVD

PARTS = ("observe", "training", "memory", "growth", "accuracy", "scan")


def page(records: Records) -> str:
    """The page.

    Args:
        records: of the parts that were run, by name.
    """
    sections: list[tuple[str, str | None, Callable[[Records], list[str]]]] = [
        ("Goals", None, _goals),
        ("One observation", "observe", _observe),
        ("Shares of training steps", "training", _training),
        ("Memory", "memory", _memory),
        ("Growth", "growth", _growth),
        ("Accuracy of the sketch", "accuracy", accuracy_section),
        ("Scanning checkpoints", "scan", _scan),
        ("How this was measured", None, _method),
    ]
    lines = ["# Performance", "", *_intro(records)]
    for title, part, section in sections:
        ran = part is None or part in records
        lines += [
            "",
            f"## {title}",
            "",
            *(section(records) if ran else [f"Not run: `python benchmarks/run.py {part}`."]),
        ]
    return "\n".join(lines) + "\n"


def _unique(records: Records, name: str) -> str:
    """A property of the machines behind the records, all of them where they differ."""
    found = dict.fromkeys(str(record["machine"][name]) for record in records.values())
    return ", ".join(found) or "unknown"


def _intro(records: Records) -> list[str]:
    def of(name: str) -> str:
        return _unique(records, name)

    lines = [
        *prose(
            "What watching costs, in time and memory, and how exact the sketch is. Written by `python "
            "benchmarks/run.py` (`make bench`) from the records in `results/benchmarks`; no figure and no verdict "
            "on this page is typed by hand."
        ),
    ]
    if records:
        lines += [
            "",
            *prose(
                f"Machine: {of('processor')}, {of('cores')} cores, {of('memory_gb')} GB of memory, "
                f"{of('threads')} thread in use, device {of('device')}; Python {of('python')}, torch {of('torch')}, "
                f"numpy {of('numpy')}, numba {of('numba')}."
            ),
        ]
    if any(record["quick"] for record in records.values()):
        lines += ["", "**Some records are of toy sizes (`--quick`) and prove nothing but that the suite runs.**"]
    return lines


def _goals(records: Records) -> list[str]:
    found = goals(records)
    rows = []
    for goal in found:
        cases = [f"{figure_of(figure)}{goal.unit} ({case})" for case, figure in goal.measured.items()]
        if len(cases) > 4:  # the extremes tell enough
            ordered = sorted(goal.measured.items(), key=lambda item: item[1])
            cases = [f"{figure_of(f)}{goal.unit} ({case})" for case, f in (ordered[0], ordered[-1])]
            cases = [" to ".join(cases)]
        text = goal.text if goal.stretch is None else f"{goal.text} (hoped for: {figure_of(goal.stretch)})"
        rows.append([text, "; ".join(cases) or "-", goal.verdict])
    lines = ["| goal | measured | verdict |", "| --- | --- | --- |", *(line(row) for row in rows)]
    missed = [goal for goal in found if goal.missed]
    if missed:
        lines += ["", "What stands in the way where a goal is missed:", ""]
        lines += [f"- {goal.text} ({', '.join(goal.missed)}): {goal.why}." for goal in missed]
    said = list(beside(records))
    return [*lines, *(["", "Beside these: " + "; ".join(said) + "."] if said else [])]


def _observe(records: Records) -> list[str]:
    entries = results(records, "observe")
    names = list(dict.fromkeys(name for entry in entries for name in entry["methods"]))
    names.sort(key=lambda name: name != READ)

    def cell(entry: Mapping[str, Any], name: str) -> str:
        found = entry["methods"].get(name)
        return f"{figure_of(found['reads'])} ({figure_of(found['ms'])} ms)" if found else "not run"

    lines = [
        *prose(
            "A whole observation is `monitor.step()` with the singular values taken from its reading: read the "
            "parameters, form the row, record it in memory. Each cell is the median over rounds of its time as a "
            "multiple of one read of the parameters in the same round, with the median time in brackets. One read "
            "is `torch.dot(x, x)` over the tensors; of bf16 parameters the same bytes are read as float32. In each "
            "round all methods take turns, each after an update of all parameters in place. W = 10; the exact "
            "engine multiplies in float64."
        ),
        "",
        *table(
            [
                "method",
                *(f"{sized(entry)}: P = {entry['parameters']:,}, {entry['tensors']} tensors" for entry in entries),
            ],
            [[name, *(cell(entry, name) for entry in entries)] for name in names],
        ),
        "",
    ]
    if any(SVD in entry["methods"] for entry in entries):
        ours = [name for name in names if name.startswith(("exact", "sketch")) and against_svd(records, name)]
        sizes = list(against_svd(records, ours[0]))
        lines += [
            *prose(
                "The baselines flatten the parameters, take the difference, stack the last ten updates and "
                "decompose them, all in float32. How many times faster than stack and `svdvals`:"
            ),
            "",
            *table(
                ["method", *sizes],
                [[name, *(figure_of(against_svd(records, name)[size]) for size in sizes)] for name in ours],
            ),
            "",
        ]
    skipped = [f"{sized(entry)}, {name}: {why}" for entry in entries for name, why in entry["skipped"].items()]
    lines += [
        *prose(
            'The histogram is `torch.histc` of each tensor. W&B-watch-like is what `wandb.watch(log="all")` '
            "computes of each parameter and gradient (finite mask, range, histogram of 64 bins, lists); nothing is "
            "sent. Neither looks at updates."
        ),
    ]
    if skipped:
        lines += ["", "Not run: " + "; ".join(skipped) + "."]
    return lines


def _training(records: Records) -> list[str]:
    entries = results(records, "training")
    names = list(dict.fromkeys(name for entry in entries for name in entry["methods"]))

    def cell(entry: Mapping[str, Any], name: str) -> str:
        found = entry["methods"].get(name)
        if found is None:
            return "not run"
        return f"{figure_of(found['percent'])} % / {figure_of(found['percent'] / 10)} % ({figure_of(found['ms'])} ms)"

    return [
        *prose(
            "Small GPTs, AdamW (fused, the fastest step that torch has), random tokens. After each step one method "
            "observes, with caches as the step left them: percent of the step's time when observing every step / "
            "every 10 steps."
        ),
        "",
        *table(
            ["method", *(f"{e['size']}, {e['tokens']:,} tokens, step {figure_of(e['step_ms'])} ms" for e in entries)],
            [[name, *(cell(entry, name) for entry in entries)] for name in names],
        ),
    ]


def _memory(records: Records) -> list[str]:
    entries = results(records, "memory")
    rows = []
    for entry in entries:
        name = f"{entry['engine']}, L = {entry['horizon']}" + (f", {entry['backend']}" if "backend" in entry else "")
        if "skipped" in entry:
            rows.append([sized(entry), name, f"not run: {entry['skipped']}", "", "", ""])
            continue
        figures = (entry["extra_peak_mb"], entry["extra_after_mb"], entry["code_mb"], entry["process_peak_mb"])
        rows.append([sized(entry), name, *(f"{figure:,.1f} MB" for figure in figures)])
    lines = [
        *prose(
            "Resident memory of a fresh process for each case: what the monitor adds to the peak between its "
            "construction and its 25th observation, and what of it remains. Code that is loaded or compiled once "
            "(numba and its compiler) is counted apart, by a first small monitor that is dropped again."
        ),
        "",
        *table(["parameters", "engine", "added to the peak", "remains", "code", "peak of the process"], rows),
    ]
    if any(not entry.get("peak_was_reset", True) for entry in entries):
        lines += ["", "The system did not let the process reset its recorded peak: the first column may be too small."]
    return lines


def _growth(records: Records) -> list[str]:
    grown, sizes = results(records, "growth"), over_sizes(results(records, "observe"))
    windows = list(next(iter(grown["ms"].values())))
    names = list(dict.fromkeys([*grown["ms"], *(name for name in sizes if name in (READ, EXACT, EXACT_LONG, SVD))]))
    rows = []
    for name in names:
        ms = grown["ms"].get(name, {})
        in_p = f"{sizes[name][0]:.2f} ({sizes[name][1]} sizes)" if name in sizes else "-"
        in_w = grown["exponents"].get(name)
        cells = [figure_of(ms[window]) + " ms" if window in ms else "-" for window in windows]
        rows.append([name, in_p, "-" if in_w is None else f"{in_w:.2f}", *cells])
    return [
        *prose(
            "Time ~ P^a W^b by least squares on logarithms: a over the sizes of the first table from 5 million "
            f"parameters on, b over W at {grown['parameters']:,} parameters with L = W."
        ),
        "",
        *table(["method", "a", "b", *(f"W = {window}" for window in windows)], rows),
    ]


def _scan(records: Records) -> list[str]:
    found = results(records, "scan")
    if "skipped" in found:
        return [f"Not run: {found['skipped']}."]
    scanned, reads = found["scan"], found["reads"]
    return [
        *prose(
            f"{found['checkpoints']} safetensors files of {found['parameters']:,} float32 values, "
            f"{found['gigabytes']:.1f} GB in all; horizon {found['horizon']}, engine {found['engine']}. Before each "
            "pass the system was asked to drop the files from its cache. Reading is plain, in pieces of 8 MB, "
            "before and after the scan."
        ),
        "",
        *table(
            ["pass", "wall", "CPU"],
            [
                *(
                    [f"reading, {when}", f"{r['wall_s']:.2f} s", f"{r['cpu_s']:.2f} s"]
                    for when, r in zip(("before", "after"), reads, strict=True)
                ),
                ["scanning", f"{scanned['wall_s']:.2f} s", f"{scanned['cpu_s']:.2f} s"],
            ],
        ),
        "",
        *prose(
            f"Reading gave {found['read_gb_per_s']:.2f} GB/s. The scan took {figure_of(found['times_reading'])} "
            f"times as long as the mean of both reads, {figure_of(found['times_fastest_reading'])} times the faster. "
            f"It added {scanned['extra_peak_mb']:,.0f} MB to the peak of resident memory."
        ),
    ]


def _method(records: Records) -> list[str]:
    rows = []
    for part in PARTS:
        if part in records:
            record = records[part]
            load = " to ".join(map(str, record["load_before_and_after"]))
            rows.append(
                [f"`{record['command']}`", record["date"], str(record["seed"]), f"{record['wall_s']:,.0f} s", load]
            )
    return [
        *prose(
            "Times are CPU times of one thread (CUDA events with `--device cuda`, which nobody has tried yet), "
            "medians over the rounds that each record states beside its quartiles. CPU time does not remove "
            "contention for memory by other jobs: the load of the machine is given, and ratios can be trusted to "
            "about a tenth."
        ),
        "",
        *table(["command", "date", "seed", "took", "load before and after"], rows),
    ]
