"""The command line: thin, and the only module that imports the experiments."""

import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console
from rich.progress import Progress

from spectral_edge import experiments
from spectral_edge.errors import InputError, RunError, SpectralEdgeError
from spectral_edge.scan_command import scan
from spectral_edge.simulate_command import simulate
from spectral_edge.terminal import (
    COLUMNS,
    EXIT_FAILED,
    EXIT_INPUT,
    EXIT_INTERRUPTED,
    Json,
    at_least,
    fail,
    print_json,
    program,
    show_warning,
)

app = App(
    name="spectral-edge",
    help="The spectrum of a network's recent parameter updates, watched, recorded and tested against its null.",
    help_format="markdown",
    default_parameter=Parameter(negative=()),
    suppress_keyboard_interrupt=False,
    result_action="return_value",
)

Size = Annotated[str, Parameter(help=f"Preset: {experiments.sizes_help(experiments.FAMILIES)}.")]
Operation = Annotated[str, Parameter(help=f"Arithmetic operation: {', '.join(experiments.OPERATIONS)}.")]
Settings = Annotated[list[str] | None, Parameter(name="--set", help=experiments.settings_help(experiments.FAMILIES))]


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: 0 done, 1 failed, 2 wrong input, 130 interrupted."""
    with warnings.catch_warnings():
        warnings.showwarning = show_warning
        try:
            try:
                app(arguments, exit_on_error=False, print_error=False)
            finally:
                sys.stdout.flush()  # a reader that is gone shows here rather than at the end of the interpreter
        except CycloptsError as error:
            fail(f"error: {' '.join(str(error).split())} See: spectral-edge --help", EXIT_INPUT)
        except SpectralEdgeError as error:
            fail(f"error: {error}", EXIT_FAILED if isinstance(error, RunError) else EXIT_INPUT)
        except BrokenPipeError:  # the reader of a pipe had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OSError as error:
            fail(f"error: {' '.join(str(error).split())}", EXIT_FAILED)
        except KeyboardInterrupt:
            fail("interrupted", EXIT_INTERRUPTED)


@app.command
def demo(
    *,
    out: Path = Path("runs/demo"),
    size: Size = "cpu",
    operation: Operation = "add",
    seed: int = 42,
    steps: int | None = None,
    as_json: Json = False,
    quiet: bool = False,
) -> None:
    """Train a transformer that groks and its control that does not, watched live, and write a report.

    Args:
        out: Folder of the runs and the report.
        size: Preset.
        operation: Operation.
        seed: Seed of split, weights and batches.
        steps: Optimizer steps; the preset's by default.
        as_json: Print one JSON object and nothing else.
        quiet: No progress, only the result.
    """
    from spectral_edge.demo import recorded, train_together, write_pair
    from spectral_edge.report import require_extras

    require_extras()
    options: dict[str, Any] = {"operation": operation, "seed": seed}
    if steps is not None:
        options["steps"] = steps
    config = _configured("arithmetic", {"size": size, **options})
    typed = ["demo", "--out", str(out), "--size", size, "--operation", operation, "--seed", str(seed)]
    typed += ["--steps", str(steps)] if steps is not None else []
    command = shlex.join(["spectral-edge", *typed])
    console = Console(quiet=quiet or as_json, highlight=False)
    try:
        results = train_together(
            {"run": config, "control": config.control()}, out, console=console, quiet=quiet or as_json, command=command
        )
        page, sentences = write_pair(out, f"Grokking modular {operation}, and its control")
    except KeyboardInterrupt:
        readable = [out / name for name in ("run", "control") if recorded(out / name)]
        lines = [f"Recorded so far: {program()} report {shlex.quote(str(folder))}" for folder in readable]
        again = f"Go on with: {program()} {shlex.join(typed)}"
        fail("\n".join(["Stopped.", *lines, again]), EXIT_INTERRUPTED)
    pictures = sorted(out.glob("report-*.png"))
    if as_json:
        print_json({"report": str(page), "pictures": [str(p) for p in pictures], "headline": sentences, **results})
        return
    console.print("\n" + "\n".join(sentences), markup=False)
    console.print(f"\nReport:   {page}", markup=False)
    console.print(f"Pictures: {out / 'report-*.png'} ({len(pictures)} files)", markup=False)


@app.command
def run(
    family: str,
    *,
    size: Size = "cpu",
    seed: int = 42,
    control: bool = False,
    set_: Settings = None,
    threads: int = 1,
    out: Path | None = None,
    as_json: Json = False,
    quiet: bool = False,
) -> None:
    """Train one run of a family, watched and recorded; a run that was interrupted goes on where it was.

    Args:
        family: Family of experiments.
        size: Preset.
        seed: Seed of split, weights and batches.
        control: Train the control, without weight decay.
        set_: A setting.
        threads: Threads that torch uses on the CPU; numbers and speed differ with it, and the presets are for one.
        out: The run's folder; runs/FAMILY-SIZE-SEED by default.
        as_json: Print one JSON object and nothing else.
        quiet: No progress, only the result.
    """
    import torch

    from spectral_edge.demo import recorded

    at_least("--threads", threads, 1)
    config = _configured(family, {"size": size, "seed": seed}, set_ or (), control=control)
    folder = out or Path("runs") / f"{family}-{size}-{seed}{'-control' if control else ''}"
    typed = ["run", family, "--size", size, "--seed", str(seed), "--threads", str(threads), "--out", str(folder)]
    typed += [*(["--control"] if control else []), *(part for pair in set_ or [] for part in ("--set", pair))]
    console = Console(quiet=quiet or as_json, highlight=False)
    with Progress(*COLUMNS, console=console, disable=quiet or as_json or not console.is_terminal) as progress:
        bar = progress.add_task(family, total=config.steps)

        def shown(state: experiments.Progress) -> None:
            if state.step % 10 == 0 or state.step == state.steps:
                accuracy = state.metrics.get("test_accuracy")
                label = family if accuracy is None else f"{family}  test accuracy {accuracy:.3f}"
                progress.update(bar, completed=state.step, description=label)

        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            result = experiments.run(config, folder, on_progress=shown, command=shlex.join(["spectral-edge", *typed]))
        except KeyboardInterrupt:
            progress.stop()
            see = f"See it with: {program()} report {shlex.quote(str(folder))}\n" if recorded(folder) else ""
            fail(f"Stopped.\n{see}Go on with: {program()} {shlex.join(typed)}", EXIT_INTERRUPTED)
        finally:
            torch.set_num_threads(before)
    if as_json:
        print_json({**asdict(result), "trace": str(folder / result.trace)})
        return
    console.print("\n".join(result.sentences), markup=False, soft_wrap=True)
    console.print(f"Recorded in {folder}; see it with: {program()} report {folder}", markup=False, soft_wrap=True)


app.command(scan)
app.command(simulate)


@app.command
def report(
    run: Path, *, control: Path | None = None, out: Path | None = None, as_json: Json = False, quiet: bool = False
) -> None:
    """Write the HTML report of a recorded run.

    Args:
        run: Folder of the run or of its trace.
        control: Folder of a control to show beside it.
        out: The HTML file; report.html in the run's folder by default.
        as_json: Print one JSON object and nothing else.
        quiet: Print the file's path only.
    """
    from spectral_edge import open_trace
    from spectral_edge.report import headline

    trace = open_trace(run)
    other = None if control is None else open_trace(control)
    page = trace.report(out or run / "report.html", control=other)
    sentences = headline(trace, other)
    if as_json:
        print_json({"report": str(page), "headline": sentences})
    elif quiet:
        print(page)
    else:
        for sentence in sentences:
            print(sentence)
        print(f"Report: {page}")


@app.command
def doctor(
    *,
    parameters: str | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    ranks: int = 1,
    horizon: int = 20,
    ladder: int = 0,
    as_json: Json = False,
    quiet: bool = False,
) -> None:
    """Say what is installed and what is missing for which extra, and which engine a model would get and why.

    Args:
        parameters: Size of a model, such as 124M, to say which engine and backend it gets.
        dtype: The model's dtype.
        device: Where it is: cpu or cuda.
        ranks: Processes that train it.
        horizon: Updates whose inner products are recorded.
        ladder: Doublings of the ladder.
        as_json: Print one JSON object and nothing else.
        quiet: Print nothing; the exit code tells.
    """
    from spectral_edge.doctor import Model, diagnose, parse_size

    model = None
    if parameters is not None:
        model = Model(parse_size(parameters), dtype, device, ranks, horizon, ladder)
    found = diagnose(model)
    if as_json:
        print_json(found)
        return
    console = Console(highlight=False, quiet=quiet)
    for heading, entries in found.items():
        console.print(f"[bold]{heading}[/bold]")
        for name, value in entries.items():
            console.print(f"  {name:<14} {value}", markup=False)


def _configured(
    family: str, options: dict[str, Any], pairs: Sequence[str] = (), *, control: bool = False
) -> experiments.RunConfig:
    settings = experiments.parse_settings(pairs)
    try:
        config = experiments.configure(family, **{**options, **settings})
    except InputError as error:
        raise experiments.option_named(error, options=options, settings=settings) from error
    return config.control() if control else config
