"""The command line: thin, and the only module that imports the experiments."""

import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from spectral_edge import experiments
from spectral_edge.claims_command import claims
from spectral_edge.data_command import data
from spectral_edge.errors import RunError, SpectralEdgeError
from spectral_edge.run_command import Size, configured, run
from spectral_edge.scan_command import scan
from spectral_edge.simulate_command import simulate
from spectral_edge.study_command import study
from spectral_edge.terminal import (
    EXIT_FAILED,
    EXIT_INPUT,
    EXIT_INTERRUPTED,
    Json,
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

Operation = Annotated[str, Parameter(help=f"Arithmetic operation: {', '.join(experiments.OPERATIONS)}.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: 0 done, 1 failed, 2 wrong input, 75 stopped when its time was up, 130 interrupted."""
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
    config = configured("arithmetic", {"size": size, **options})
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


app.command(run)
app.command(study)
app.command(data)
app.command(scan)
app.command(simulate)
app.command(claims)


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
