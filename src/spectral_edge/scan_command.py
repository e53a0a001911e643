"""The verb `scan` of the command line."""

import re
import shlex
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import spectral_edge as se
from spectral_edge import experiments
from spectral_edge.errors import InputError
from spectral_edge.records import Note
from spectral_edge.terminal import EXIT_INTERRUPTED, Json, at_least, fail, print_json, program

_SCANNED = {
    "k_star_raw": "k*",
    "k_star_weighted": "k*(w)",
    "k_star_clear": "clear",
    "gap_ratio": "R",
    "cosine_ratio_max": "R norm.",
    "band_max": "band",
    "g23": "",
    "g23_normalized": "g23/trG",
    "coherence": "coher.",
    "coherence_p": "p",
    "update_norm": "norm",
}
"""What `scan` prints of each window, with its heading in the table; those without one stand in the JSON only."""

_SHORT = ("g23_normalized", "coherence_p", "update_norm")
"""Columns with three digits, so that the table fits 80 columns."""

_CELLS = 65_536

_LEGEND = (
    "R: ratio at k*; k*(w): weighted; R norm.: largest ratio of the window with updates scaled to norm one, beside "
    "the 99th percentile of noise (band); clear: its position if outside; coher.: mean cosine of updates; p: of the "
    "whitened coherence under sign flips."
)


def scan(
    source: list[str],
    *,
    window: int = 10,
    horizon: int | None = None,
    stride: int = 1,
    group: str | None = None,
    select: str | None = None,
    momentum: float | None = None,
    k_star: str = "raw",
    engine: str = "auto",
    cells: int = _CELLS,
    ladder: int = 0,
    keep_sketches: bool = False,
    steps: str | None = None,
    revisions: str | None = None,
    allow_pickle: bool = False,
    out: Path | None = None,
    report: Path | None = None,
    as_json: Json = False,
    quiet: bool = False,
) -> None:
    """Measure a series of checkpoints: files, folders, a glob, a repository on the hub, or a trace with sketches.

    Args:
        source: Folders, globs or files; steps are in the names of the files or of the folders that hold one each. Or
            hub:OWNER/NAME, or the folder of a trace that kept sketches.
        window: Updates in a window.
        horizon: Updates whose inner products are kept; twice the window times the stride by default.
        stride: Checkpoints that one update sums.
        group: A layer or a glob over parameter names; the whole model by default.
        select: Watch only parameters that match this glob, or "attention".
        momentum: The optimizer's momentum or beta1, at least 0 and below 1, for the null.
        k_star: Convention of k*: raw, weighted, restricted, abs or clear.
        engine: How updates are kept: exact, sketch, or auto, which sketches from a million parameters on.
        cells: Cells of a sketch.
        ladder: Record longer rows too: updates summed over 2, 4, ... checkpoints, so many doublings.
        keep_sketches: Keep the sketch of each checkpoint in the trace, from which rows can be recomputed.
        steps: Steps of the checkpoints in natural order, as 0,100,200; or a regular expression with one group that
            finds the step in a name.
        revisions: Branches and tags of a repository on the hub: a glob, or re: and a regular expression.
        allow_pickle: Load torch files that hold more than tensors; this runs the code inside.
        out: Folder to keep the trace in; a scan that was interrupted goes on there.
        report: HTML file to write a report to.
        as_json: Print one JSON object and nothing else.
        quiet: No progress, only the result.
    """
    at_least("--window", window, 2, "updates")
    at_least("--stride", stride, 1, "checkpoint")
    kept = 2 * window * stride if horizon is None else horizon
    if window * stride > kept:
        raise InputError(
            "--window",
            expected=f"window x stride at most the horizon of {kept}",
            found=str(window * stride),
            remedy="use a smaller window or a longer --horizon",
        )
    chosen: dict[str, Any] = {"select": select, "momentum": momentum, "engine": engine, "cells": cells}
    chosen |= {"ladder": ladder, "revisions": revisions}
    typed = _typed(source, window=window, horizon=kept, stride=stride, chosen=chosen, steps=steps, group=group)
    typed += [f"--{name}" for name, on in (("keep-sketches", keep_sketches), ("allow-pickle", allow_pickle)) if on]
    screen = Console(stderr=True)
    with _bar(screen, hidden=quiet or as_json or not screen.is_terminal) as progress:
        bar = progress.add_task("scanning", total=None, speed="")

        def shown(now: se.ScanProgress) -> None:
            seconds = progress.tasks[bar].elapsed or 0.0
            speed = f"{now.bytes / seconds / 1e9:.2f} GB/s" if seconds > 0 else ""
            progress.update(bar, completed=now.done, total=now.total, speed=speed)

        try:
            trace = se.scan(
                source[0] if len(source) == 1 else source,
                horizon=max(kept, 2),
                out=out,
                keep_sketches=keep_sketches,
                steps=_steps(steps),
                allow_pickle=allow_pickle,
                metadata={"command": shlex.join(["spectral-edge", "scan", *typed])},
                on_progress=shown,
                **chosen,
            )
        except InputError as error:
            options = {**chosen, "steps": steps, "out": out}
            raise experiments.option_named(error, options=options) from error
        except KeyboardInterrupt:
            progress.stop()
            _stopped(out, typed)
    series = trace.edge(window=window, stride=stride, group=group, k_star=k_star)
    if len(series.step) == 0:
        raise InputError(
            "source",
            expected=f"at least {window * stride + 1} snapshots for one full window",
            found=_unbroken(trace),
            remedy="use a smaller --window or --stride",
        )
    if report is not None:
        trace.report(report)
    largest = {"cosine_ratio_max": _largest(series["cosine_ratios"])}
    values = {name: largest[name] if name in largest else series[name] for name in _SCANNED}
    if as_json:
        vectors = {"sigma": [[_number("sigma", value) for value in row] for row in series["sigma"]]}
        scalars = {name: [_number(name, value) for value in column] for name, column in values.items()}
        described = {"window": window, "stride": stride, "parameters": trace.parameter_count}
        said = [{"step": note.step, "outcome": note.outcome.name, "message": note.message} for note in trace.notes]
        print_json({**described, "step": series.step.tolist(), **scalars, **vectors, "notes": said})
        return
    _print_table(series.step, values, trace.notes)


