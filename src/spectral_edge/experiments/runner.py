"""Train a task, watched by a monitor, so that a kill at any instant costs no more than the steps since a checkpoint.

The runner knows nothing of any family: whatever satisfies `Task` runs here unchanged. It prints nothing; callers see
the run through `on_progress`.
"""

from __future__ import annotations

import math
import platform
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, cast

import numpy as np
import torch

import spectral_edge as se
from spectral_edge.errors import warn
from spectral_edge.experiments.attention import attention_commutators
from spectral_edge.experiments.config import RunConfig
from spectral_edge.experiments.folder import TRACE, RunFolder
from spectral_edge.experiments.kinds import KINDS
from spectral_edge.experiments.perturbation import Frame, Perturbed
from spectral_edge.experiments.task import Task
from spectral_edge.transitions import CRITERIA, transition_steps

GROK_METRIC = "test_accuracy"

DIGITS = 9
"""Significant digits of a metric, as many as single precision has; more would be half of a small run's record."""

CHECKPOINT_SECONDS = 60.0
"""A checkpoint is never older than this, whatever `checkpoint_every` says."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is, given to `on_progress` after every step.

    Attributes:
        step: optimizer steps taken.
        steps: optimizer steps to take in all.
        loss: training loss of the newest batch.
        metrics: the newest evaluation by name, empty before the first.
        reading: the newest reading of this process, None before the first.
    """

    step: int
    steps: int
    loss: float
    metrics: Mapping[str, float]
    reading: se.EdgeReading | None


@dataclass(frozen=True, slots=True)
class RunResult:
    """What became of a run: the content of its `result.json`.

    Attributes:
        family: name of the family.
        size: name of the preset.
        seed: the run's seed.
        config: the whole configuration.
        parameter_count: trainable parameters.
        watched_count: parameters that the monitor watched.
        steps: optimizer steps taken.
        grok: step under each criterion of `transitions.CRITERIA`, None where it was never met (censored at `steps`);
            empty for a task without test accuracy.
        perturbed: the step after which its perturbation began; None without one, or where the run ended before.
        final_metrics: the last evaluation by name, None where it was not finite.
        metrics: every evaluation: "step" and each metric to its values in order.
        wall_seconds: time spent training, evaluating and watching, over all parts of a resumed run.
        threads: threads that torch used on the CPU; another number may round differently.
        versions: Python and packages that finished it.
        command: shell command that repeats it.
        trace: folder of the monitor's trace, relative to the run's folder.
    """

    family: str
    size: str
    seed: int
    config: dict[str, Any]
    parameter_count: int
    watched_count: int
    steps: int
    grok: dict[str, int | None]
    perturbed: int | None
    final_metrics: dict[str, float | None]
    metrics: dict[str, list[float | None]]
    wall_seconds: float
    threads: int
    versions: dict[str, str]
    command: str
    trace: str

    @property
    def sentences(self) -> list[str]:
        """What became of the run under each criterion, in words."""
        named = [(criterion.words, self.grok[criterion.name]) for criterion in CRITERIA if criterion.name in self.grok]
        never = f"never in {self.steps:,} steps"
        return [f"{words}: {never if step is None else f'step {step:,}'}" for words, step in named]


