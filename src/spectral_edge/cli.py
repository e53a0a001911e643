"""The command line: thin, and the only module that imports the experiments."""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import App, CycloptsError, Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from spectral_edge.errors import InputError, RunError, SpectralEdgeError

app = App(
    name="spectral-edge",
    help="The spectrum of a network's recent parameter updates, watched, recorded and tested against its null.",
    help_format="markdown",
)

Json = Annotated[bool, Parameter(name="--json", negative=())]
Quiet = Annotated[bool, Parameter(negative=())]

_SCANNED = {
    "k_star_raw": "k*",
    "k_star_weighted": "k*(w)",
    "k_star_clear": "clear",
    "gap_ratio": "R",
    "band_max": "band",
    "g23": "",
    "g23_normalized": "g23/trG",
    "coherence": "coherence",
    "coherence_p": "p",
    "update_norm": "norm",
}
"""What `scan` prints of each window, with its heading in the table; those without one stand in the JSON only."""

EXIT_FAILED = 1
EXIT_INPUT = 2
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: 0 done, 1 failed, 2 wrong input, 130 interrupted."""
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        app(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        first = " ".join(str(error).split())
        errors.print(f"error: {first} See: spectral-edge --help", markup=False)
        sys.exit(EXIT_INPUT)
    except SpectralEdgeError as error:
        errors.print(f"error: {error}", markup=False)
        sys.exit(EXIT_FAILED if isinstance(error, RunError) else EXIT_INPUT)
    except BrokenPipeError:  # the reader of a pipe had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        errors.print("interrupted", markup=False)
        sys.exit(EXIT_INTERRUPTED)


@app.command
def demo(
    *,
    out: Path = Path("runs/demo"),
    size: str = "fast",
    operation: str = "add",
    seed: int = 42,
    steps: int | None = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a transformer that groks and its control that does not, watched live, and write a report.

    Args:
        out: Folder of the runs and the report.
        size: Preset of the arithmetic family: fast, middle, reference or slow.
        operation: Arithmetic operation.
        seed: Seed of split, weights and batches.
        steps: Optimizer steps; the preset's by default.
        as_json: Print one JSON object and nothing else.
        quiet: No progress, only the result.
    """
    from spectral_edge import open_trace
    from spectral_edge.demo import train_together
    from spectral_edge.experiments import configure
    from spectral_edge.report import headline, require_extras

    require_extras()
    options: dict[str, Any] = {"operation": operation, "seed": seed}
    if steps is not None:
        options["steps"] = steps
    config = configure("arithmetic", size=size, **options)
    chosen = f" --steps {steps}" if steps is not None else ""
    command = f"spectral-edge demo --out {out} --size {size} --operation {operation} --seed {seed}{chosen}"
    console = Console(quiet=quiet or as_json, highlight=False)
    console.print(f"{config.steps} steps of modular {operation}, with weight decay and without, one thread each.")
    try:
        results = train_together(
            {"run": config, "control": config.control()}, out, console=console, quiet=quiet or as_json, command=command
        )
    except KeyboardInterrupt:
        Console(stderr=True, soft_wrap=True, highlight=False).print(
            f"Stopped. What was recorded is readable: {_program()} report {out / 'run'}\n"
            f"Go on with: {command.replace('spectral-edge', _program(), 1)}",
            markup=False,
        )
        sys.exit(EXIT_INTERRUPTED)
    run, control = open_trace(out / "run"), open_trace(out / "control")
    page = run.report(out / "report.html", control=control, title=f"Grokking modular {operation}, and its control")
    sentences = headline(run, control)
    pictures = sorted(out.glob("report-*.png"))
    if as_json:
        _print_json({"report": str(page), "pictures": [str(p) for p in pictures], "headline": sentences, **results})
        return
    console.print()
    for sentence in sentences:
        console.print(sentence, markup=False)
    console.print(f"\nReport:   {page}", markup=False)
    console.print(f"Pictures: {out / 'report-*.png'} ({len(pictures)} files)", markup=False)