def _print_table(steps: NDArray[np.int64], values: dict[str, NDArray[np.float64]], notes: list[Note]) -> None:
    table = Table(
        "step", *(heading for heading in _SCANNED.values() if heading), box=None, pad_edge=False, collapse_padding=True
    )
    for row in range(len(steps)):
        shown = (_shown(name, values[name][row]) for name, heading in _SCANNED.items() if heading)
        table.add_row(str(steps[row]), *shown)
    console = Console(highlight=False)
    console.print(table)
    console.print(_LEGEND, style="dim")
    for note in notes:
        console.print(f"step {note.step}: {note.message}", markup=False, soft_wrap=True)


def _bar(screen: Console, *, hidden: bool) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=screen, disable=hidden, transient=True)


def _typed(source: list[str], *, chosen: dict[str, Any], **others: Any) -> list[str]:
    """What repeats the scan, with the options that matter to it."""
    given = {**others, **chosen}
    usual = {"engine": "auto", "cells": _CELLS, "ladder": 0, "window": 10, "stride": 1}
    pairs = [(name, value) for name, value in given.items() if value is not None and usual.get(name) != value]
    return [*source, *(part for name, value in pairs for part in (f"--{name}", str(value)))]


def _steps(text: str | None) -> Any:
    """Steps as the user types them: numbers with commas, or a regular expression with one group."""
    if text is None:
        return None
    if re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", text):
        return [int(part) for part in text.split(",")]
    try:
        pattern = re.compile(text)
    except re.error as error:
        pattern, found = None, str(error)
    else:
        found = f"{pattern.groups} groups"
    if pattern is None or pattern.groups != 1:
        raise InputError(
            "--steps",
            expected="0,100,200,... or a regular expression with one group",
            found=found,
            remedy=r"for instance --steps 'tokens(\d+)'",
        )

    def told(name: str) -> int:
        match = pattern.search(name)
        if match is None or not match[1].isdigit():
            raise InputError(name, expected=f"a name that matches {text}", found="none", remedy="use another --steps")
        return int(match[1])

    return told


def _stopped(out: Path | None, typed: list[str]) -> NoReturn:
    if out is None:
        fail("Stopped. Nothing was kept: with --out a scan goes on where it was.", EXIT_INTERRUPTED)
    command = shlex.join(["scan", *typed, "--out", str(out)])
    fail(f"Stopped. What was recorded is in {out}.\nGo on with: {program()} {command}", EXIT_INTERRUPTED)


def _unbroken(trace: se.Trace) -> str:
    """How many snapshots there are at most in a row, and what broke them up."""
    depth = np.isfinite(trace.lag_rows()).sum(axis=1) if len(trace.steps) else np.zeros(1, dtype=np.int64)
    broken = [note for note in trace.notes if note.outcome is not se.Outcome.RESUMED]
    if not broken:
        return f"{len(trace.steps) + 1}"
    return f"{int(depth.max()) + 1} in a row at most; step {broken[0].step}: {broken[0].message}"


def _largest(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest defined value of each row, NaN where there is none."""
    largest = np.where(np.isfinite(rows), rows, -np.inf).max(axis=1)
    return np.where(np.isfinite(largest), largest, np.nan)


def _number(name: str, value: float) -> float | int | None:
    if not np.isfinite(value):
        return None
    return int(value) if name.startswith("k_star") else float(value)


def _shown(name: str, value: float) -> str:
    number = _number(name, value)
    if number is None:
        return "-"
    return f"{number:+.3f}" if name == "coherence" else f"{number:.3g}" if name in _SHORT else f"{number:.4g}"