def run(
    config: RunConfig,
    out: str | Path,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    resume: bool = True,
    command: str | None = None,
) -> RunResult:
    """Train `config` to its end, or continue where an earlier call was interrupted.

    Interrupting (Ctrl-C, or a KeyboardInterrupt raised by `on_progress`) finishes the step under way, saves it and
    raises KeyboardInterrupt; a second Ctrl-C interrupts at once and leaves the last checkpoint. A resumed run takes
    the same steps and gives the same readings as one that was never interrupted. The caller's torch random state is
    left as it was.

    Args:
        config: the run.
        out: its folder; made if needed.
        on_progress: called after every step; it must be cheap.
        resume: continue, or return the result of, a run that this folder already holds; if False such a folder is
            refused.
        command: the shell command to record as the one that repeats this run; by default one is composed.

    Returns:
        The result, as recorded in `result.json`. A finished run's is returned without training.

    Raises:
        InputError: where the folder holds a run of another configuration, or any run with `resume=False`, where
            nothing can be written there, or where this machine lacks the run's device.
    """
    folder = RunFolder(Path(out), config=config.to_dict())
    if not resume:
        folder.refuse_used()
    recorded = folder.load_result()
    if recorded is not None:
        return RunResult(**recorded)
    folder.check_writable()
    config.check_device()
    device = torch.device(config.device)
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(config.seed)
        state = folder.load_checkpoint(device=config.device)
        task = config.task.build(seed=config.seed, weight_decay=config.weight_decay, device=config.device)
        if config.perturbation:
            task.frame = _frame(config, task)
        if state is not None:
            task.load_state_dict(state["task"])
        command = command or config.command(f"runs/{folder.path.name}")
        with se.Monitor(
            task.model,
            task.optimizer,
            window=config.window,
            horizon=config.horizon,
            every=config.observe_every,
            groups={name: globs for name, globs in task.groups.items() if fnmatchcase(name, config.groups)},
            ladder=config.ladder,
            store=config.store,
            out=folder.trace,
            metadata={"config": config.to_dict(), "seed": config.seed, "command": command},
        ) as monitor:
            loop = _Loop(config, task, monitor, folder, on_progress)
            if state is not None:
                loop.restore(state)
            loop.train()
            watched = monitor.trace.parameter_count
    count = sum(parameter.numel() for parameter in task.model.parameters() if parameter.requires_grad)
    result = RunResult(
        family=config.family,
        size=config.size,
        seed=config.seed,
        config=config.to_dict(),
        parameter_count=count,
        watched_count=watched,
        steps=loop.step,
        grok=_grok(loop.metrics),
        perturbed=config.perturb_at if config.perturb_at is not None and loop.step > config.perturb_at else None,
        final_metrics={name: _finite(values[-1]) for name, values in loop.metrics.items() if name != "step"},
        metrics={name: [_finite(value) for value in values] for name, values in loop.metrics.items()},
        wall_seconds=round(loop.seconds, 3),
        threads=torch.get_num_threads(),
        versions=_versions(),
        command=command,
        trace=TRACE,
    )
    folder.save_result(asdict(result))
    return result


def check_folder(config: RunConfig, out: str | Path) -> None:
    """Raise `InputError` where `run(config, out)` would refuse the folder; nothing is trained or written.

    Args:
        config: the run.
        out: its folder.
    """
    folder = RunFolder(Path(out), config=config.to_dict())
    if folder.load_result() is None:
        folder.load_checkpoint(device="cpu")
        folder.check_writable()


