"""The verb `run` of the command line, and how settings are typed."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.progress import Progress

from spectral_edge import experiments, open_trace
from spectral_edge.errors import InputError, MissingExtraError
from spectral_edge.terminal import (
    COLUMNS,
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

Size = Annotated[str, Parameter(help=f"Preset: {experiments.sizes_help(experiments.FAMILIES)}.")]
_SETTINGS = f"{experiments.settings_help(experiments.FAMILIES)} Operations: {', '.join(experiments.OPERATIONS)}."
Settings = Annotated[list[str] | None, Parameter(name="--set", help=_SETTINGS)]


def run(
    family: str,
    *,
    size: Size = "cpu",
    seed: int = 42,
    control: bool = False,
    set_: Settings = None,
    threads: int = 1,
    minutes: float | None = None,
    out: Path | None = None,
    as_json: Json = False,
    quiet: bool = False,
) -> None:
    """Train one run of a family, watched and recorded; a run that was interrupted goes on where it was.

    Args:
        family: Family of experiments.
        size: Preset.
        seed: Seed of split, weights and batches.
        control: Train the control: without weight decay, or what the family has in its place.
        set_: A setting.
        threads: Threads that torch uses on the CPU; numbers and speed differ with it, and the presets are for one.
        minutes: Train so long at most, then save and say how to go on.
        out: The run's folder; runs/FAMILY-SIZE-SEED by default.
        as_json: Print one JSON object and nothing else.
        quiet: No progress, only the result.
    """
    import torch

    from spectral_edge.demo import recorded

    at_least("--threads", threads, 1)
    above_zero("--minutes", minutes)
    config = configured(family, {"size": size, "seed": seed}, set_ or (), control=control)
    folder = out or Path("runs") / f"{family}-{size}-{seed}{'-control' if control else ''}"
    typed = ["run", family, "--size", size, "--seed", str(seed), "--threads", str(threads), "--out", str(folder)]
    typed += [*(["--control"] if control else []), *(part for pair in set_ or [] for part in ("--set", pair))]
    command = shlex.join(["spectral-edge", *typed])
    typed += ["--minutes", f"{minutes:g}"] if minutes is not None else []
    console = Console(quiet=quiet or as_json, highlight=False)
    ends = None if minutes is None else time.monotonic() + 60 * minutes
    late = None
    with Progress(*COLUMNS, console=console, disable=quiet or as_json or not console.is_terminal) as progress:
        bar = progress.add_task(family, total=config.steps)

        def shown(state: experiments.Progress) -> None:
            nonlocal late
            if state.step % 10 == 0 or state.step == state.steps:
                accuracy = state.metrics.get("test_accuracy")
                label = family if accuracy is None else f"{family}  test accuracy {accuracy:.3f}"
                progress.update(bar, completed=state.step, description=label)
            if ends is not None and time.monotonic() >= ends and state.step < state.steps:
                late = state.step
                raise KeyboardInterrupt

        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with terminated():
                result = experiments.run(config, folder, on_progress=shown, command=command)
        except KeyboardInterrupt:
            progress.stop()
            again = f"Go on with: {program()} {shlex.join(typed)}"
            if late is None:
                see = f"See it with: {program()} report {shlex.quote(str(folder))}\n" if recorded(folder) else ""
                fail(f"Stopped.\n{see}{again}", EXIT_INTERRUPTED)
            if as_json:
                print_json({"finished": False, "step": late, "steps": config.steps, "folder": str(folder)})
            fail(f"Saved at step {late:,} of {config.steps:,}, as the time is up.\n{again}", EXIT_UNFINISHED)
        finally:
            torch.set_num_threads(before)
    page = _draw(folder)
    if as_json:
        shown_page = None if page is None else str(page)
        print_json({"finished": True, **asdict(result), "trace": str(folder / result.trace), "report": shown_page})
        return
    console.print("\n".join(result.sentences), markup=False, soft_wrap=True)
    drawn = f"see it with: {program()} report {folder}" if page is None else f"its report: {page}"
    console.print(f"Recorded in {folder}; {drawn}", markup=False, soft_wrap=True)


def configured(
    family: str, options: dict[str, Any], pairs: Sequence[str] = (), *, control: bool = False
) -> experiments.RunConfig:
    """The configuration that was typed.

    Args:
        family: name of the family.
        options: settings that have an option of their own.
        pairs: settings as name=value.
        control: whether it is to be the control.

    Raises:
        InputError: with the option's name.
    """
    double = next((name for pair in pairs if (name := pair.partition("=")[0]) in ("seed", "size")), None)
    if double is not None:
        raise InputError(
            f"--set {double}", expected="a setting without an option", found=double, remedy=f"use --{double}"
        )
    settings = experiments.parse_settings(pairs)
    try:
        config = experiments.configure(family, **{**options, **settings})
    except InputError as error:
        raise experiments.option_named(error, options=options, settings=settings) from error
    return config.control() if control else config


def _draw(folder: Path) -> Path | None:
    """The report of a finished run, drawn once; none without the extra."""
    page = folder / "report.html"
    if page.exists():
        return page
    try:
        return open_trace(folder).report(page)
    except MissingExtraError:
        return None
