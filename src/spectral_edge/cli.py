"""The command line: thin, and the only module that imports the experiments."""

import json
import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn

import numpy as np
from cyclopts import App, CycloptsError, Parameter
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from spectral_edge import experiments
from spectral_edge.errors import InputError, RunError, SpectralEdgeError

app = App(
    name="spectral-edge",
    help="The spectrum of a network's recent parameter updates, watched, recorded and tested against its null.",
    help_format="markdown",
    default_parameter=Parameter(negative=()),
    suppress_keyboard_interrupt=False,
    result_action="return_value",
)

Json = Annotated[bool, Parameter(name="--json")]
Size = Annotated[str, Parameter(help=f"Preset: {', '.join(experiments.SIZES)}.")]
Operation = Annotated[str, Parameter(help=f"Arithmetic operation: {', '.join(experiments.OPERATIONS)}.")]
Settings = Annotated[list[str] | None, Parameter(name="--set", help=experiments.settings_help())]

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

_LEGEND = (
    "R: ratio at k*; k*(w): weighted; R norm.: largest ratio of the window with updates scaled to norm one, beside "
    "the 99th percentile of noise (band); clear: its position if outside; coher.: mean cosine of updates; p: of the "
    "whitened coherence under sign flips."
)

_COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())

EXIT_FAILED = 1
EXIT_INPUT = 2
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: 0 done, 1 failed, 2 wrong input, 130 interrupted."""
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            try:
                app(arguments, exit_on_error=False, print_error=False)
            finally:
                sys.stdout.flush()  # a reader that is gone shows here rather than at the end of the interpreter
        except CycloptsError as error:
            _fail(f"error: {' '.join(str(error).split())} See: spectral-edge --help", EXIT_INPUT)
        except SpectralEdgeError as error:
            _fail(f"error: {error}", EXIT_FAILED if isinstance(error, RunError) else EXIT_INPUT)
        except BrokenPipeError:  # the reader of a pipe had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OSError as error:
            _fail(f"error: {' '.join(str(error).split())}", EXIT_FAILED)
        except KeyboardInterrupt:
            _fail("interrupted", EXIT_INTERRUPTED)


@app.command
def demo(
    *,
    out: Path = Path("runs/demo"),
    size: Size = "fast",
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
        lines = [f"Recorded so far: {_program()} report {shlex.quote(str(folder))}" for folder in readable]
        again = f"Go on with: {_program()} {shlex.join(typed)}"
        _fail("\n".join(["Stopped.", *lines, again]), EXIT_INTERRUPTED)
    pictures = sorted(out.glob("report-*.png"))
    if as_json:
        _print_json({"report": str(page), "pictures": [str(p) for p in pictures], "headline": sentences, **results})
        return
    console.print("\n" + "\n".join(sentences), markup=False)
    console.print(f"\nReport:   {page}", markup=False)
    console.print(f"Pictures: {out / 'report-*.png'} ({len(pictures)} files)", markup=False)


@app.command
def run(
    family: str,
    *,
    size: Size = "fast",
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
        family: Family of experiments: arithmetic.
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

    _at_least("--threads", threads, 1)
    config = _configured(family, {"size": size, "seed": seed}, set_ or (), control=control)
    folder = out or Path("runs") / f"{family}-{size}-{seed}{'-control' if control else ''}"
    typed = ["run", family, "--size", size, "--seed", str(seed), "--threads", str(threads), "--out", str(folder)]
    typed += [*(["--control"] if control else []), *(part for pair in set_ or [] for part in ("--set", pair))]
    console = Console(quiet=quiet or as_json, highlight=False)
    with Progress(*_COLUMNS, console=console, disable=quiet or as_json or not console.is_terminal) as progress:
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
            see = f"See it with: {_program()} report {shlex.quote(str(folder))}\n" if recorded(folder) else ""
            _fail(f"Stopped.\n{see}Go on with: {_program()} {shlex.join(typed)}", EXIT_INTERRUPTED)
        finally:
            torch.set_num_threads(before)
    if as_json:
        _print_json({**asdict(result), "trace": str(folder / result.trace)})
        return
    console.print("\n".join(result.sentences), markup=False, soft_wrap=True)
    console.print(f"Recorded in {folder}; see it with: {_program()} report {folder}", markup=False, soft_wrap=True)


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
    allow_pickle: bool = False,
    out: Path | None = None,
    report: Path | None = None,
    as_json: Json = False,
    quiet: bool = False,
) -> None:
    """Measure a series of checkpoints: safetensors or torch files, a folder of them, or a glob.

    Args:
        source: Folders, globs or files; steps are in the names of the files or of the folders that hold one each.
        window: Updates in a window.
        horizon: Updates whose inner products are kept; twice the window times the stride by default.
        stride: Checkpoints that one update sums.
        group: A layer or a glob over parameter names; the whole model by default.
        select: Watch only parameters that match this glob, or "attention".
        momentum: The optimizer's momentum or beta1, at least 0 and below 1, for the null.
        k_star: Convention of k*: raw, weighted, restricted, abs or clear.
        allow_pickle: Load torch files that hold more than tensors; this runs the code inside.
        out: Folder to keep the trace in.
        report: HTML file to write a report to.
        as_json: Print one JSON object and nothing else.
        quiet: No progress, only the result.
    """
    import spectral_edge as se

    _at_least("--window", window, 2, "updates")
    _at_least("--stride", stride, 1, "checkpoint")
    kept = 2 * window * stride if horizon is None else horizon
    if window * stride > kept:
        raise InputError(
            "--window",
            expected=f"window x stride at most the horizon of {kept}",
            found=str(window * stride),
            remedy="use a smaller window or a longer --horizon",
        )
    screen = Console(stderr=True)
    hidden = quiet or as_json or not screen.is_terminal
    with Progress(*_COLUMNS, console=screen, disable=hidden, transient=True) as progress:
        bar = progress.add_task("scanning", total=None)
        try:
            trace = se.scan(
                source[0] if len(source) == 1 else source,
                horizon=max(kept, 2),
                select=select,
                momentum=momentum,
                out=out,
                allow_pickle=allow_pickle,
                metadata={"command": shlex.join(["spectral-edge", "scan", *source])},
                on_progress=lambda done, total: progress.update(bar, completed=done, total=total),
            )
        except InputError as error:
            raise experiments.option_named(error, options={"momentum": momentum}) from error
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
    largest = {"cosine_ratio_max": _largest(series["cosine_ratios"])}
    values = {name: largest[name] if name in largest else series[name] for name in _SCANNED}
    if as_json:
        vectors = {"sigma": [[_number("sigma", value) for value in row] for row in series["sigma"]]}
        scalars = {name: [_number(name, value) for value in column] for name, column in values.items()}
        described = {"window": window, "stride": stride, "parameters": trace.parameter_count}
        _print_json({**described, "step": series.step.tolist(), **scalars, **vectors})
        return
    table = Table(
        "step", *(heading for heading in _SCANNED.values() if heading), box=None, pad_edge=False, collapse_padding=True
    )
    for row in range(len(series.step)):
        shown = (_shown(name, values[name][row]) for name, heading in _SCANNED.items() if heading)
        table.add_row(str(series.step[row]), *shown)
    console = Console(highlight=False)
    console.print(table)
    console.print(_LEGEND, style="dim")


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
        _print_json({"report": str(page), "headline": sentences})
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


def _configured(
    family: str, options: dict[str, Any], pairs: Sequence[str] = (), *, control: bool = False
) -> experiments.RunConfig:
    settings = experiments.parse_settings(pairs)
    try:
        config = experiments.configure(family, **{**options, **settings})
    except InputError as error:
        raise experiments.option_named(error, options=options, settings=settings) from error
    return config.control() if control else config


def _at_least(option: str, value: int, least: int, unit: str = "") -> None:
    if value < least:
        expected = f"at least {least} {unit}".rstrip()
        raise InputError(option, expected=expected, found=str(value), remedy=f"use a larger {option}")


def _fail(message: str, code: int) -> NoReturn:
    Console(stderr=True, soft_wrap=True, highlight=False).print(message, markup=False)
    sys.exit(code)


def _show_warning(message: Warning | str, *_: Any) -> None:
    """A warning as one line; Python's own form shows a line of source."""
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)


def _print_json(plain: Any) -> None:
    print(json.dumps(plain, indent=1, allow_nan=False))


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
