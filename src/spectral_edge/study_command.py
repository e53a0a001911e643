"""The verb `study` of the command line: the plan of a study, its cost, and its runs under way."""

import shlex
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from spectral_edge.errors import InputError
from spectral_edge.studies import EXECUTORS, STUDIES, Cost, State, Study, costs, open_pool, states, work
from spectral_edge.terminal import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_UNFINISHED,
    Json,
    above_zero,
    at_least,
    fail,
    print_json,
    program,
    terminated,
)

Name = Annotated[str, Parameter(help=f"Study: {', '.join(STUDIES)}.")]
Executor = Annotated[str, Parameter(help=f"Where to run: {', '.join(EXECUTORS)}. The last two need the extra cluster.")]

_SAY_EVERY, _ESTIMATE_EVERY = 60.0, 10.0
"""Seconds between two lines where there is no terminal to draw in, unless a run begins or ends; and between two
estimates of the time that is left, which takes much longer than drawing it."""


def study(
    name: Name,
    *,
    only: list[str] | None = None,
    out: Path | None = None,
    workers: int = 2,
    threads: int = 1,
    executor: Executor = "processes",
    hours: float = 24.0,
    partition: str | None = None,
    minutes: float | None = None,
    dry_run: bool = False,
    as_json: Json = False,
    quiet: bool = False,
) -> None:
    """Work a study off: what is recorded is not run again, and what was interrupted goes on.

    Args:
        name: Study.
        only: Runs whose names match this glob, and the twins that they need; repeatable.
        out: The study's folder; results/NAME by default.
        workers: Runs at a time.
        threads: Threads that torch uses in each; numbers and speed differ with it, and the studies are for one.
        executor: Where to run.
        hours: Time limit of a job of the extra cluster; a run that it cuts off goes on in another one.
        partition: Partition of SLURM.
        minutes: Work so long at most, then have the runs under way save themselves and end.
        dry_run: Show the plan, its cost and what is recorded, and start nothing.
        as_json: Print one JSON object and nothing else.
        quiet: No progress, only the result.
    """
    for option, value in (("--workers", workers), ("--threads", threads)):
        at_least(option, value, 1)
    for option, value in (("--hours", hours), ("--minutes", minutes)):
        above_zero(option, value)
    plan = _chosen(name, only)
    folder = out or Path("results") / name
    console = Console(quiet=quiet or as_json, highlight=False)
    found = states(plan, folder)
    if dry_run:
        if as_json:
            print_json(_told(plan, folder, found))
        else:
            console.print(_table(plan, folder, found))
            told = Console(highlight=False)  # also with --quiet: it is the result
            told.print(_summary(plan, folder, found, workers), markup=False, soft_wrap=True)
        return
    typed = ["study", name, *(part for glob in only or [] for part in ("--only", glob)), "--out", str(folder)]
    typed += ["--workers", str(workers), "--threads", str(threads), "--executor", executor]
    typed += ["--hours", f"{hours:g}"] if executor != "processes" else []
    typed += ["--partition", partition] if partition is not None else []
    gpus = _gpus_needed(plan, found, executor)
    pool = open_pool(
        executor,
        workers=workers,
        threads=threads,
        logs=folder / "logs",
        hours=hours,
        partition=partition,
        gpus=gpus,
    )
    again = f"Go on with: {program()} {shlex.join(typed)}"
    try:
        with terminated(), _drawing(console, plan, folder, workers) as draw:
            found = work(
                plan,
                folder,
                pool,
                command=shlex.join(["spectral-edge", *typed]),
                on_change=draw,
                minutes=minutes,
            )
    except KeyboardInterrupt:
        fail(f"Stopped: {_counted(states(plan, folder))}.\n{again}", EXIT_INTERRUPTED)
    if as_json:
        print_json(_told(plan, folder, found))
    else:
        if any(state.status != "done" for state in found):
            console.print(_table(plan, folder, [state for state in found if state.status != "done"]))
        console.print(_summary(plan, folder, found, workers), markup=False, soft_wrap=True)
    failed = sum(state.status == "failed" for state in found)
    if failed:
        fail(f"error: {failed} of {len(found)} runs failed; failure.txt in the folder of each says more", EXIT_FAILED)
    if any(state.status != "done" for state in found):
        fail(f"The time is up.\n{again}", EXIT_UNFINISHED)


def _chosen(name: str, only: list[str] | None) -> Study:
    if name not in STUDIES:
        raise InputError("NAME", expected=f"one of {', '.join(STUDIES)}", found=repr(name), remedy="choose one")
    plan = STUDIES[name]()
    if only:
        try:
            plan = plan.some(only)
        except InputError as error:
            raise InputError("--only", expected=error.expected, found=error.found, remedy=error.remedy) from error
    return plan


def _gpus_needed(plan: Study, found: list[State], executor: str) -> int:
    """How many GPUs a run needs; refuses a study that this machine cannot run."""
    left = [run for run, state in zip(plan.runs, found, strict=True) if state.status != "done"]
    wanted = [run for run in left if run.config.device != "cpu"]
    if wanted and executor != "slurm":
        try:
            wanted[0].config.check_device()
        except InputError as error:
            remedy = "start it where there is one, or with --executor slurm"
            raise InputError(
                f"run {wanted[0].name}", expected=error.expected, found=error.found, remedy=remedy
            ) from error
    return int(bool(wanted))


