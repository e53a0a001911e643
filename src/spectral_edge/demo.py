"""The demonstration: a run that groks and its yoked control, trained side by side and watched live."""

import multiprocessing
import os
import signal
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import SpawnProcess
from multiprocessing.queues import Queue
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from spectral_edge import experiments
from spectral_edge.errors import RunError

_REFRESH = 0.2
"""Seconds between two messages of a run, and between two drawings."""
_QUANTITIES = ("k_star_raw", "k_star_weighted", "gap_ratio", "g23", "coherence")
_METRICS = ("train_accuracy", "test_accuracy")


@dataclass(slots=True)
class _View:
    """What the parent knows of one run."""

    steps: int
    step: int = 0
    values: dict[str, float | None] = field(default_factory=dict[str, float | None])
    done: bool = False
    error: str | None = None
    interrupted: bool = False


def train_together(
    configs: Mapping[str, experiments.RunConfig], out: Path, *, console: Console, quiet: bool, command: str
) -> dict[str, dict[str, Any]]:
    """Trains several runs in parallel processes of one thread each, with a live view.

    Args:
        configs: configurations by the name of the run, which is its folder's too.
        out: the folder that holds them.
        console: where the view is drawn.
        quiet: draw nothing.
        command: what repeats the runs, recorded with each.

    Returns:
        Each run's result as plain values.

    Raises:
        KeyboardInterrupt: on Ctrl-C, after every run has saved itself.
        RunError: if a run failed.
    """
    context = multiprocessing.get_context("spawn")
    queue: Queue[tuple[str, str, Any]] = context.Queue()
    views = {name: _View(config.steps) for name, config in configs.items()}
    processes = [
        context.Process(target=_train, args=(name, config, out / name, command, queue), daemon=False)
        for name, config in configs.items()
    ]
    results: dict[str, dict[str, Any]] = {}
    with _forwarding(processes) as interrupted, _drawing(console, views, quiet=quiet) as draw:
        for process in processes:
            process.start()
        while not all(view.done for view in views.values()):
            _drain(queue, views, results)
            draw()
            for (_, view), process in zip(views.items(), processes, strict=True):
                if not process.is_alive() and not view.done and queue.empty():
                    view.done, view.error = True, view.error or f"the process ended with code {process.exitcode}"
        draw()
    for process in processes:
        process.join()
    if interrupted or any(view.interrupted for view in views.values()):
        raise KeyboardInterrupt
    for name, view in views.items():
        if view.error is not None:
            raise RunError(
                f"run {name}",
                expected="a finished run",
                found=view.error,
                remedy="fix the cause and start again; what was recorded is kept",
            )
    return results


def _drain(queue: "Queue[tuple[str, str, Any]]", views: Mapping[str, _View], results: dict[str, Any]) -> None:
    """Takes in what the runs have sent, waiting for a moment for the first message."""
    deadline = time.monotonic() + _REFRESH
    while (left := deadline - time.monotonic()) > 0:
        try:
            name, kind, content = queue.get(timeout=left)
        except Exception:  # an empty queue, or one whose writer was killed
            return
        view = views[name]
        if kind == "progress":
            view.step = content.pop("step")
            view.values.update(content)
            continue
        view.done = True
        if kind == "result":
            results[name], view.step = content, view.steps
        elif kind == "error":
            view.error = content
        else:
            view.interrupted = True


def _train(name: str, config: experiments.RunConfig, folder: Path, command: str, queue: Any) -> None:
    """One run in its own process: its own process group, so that only the parent passes Ctrl-C on, once."""
    import torch

    if hasattr(os, "setpgrp"):
        os.setpgrp()
    torch.set_num_threads(1)
    parent, last = os.getppid(), 0.0

    def report(progress: experiments.Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < _REFRESH and progress.step < progress.steps:
            return
        last = now
        if os.getppid() != parent:  # the parent was killed: save and end rather than train unseen
            raise KeyboardInterrupt
        content: dict[str, Any] = {"step": progress.step, **{n: progress.metrics.get(n) for n in _METRICS}}
        if progress.reading is not None:
            content |= {quantity: progress.reading[quantity] for quantity in _QUANTITIES}
        queue.put((name, "progress", content))

    try:
        result = experiments.run(config, folder, on_progress=report, command=command)
    except KeyboardInterrupt:
        queue.put((name, "interrupted", None))
    except Exception as error:
        queue.put((name, "error", f"{type(error).__name__}: {error}"))
    else:
        from dataclasses import asdict

        queue.put((name, "result", asdict(result)))


@contextmanager
def _forwarding(processes: list[SpawnProcess]) -> Generator[list[bool]]:
    """Passes Ctrl-C on to the runs, each of which finishes its step, saves itself and ends."""
    seen: list[bool] = []

    def forward(number: int, frame: FrameType | None) -> None:
        seen.append(True)
        for process in processes:
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, signal.SIGINT)

    previous = signal.signal(signal.SIGINT, forward)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def _drawing(console: Console, views: Mapping[str, _View], *, quiet: bool) -> Generator[Any]:
    """A function that draws the runs as they stand: live in a terminal, a line now and then elsewhere."""
    if quiet:
        yield lambda: None
        return
    bars = Progress(
        TextColumn("{task.description:>8}"),
        BarColumn(bar_width=32),
        TextColumn("{task.completed}/{task.total} steps"),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=console,
    )
    tasks = {name: bars.add_task(name, total=view.steps) for name, view in views.items()}
    if not console.is_terminal:
        yield _plain(console, views)
        return
    with Live(console=console, refresh_per_second=4, transient=False) as live:

        def draw() -> None:
            for name, view in views.items():
                bars.update(tasks[name], completed=view.step)
            live.update(Group(bars, _table(views)))

        yield draw


def _plain(console: Console, views: Mapping[str, _View]) -> Any:
    said = dict.fromkeys(views, -1)

    def draw() -> None:
        for name, view in views.items():
            tenth = 10 * view.step // view.steps
            if tenth > said[name]:
                said[name] = tenth
                accuracy = view.values.get("test_accuracy")
                shown = f", test accuracy {accuracy:.3f}" if accuracy is not None else ""
                console.print(f"{name}: {view.step}/{view.steps} steps{shown}", highlight=False)

    return draw


def _table(views: Mapping[str, _View]) -> Table:
    table = Table(box=None, pad_edge=False)
    headings = ("", "k* raw", "k* weighted", "gap ratio", "g23", "coherence", "train acc.", "test acc.")
    for heading in headings:
        table.add_column(heading, justify="right")
    for name, view in views.items():
        value = view.values
        cells = [_cell(value.get(key), "d") for key in _QUANTITIES[:2]]
        cells += [_cell(value.get("gap_ratio"), ".3f"), _cell(value.get("g23"), ".2e")]
        cells += [_cell(value.get("coherence"), "+.3f"), *(_cell(value.get(key), ".3f") for key in _METRICS)]
        table.add_row(name, *cells)
    return table


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(int(value) if form == "d" else value, form)
