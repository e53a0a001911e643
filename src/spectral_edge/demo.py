"""The demonstration: a run that groks and its yoked control, trained side by side and watched live."""

import multiprocessing
import os
import signal
import time
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from spectral_edge import experiments, open_trace
from spectral_edge.errors import RunError, SpectralEdgeError, warn

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
    result: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Child:
    """One run's process, and the parent's end of the pipe to it: all that the two share, so neither can block both."""

    view: _View
    process: SpawnProcess
    pipe: "Connection[Any, Any]"

    def stop(self) -> None:
        """Asks the run to finish its step, save itself and end."""
        try:
            self.pipe.send("stop")
        except OSError:  # it has ended already
            return


def train_together(
    configs: Mapping[str, experiments.RunConfig], out: Path, *, console: Console, quiet: bool, command: str
) -> dict[str, dict[str, Any]]:
    """Trains several runs in parallel processes of one thread each, with a live view.

    The first Ctrl-C asks the runs to save themselves and end, a second one ends them at once. When one run fails the
    others save themselves and end too.

    Args:
        configs: configurations by the name of the run, which is its folder's too.
        out: the folder that holds them.
        console: where the view is drawn.
        quiet: draw nothing.
        command: what repeats the runs, recorded with each.

    Returns:
        Each run's result as plain values.

    Raises:
        InputError: if a folder holds a run of other settings or cannot be written; nothing is started then.
        KeyboardInterrupt: on Ctrl-C, after every run has saved itself.
        RunError: if a run failed.
    """
    for name, config in configs.items():
        experiments.check_folder(config, out / name)
        console.print(f"{name}: {config.steps:,} steps of {config.family}, weight decay {config.weight_decay:g}")
    views = {name: _View(config.steps) for name, config in configs.items()}
    children: dict[str, _Child] = {}
    with _counting() as presses, _drawing(console, views, quiet=quiet) as draw:
        try:
            for name, config in configs.items():
                children[name] = _start(views[name], (name, config, out / name, command))
            _follow(children, presses, draw)
        finally:
            for child in children.values():
                child.pipe.close()  # a run that still trains sees it, saves itself and ends
            for child in children.values():
                child.process.join()
    if presses:
        raise KeyboardInterrupt
    for name, view in views.items():
        if view.error is not None:
            raise RunError(
                f"run {name}",
                expected="a finished run",
                found=view.error,
                remedy="fix the cause and start again: it goes on from what was saved",
            )
    return {name: view.result for name, view in views.items() if view.result is not None}


def write_pair(out: Path, title: str) -> tuple[Path, list[str]]:
    """Writes the report of the two runs.

    Args:
        out: the folder that holds `run` and `control`.
        title: the report's title.

    Returns:
        The page, and its sentences.
    """
    from spectral_edge.report import headline

    run, control = open_trace(out / "run"), open_trace(out / "control")
    return run.report(out / "report.html", control=control, title=title), headline(run, control)


def recorded(folder: Path) -> bool:
    """Whether a folder holds a trace with a window in it, and so something to report on."""
    try:
        trace = open_trace(folder)
        return len(trace.edge(window=int(trace.metadata["monitor"]["window"])).step) > 0
    except (SpectralEdgeError, OSError):
        return False


def _start(view: _View, arguments: tuple[str, experiments.RunConfig, Path, str]) -> _Child:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_train, args=(*arguments, theirs), daemon=False)
    # Ctrl-C in a terminal goes to every process; a child inherits that it is ignored, from its first instant on.
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, previous)
    theirs.close()  # so that the pipe ends when the child does
    return _Child(view, process, ours)


def _follow(children: Mapping[str, _Child], presses: list[bool], draw: Any) -> None:
    """Takes in what the runs send until every one has ended."""
    asked = False
    while open_ := {child.pipe: (name, child) for name, child in children.items() if not child.view.done}:
        for pipe in wait(list(open_), timeout=_REFRESH):
            name, child = open_[pipe]  # type: ignore[index]
            try:
                _take(name, child.view, child.pipe.recv())
            except (EOFError, OSError):
                child.process.join()
                child.view.done, child.view.error = True, _ending(child.process.exitcode)
        draw()
        if not asked and (presses or any(child.view.error for child in children.values())):
            asked = True
            for child in children.values():
                child.stop()
        if len(presses) > 1:
            for child in children.values():
                child.process.kill()


def _take(name: str, view: _View, message: tuple[str, Any]) -> None:
    kind, content = message
    if kind == "progress":
        view.step = content.pop("step")
        view.values.update(content)
    elif kind == "warning":
        warn(f"{name}: {content}")
    else:
        view.done = True
        if kind == "result":
            view.result, view.step = content, view.steps
        elif kind == "error":
            view.error = content


def _ending(code: int | None) -> str:
    return f"a process killed by signal {-code}" if code is not None and code < 0 else f"a process ended by code {code}"


def _train(name: str, config: experiments.RunConfig, folder: Path, command: str, pipe: "Connection[Any, Any]") -> None:
    """One run in its own process and process group; only what the parent says over the pipe ends it early."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    torch.set_num_threads(1)
    last = 0.0

    def tell(kind: str, content: Any) -> None:
        try:
            pipe.send((kind, content))
        except OSError:  # the parent is gone, which `check` notices
            return

    def told(message: Warning | str, *_: Any) -> None:
        tell("warning", str(message))

    def check() -> None:
        # Anything to read is the parent's "stop", or its end: save and end rather than train unseen.
        try:
            stop = pipe.poll()
        except OSError:
            stop = True
        if stop:
            raise KeyboardInterrupt

    def report(progress: experiments.Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < _REFRESH and progress.step < progress.steps:
            return
        last = now
        content: dict[str, Any] = {"step": progress.step, **{n: progress.metrics.get(n) for n in _METRICS}}
        if progress.reading is not None:
            content |= {quantity: progress.reading[quantity] for quantity in _QUANTITIES}
        tell("progress", content)
        check()

    warnings.showwarning = told
    try:
        check()
        tell("result", asdict(experiments.run(config, folder, on_progress=report, command=command)))
    except KeyboardInterrupt:
        tell("interrupted", None)
    except Exception as error:
        tell("error", f"{type(error).__name__}: {error}")


@contextmanager
def _counting() -> Generator[list[bool]]:
    """A list that grows with every Ctrl-C, which does nothing else."""
    seen: list[bool] = []

    def count(number: int, frame: FrameType | None) -> None:
        seen.append(True)

    previous = signal.signal(signal.SIGINT, count)
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