@app.command
def run(
    family: str,
    *,
    size: str = "fast",
    seed: int = 42,
    control: bool = False,
    set_: Annotated[list[str] | None, Parameter(name="--set")] = None,
    out: Path | None = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train one run of a family, watched and recorded; a run that was interrupted goes on where it was.

    Args:
        family: Family of experiments: arithmetic.
        size: Preset: fast, middle, reference or slow.
        seed: Seed of split, weights and batches.
        control: Train the control, without weight decay.
        set_: A setting as name=value; repeatable.
        out: The run's folder; runs/FAMILY-SIZE-SEED by default.
        as_json: Print one JSON object and nothing else.
        quiet: No progress, only the result.
    """
    from spectral_edge import experiments

    settings: dict[str, Any] = {"size": size, "seed": seed, **_settings(set_ or [])}
    config = experiments.configure(family, **settings)
    config = config.control() if control else config
    folder = out or Path("runs") / f"{family}-{size}-{seed}{'-control' if control else ''}"
    console = Console(quiet=quiet or as_json, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=quiet or as_json or not console.is_terminal) as progress:
        bar = progress.add_task(family, total=config.steps)

        def shown(state: experiments.Progress) -> None:
            if state.step % 10 == 0 or state.step == state.steps:
                accuracy = state.metrics.get("test_accuracy")
                label = family if accuracy is None else f"{family}  test accuracy {accuracy:.3f}"
                progress.update(bar, completed=state.step, description=label)

        try:
            result = experiments.run(config, folder, on_progress=shown)
        except KeyboardInterrupt:
            progress.stop()
            Console(stderr=True, soft_wrap=True).print(
                f"Stopped and saved. Go on with the same command; see it with: {_program()} report {folder}",
                markup=False,
                highlight=False,
            )
            sys.exit(EXIT_INTERRUPTED)
    if as_json:
        _print_json({**asdict(result), "trace": str(folder / result.trace)})
        return
    for name, step in result.grok.items():
        console.print(f"{name}: {'never' if step is None else f'step {step}'}")
    console.print(f"Recorded in {folder}; see it with: {_program()} report {folder}", markup=False)


@app.command
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
    out: Path | None = None,
    report: Path | None = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a series of checkpoints: safetensors or torch files, a folder of them, or a glob.

    Args:
        source: A folder, a glob, or several files; steps are the last number in their names.
        window: Updates in a window.
        horizon: Updates whose inner products are kept; twice the window times the stride by default.
        stride: Checkpoints that one update sums.
        group: A layer or a glob over parameter names; the whole model by default.
        select: Watch only parameters that match this glob, or "attention".
        momentum: The optimizer's momentum or beta1, for the null.
        k_star: Convention of k*: raw, weighted, restricted, abs or clear.
        out: Folder to keep the trace in.
        report: HTML file to write a report to.
        as_json: Print one JSON object and nothing else.
        quiet: No progress, only the result.
    """
    import spectral_edge as se

    kept = 2 * window * stride if horizon is None else horizon
    if window * stride > kept:
        raise InputError(
            "window",
            expected=f"window x stride at most the horizon of {kept}",
            found=str(window * stride),
            remedy="use a smaller window or a longer --horizon",
        )
    if window < 2:
        raise InputError("window", expected="at least 2 updates", found=str(window), remedy="use a larger --window")
    columns = (TextColumn("scanning"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    screen = Console(stderr=True)
    hidden = quiet or as_json or not screen.is_terminal
    with Progress(*columns, console=screen, disable=hidden, transient=True) as progress:
        bar = progress.add_task("scan", total=None)
        trace = se.scan(
            source[0] if len(source) == 1 else source,
            horizon=max(kept, 2),
            select=select,
            momentum=momentum,
            out=out,
            metadata={"command": f"spectral-edge scan {' '.join(source)}"},
            on_progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    series = trace.edge(window=window, stride=stride, group=group, k_star=k_star)
    if len(series.step) == 0:
        raise InputError(
            "source",
            expected=f"at least {window * stride + 1} snapshots for one full window",
            found=f"{len(trace.steps) + 1}",
            remedy="use a smaller --window or --stride",
        )
    if report is not None:
        trace.report(report)
    if as_json:
        vectors = {"sigma": series["sigma"].tolist()}
        scalars = {name: [_number(value) for value in series[name]] for name in _SCANNED}
        _print_json(
            {
                "window": window,
                "stride": stride,
                "parameters": trace.parameter_count,
                "step": series.step.tolist(),
                **scalars,
                **vectors,
            }
        )
        return
    table = Table("step", *(heading for heading in _SCANNED.values() if heading), box=None)
    for row in range(len(series.step)):
        shown = (_shown(name, series[name][row]) for name, heading in _SCANNED.items() if heading)
        table.add_row(str(series.step[row]), *shown)
    console = Console(highlight=False)
    console.print(table)
    console.print(
        "R: ratio at k*; k*(w): weighted; band: 99th percentile of noise for the normalised ratios, clear: "
        "position outside of it; p: of the coherence.",
        style="dim",
    )


@app.command
def report(
    run: Path, *, control: Path | None = None, out: Path | None = None, as_json: Json = False, quiet: Quiet = False
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
        _print_json({"report": str(page), "headline": sentences})
    elif quiet:
        print(page)
    else:
        for sentence in sentences:
            print(sentence)
        print(f"Report: {page}")


@app.command
def doctor(*, as_json: Json = False, quiet: Quiet = False) -> None:
    """Say what is installed, which engine would be used, and what is missing for which extra."""
    from spectral_edge.doctor import diagnose

    found = diagnose()
    if as_json:
        _print_json(found)
        return
    console = Console(highlight=False, quiet=quiet)
    for heading, entries in found.items():
        console.print(f"[bold]{heading}[/bold]")
        for name, value in entries.items():
            console.print(f"  {name:<14} {value}", markup=False)


def _program() -> str:
    """How this program was called, so that advice can be typed as it stands."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{Path(sys.executable).name} -m spectral_edge"
    return called.name if shutil.which(called.name) else str(called)


def _settings(pairs: Sequence[str]) -> dict[str, Any]:
    """Settings from name=value; values are read as JSON where they can be."""
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name == "family":
            raise InputError("--set", expected="name=value", found=pair, remedy="for instance --set operation=mul")
        try:
            settings[name.replace("-", "_")] = json.loads(value)
        except ValueError:
            settings[name.replace("-", "_")] = value
    return settings


def _print_json(plain: Any) -> None:
    print(json.dumps(plain, indent=1, allow_nan=False))


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _shown(name: str, value: float) -> str:
    if not np.isfinite(value):
        return "-"
    return str(int(value)) if name.startswith("k_star") else f"{value:.4g}"