@contextmanager
def _drawing(console: Console, plan: Study, folder: Path, workers: int) -> Generator[Callable[[list[State]], None]]:
    """A function that draws where the runs stand: live in a terminal, a line now and then elsewhere."""
    if console.quiet:
        yield lambda found: None
        return
    if not console.is_terminal:
        yield _plain(console, plan, folder, workers)
        return
    columns = (TextColumn(plan.name), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    bars = Progress(*columns, console=console)
    bar = bars.add_task("", total=len(plan.runs))
    eta, estimated = "", 0.0
    with Live(console=console, refresh_per_second=2) as live:

        def draw(found: list[State]) -> None:
            nonlocal eta, estimated
            if time.monotonic() - estimated > _ESTIMATE_EVERY:
                eta, estimated = _eta(costs(plan, folder, found), workers), time.monotonic()
            count = Counter(state.status for state in found)
            bars.update(bar, completed=count["done"], description=f"{count['failed']} failed, ETA {eta}")
            under_way = Table(box=None, pad_edge=False)
            for heading in ("running", "steps", "", "minutes"):
                under_way.add_column(heading, justify="left" if heading == "running" else "right")
            for state in found:
                if state.status == "running":
                    share = f"{100 * state.step / state.steps:.0f} %"
                    steps = f"{state.step:,}/{state.steps:,}"
                    under_way.add_row(state.name, steps, share, f"{state.seconds / 60:.1f}")
            live.update(Group(bars, under_way))

        yield draw


def _plain(console: Console, plan: Study, folder: Path, workers: int) -> Callable[[list[State]], None]:
    said, before = 0.0, dict[str, str]()

    def draw(found: list[State]) -> None:
        nonlocal said, before
        now = {state.name: state.status for state in found}
        if now == before and time.monotonic() - said < _SAY_EVERY:
            return
        said, before = time.monotonic(), now
        running = ", ".join(f"{s.name} {s.step:,}/{s.steps:,}" for s in found if s.status == "running")
        eta = _eta(costs(plan, folder, found), workers)
        under_way = f" ({running})" if running else ""
        console.print(f"{_counted(found)}{under_way}; ETA {eta}", markup=False, soft_wrap=True)

    return draw


def _table(plan: Study, folder: Path, shown: list[State]) -> Table:
    """Where runs stand; the steps of one that has not ended are those that it will have taken."""
    known = costs(plan, folder, states(plan, folder))
    table = Table(box=None, pad_edge=False)
    for heading in ("run", "role", "status", "steps", "minutes left", "grok"):
        right = heading in ("steps", "minutes left", "grok")
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for state in shown:
        cost = known[state.name]
        steps = f"{'at most ' if cost.at_most else ''}{cost.steps:,}"
        left = "?" if cost.seconds is None else f"{cost.seconds / 60:.1f}" if cost.seconds else ""
        grok = "" if state.grok is None else f"{state.grok:,}"
        table.add_row(state.name, state.role, state.status, steps, left, grok)
    return table


def _summary(plan: Study, folder: Path, found: list[State], workers: int) -> str:
    known = costs(plan, folder, found)
    left = [cost for cost in known.values() if cost.seconds != 0]
    lines = [f"{state.name}: {state.note}" for state in found if state.status == "failed"]
    lines += [f"{plan.name}: {plan.question}", f"{len(found)} runs in {folder}: {_counted(found)}."]
    timed = [cost for cost in left if cost.seconds is not None]
    if timed:
        seconds = sum(cost.seconds or 0.0 for cost in timed)
        most = "at most " if any(cost.at_most for cost in timed) else ""
        sources = {True: "runs recorded here", False: "the seconds a step of an idle machine"}
        where = " and ".join(sources[measured] for measured in sorted({cost.measured for cost in timed}))
        lines.append(f"Left: {most}{seconds / 3600:.1f} core-hours, {_eta(known, workers)} with {workers} workers,")
        lines[-1] += f" estimated from {where}."
    if len(timed) < len(left):
        lines.append(f"{len(left) - len(timed)} runs are of families and sizes that were never timed.")
    return "\n".join(lines)


def _counted(found: list[State]) -> str:
    count = Counter(state.status for state in found)
    return ", ".join(f"{count[status]} {status}" for status in ("done", "running", "failed", "left"))


def _eta(known: dict[str, Cost], workers: int) -> str:
    if any(cost.seconds is None for cost in known.values()):
        return "unknown"
    # The longest run that is left takes its time however many workers there are.
    left = [cost.seconds or 0.0 for cost in known.values()]
    minutes = round(max(sum(left) / workers, *left) / 60) if left else 0
    return f"{minutes // 60}:{minutes % 60:02} h"


def _told(plan: Study, folder: Path, found: list[State]) -> dict[str, Any]:
    """Plan, cost and where every run stands, as plain values."""
    known = costs(plan, folder, found)
    runs: list[dict[str, Any]] = []
    for planned, state in zip(plan.runs, found, strict=True):
        config, cost = planned.config, known[planned.name]
        described = {"family": config.family, "size": config.size, "seed": config.seed, "twin": planned.twin}
        left = {"steps_expected": cost.steps, "at_most": cost.at_most, "seconds_left": cost.seconds}
        runs.append({**state.to_dict(), "half": planned.half, **described, **left})
    seconds = [cost.seconds for cost in known.values()]
    count = Counter(state.status for state in found)
    return {
        "study": plan.name,
        "question": plan.question,
        "folder": str(folder),
        **{status: count[status] for status in ("done", "running", "failed", "left")},
        "seconds_left": sum(second for second in seconds if second is not None),
        "not_estimated": sum(second is None for second in seconds),
        "runs": runs,
    }