class _Loop:
    """The state that a run has between two steps, and the loop that moves it."""

    def __init__(
        self,
        config: RunConfig,
        task: Task,
        monitor: se.Monitor,
        folder: RunFolder,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self.step, self.seconds = 0, 0.0
        self.metrics: dict[str, list[float]] = {"step": []}
        self._config, self._task, self._monitor, self._folder = config, task, monitor, folder
        self._on_progress = on_progress
        self._stop: int | None = None
        self._saved = time.perf_counter()

    def train(self) -> None:
        """Take the remaining steps; the checkpoint at the end holds the last."""
        config, task, monitor = self._config, self._task, self._monitor
        latest = {name: values[-1] for name, values in self.metrics.items() if values and name != "step"}
        reading: se.EdgeReading | None = None
        max_grad_norm = task.max_grad_norm
        started = time.perf_counter() - self.seconds
        if self.step == 0:
            # A run killed before its first checkpoint still finds a state that agrees with its trace.
            self._save(started)
        with _Interrupt() as interrupt:
            while not self.ended and not interrupt.requested:
                loss, grad_norm = task.train_step()
                newest = monitor.step(loss=loss, grad_norm=grad_norm, max_grad_norm=max_grad_norm)
                reading = reading if newest is None else newest
                self.step += 1
                if config.probe_parameters and monitor.observed:
                    monitor.probe(parameters="parameters")
                if self.step == 1 or self.step % config.eval_every == 0 or self.ended:
                    found = {**task.evaluate(), **attention_commutators(task.model)}
                    latest = {name: float(f"{value:.{DIGITS}g}") for name, value in found.items()}
                    monitor.log(**latest)
                    self.metrics["step"].append(self.step)
                    for name, value in latest.items():
                        # A metric that an earlier version of the code did not know begins late.
                        missing = [math.nan] * (len(self.metrics["step"]) - 1)
                        self.metrics.setdefault(name, missing).append(value)
                    self._stop = self._stop or self._stop_rule()
                if self._on_progress is not None:
                    try:
                        self._on_progress(Progress(self.step, config.steps, loss, latest, reading))
                    except KeyboardInterrupt:
                        interrupt.requested = True
                if self._due() or interrupt.requested:
                    self._save(started)
            if interrupt.requested:
                raise KeyboardInterrupt

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint; the task has been restored already, because the monitor starts from it."""
        self.step, self.seconds, self.metrics = state["step"], state["seconds"], state["metrics"]
        self._stop = self._stop_rule()
        self._monitor.load_state_dict(state["monitor"])
        torch.set_rng_state(state["random"]["cpu"].cpu())
        if "cuda" in state["random"]:
            torch.cuda.set_rng_state(state["random"]["cuda"].cpu(), self._config.device)

    @property
    def ended(self) -> bool:
        """Whether all steps are taken, or as many as were to follow the stop rule."""
        return self.step >= self._config.steps or (self._stop is not None and self.step >= self._stop)

    def _stop_rule(self) -> int | None:
        """The step at which to end, once the stop rule is met."""
        if self._config.stop_after is None:
            return None
        met = _grok(self.metrics).get("stop_98")
        return None if met is None else met + self._config.stop_after

    def _due(self) -> bool:
        """Whether a checkpoint is due by step, at the end or by time; when it is taken changes no reading."""
        by_step = self.step % self._config.checkpoint_every == 0 or self.ended
        return by_step or time.perf_counter() - self._saved >= CHECKPOINT_SECONDS

    def _save(self, started: float) -> None:
        self.seconds = time.perf_counter() - started
        random = {"cpu": torch.get_rng_state()}
        if torch.device(self._config.device).type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self._config.device)
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "metrics": self.metrics,
            "task": self._task.state_dict(),
            "monitor": self._monitor.state_dict(),
            "random": random,
        }
        try:
            self._folder.save_checkpoint(state)
        except OSError as error:
            warn(f"no checkpoint at step {self.step}: {error}; training goes on, and a kill goes back to the last one")
        self._saved = time.perf_counter()


class _Interrupt:
    """Turns the first Ctrl-C into a request, so that it cannot fall between the two halves of a step.

    Only the main thread receives signals; elsewhere, and where Ctrl-C is ignored, the caller's handling stands.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: Any = None

    def __enter__(self) -> _Interrupt:
        ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        if threading.current_thread() is threading.main_thread() and not ignored:
            self._previous = signal.signal(signal.SIGINT, self._request)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


def _frame(config: RunConfig, task: Task) -> Frame:
    """The perturbation of a run, bound to its task."""
    kind = KINDS[config.perturbation]
    strength = kind.usual if config.strength is None else config.strength
    assert config.perturb_at is not None  # checked with the configuration
    acting = kind(cast(Perturbed, task), strength=strength, seed=config.seed)
    return Frame(acting, at=config.perturb_at, ramp=config.perturb_ramp)


def _grok(metrics: Mapping[str, list[float]]) -> dict[str, int | None]:
    return transition_steps(metrics["step"], metrics[GROK_METRIC]) if GROK_METRIC in metrics else {}


def _finite(value: float) -> float | None:
    # JSON has no NaN; None says that the number does not exist.
    return value if math.isfinite(value) else None


def _versions() -> dict[str, str]:
    try:
        own = version("spectral-edge")
    except PackageNotFoundError:
        own = "unknown"
    return {
        "spectral_edge": own,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }
