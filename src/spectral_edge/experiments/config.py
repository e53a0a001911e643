"""Configurations of runs: frozen dataclasses that are checked when they are made, before any work is done.

A `RunConfig` says how long to train and how to watch; its `task` says what is trained. A control is the same
configuration with another weight decay, never a copy of the code.
"""

from __future__ import annotations

import json
import math
import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from spectral_edge.errors import InputError
from spectral_edge.experiments.kinds import KINDS

if TYPE_CHECKING:
    from spectral_edge.experiments.task import Task

MOST_SEED = 2**31 - 1
"""Generators take more, but streams of a seed are offset from it."""


@dataclass(frozen=True, kw_only=True)
class TaskConfig(ABC):
    """What is trained: data, model and optimizer of one family.

    Subclasses add their settings as fields of plain types (they are recorded as JSON) and check them in
    `__post_init__`.

    Attributes:
        family: name of the family, the same for every run of it.
        sizes: names of its presets, the smallest, "cpu", first.
    """

    family: ClassVar[str]
    sizes: ClassVar[tuple[str, ...]]

    @classmethod
    @abstractmethod
    def preset(cls, size: str) -> RunConfig:
        """The published or scaled-down configuration of a named size; raises `InputError` for an unknown name."""

    @abstractmethod
    def build(self, *, seed: int, weight_decay: float, device: str) -> Task:
        """A fresh task; equal arguments build bit-identical tasks whatever the global random state."""

    @abstractmethod
    def lines(self, seed: int) -> Iterator[tuple[str, str]]:
        """The data of a seed as text in its field's usual format: name of a file and a line of it, file by file."""

    def control(self, config: RunConfig) -> RunConfig:
        """The run that differs from `config` in what is thought to make the transition: here weight decay."""
        return replace(config, weight_decay=0.0)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run: what is trained, for how long, and how it is watched and saved.

    Attributes:
        task: the family's settings.
        size: name of the preset that the settings started from.
        seed: seed of the data split, of the initial weights and of the batches.
        weight_decay: decay of the optimizer; 0 is the control.
        steps: optimizer steps to train.
        window: updates in the monitor's window.
        horizon: lags that the monitor records, at least `window`.
        observe_every: steps between two observations.
        eval_every: steps between two evaluations; step 1 and the last step are evaluated too.
        ladder: doublings that the monitor records beside its rows.
        store: "tensors" or "groups": what lag rows are recorded of.
        groups: glob over the names of the task's groups: those that are recorded.
        probe_parameters: whether the parameters themselves are probed at every observation.
        checkpoint_every: steps between two checkpoints; one is taken after a minute too.
        stop_after: steps to go on after the stop rule (test accuracy of at least 0.98 three times running) is met; None
            trains all steps.
        perturbation: a name of `kinds.KINDS`: what is done to the run on purpose; none by default.
        perturb_at: the step after which it begins.
        perturb_ramp: steps over which it grows from nothing to its full strength; 0 is abrupt.
        strength: how strong it is, in the kind's own unit; None is the kind's usual strength.
        device: "cpu" or "cuda", with an index if wanted. Whether there is one is asked when the run starts, so that a
            run can be planned on another machine.
    """

    task: TaskConfig
    size: str
    seed: int = 42
    weight_decay: float
    steps: int
    window: int = 10
    horizon: int = 40
    observe_every: int
    eval_every: int
    ladder: int = 0
    store: str = "tensors"
    groups: str = "*"
    probe_parameters: bool = False
    checkpoint_every: int
    stop_after: int | None = None
    perturbation: str = ""
    perturb_at: int | None = None
    perturb_ramp: int = 0
    strength: float | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("steps", "observe_every", "eval_every", "checkpoint_every"):
            require_int(name, getattr(self, name), least=1)
        require_int("seed", self.seed, least=0, most=MOST_SEED)
        require_int("window", self.window, least=2)
        require_int("horizon", self.horizon, least=self.window, remedy="record at least as many lags as the window has")
        require_int("ladder", self.ladder, least=0)
        require_choice("store", self.store, ("tensors", "groups"))
        require_number("weight_decay", self.weight_decay, remedy="use 0 for the control")
        if self.stop_after is not None:
            require_int("stop_after", self.stop_after, least=0, remedy="leave it out to train all steps")
        self._check_perturbation()
        _check_device(self.device)

    def _check_perturbation(self) -> None:
        require_int("perturb_ramp", self.perturb_ramp, least=0)
        if not self.perturbation:
            for name in ("perturb_at", "strength"):
                if getattr(self, name) is not None:
                    raise InputError(
                        name, expected="a perturbation that it belongs to", found="none", remedy="set perturbation too"
                    )
            return
        require_choice("perturbation", self.perturbation, tuple(KINDS))
        require_int("perturb_at", self.perturb_at, least=1, remedy="say after which step the perturbation begins")
        if self.strength is not None:
            require_number("strength", self.strength)
            KINDS[self.perturbation].check(self.strength)

    @property
    def family(self) -> str:
        """Name of the task's family."""
        return self.task.family

    def check_device(self) -> None:
        """Raise `InputError` where this machine lacks the run's device."""
        if torch.device(self.device).type == "cuda" and not torch.cuda.is_available():
            raise InputError("device", expected="a CUDA device", found="none on this machine", remedy="use device=cpu")

    def control(self) -> RunConfig:
        """The control of this run: no weight decay, or what the family has in its place; everything else the same."""
        return self.task.control(self)

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain types, the family's name included."""
        return {"family": self.family, **asdict(self)}

    def overrides(self) -> dict[str, Any]:
        """The options of `configure` that yield this configuration from its preset."""
        preset = type(self.task).preset(self.size)
        run = {name: getattr(self, name) for name in _run_fields() if getattr(self, name) != getattr(preset, name)}
        task = {
            name: getattr(self.task, name)
            for name in _task_fields(type(self.task))
            if getattr(self.task, name) != getattr(preset.task, name)
        }
        return {**run, **task}

    def command(self, out: str) -> str:
        """A shell command that repeats the run, whatever was changed from its preset.

        Args:
            out: the run's folder.
        """
        options = {"size": self.size, "seed": self.seed, **self.overrides()}
        # JSON's double quotes are Python's too, and leave the single ones to the shell.
        listed = "".join(
            f", {name}={json.dumps(value) if isinstance(value, str) else repr(value)}"
            for name, value in options.items()
        )
        call = f"run(configure({json.dumps(self.family)}{listed}), {json.dumps(out)})"
        return f"python -c {shlex.quote(f'from spectral_edge.experiments import configure, run; {call}')}"


def _run_fields() -> list[str]:
    return [field.name for field in fields(RunConfig) if field.name not in ("task", "size")]


def _task_fields(kind: type[TaskConfig]) -> list[str]:
    return [field.name for field in fields(kind)]


def with_options(preset: RunConfig, **options: Any) -> RunConfig:
    """A preset with some of its settings changed.

    Args:
        preset: where to start.
        options: fields of `RunConfig` or of its task's configuration.

    Returns:
        The new configuration, checked.

    Raises:
        InputError: for an option that neither has, or a value that is not accepted.
    """
    run_names, task_names = _run_fields(), _task_fields(type(preset.task))
    for name in options:
        if name not in run_names and name not in task_names:
            known = ", ".join(sorted(run_names + task_names))
            raise InputError(
                f"option {name} of {preset.family}", expected=f"one of {known}", found=name, remedy="correct the name"
            )
    task = replace(preset.task, **{name: value for name, value in options.items() if name in task_names})
    return replace(preset, task=task, **{name: value for name, value in options.items() if name in run_names})


def require_int(
    name: str, value: object, *, least: int, most: int | None = None, remedy: str = "correct the number"
) -> None:
    """Raise `InputError` unless `value` is a whole number from `least` to `most`, or any from there without one."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        wanted = f"a whole number >= {least}" if most is None else f"a whole number from {least} to {most}"
        raise InputError(name, expected=wanted, found=repr(value), remedy=remedy)


def require_number(
    name: str,
    value: object,
    *,
    below: float = math.inf,
    positive: bool = False,
    remedy: str = "correct the number",
) -> None:
    """Raise `InputError` unless 0 <= `value` < `below`, and above 0 where it must be positive."""
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if 0 < number < below or (number == 0 and not positive):
        return
    expected = f"a {'number' if below < math.inf else 'finite number'} {'above 0' if positive else '>= 0'}"
    expected += f" and below {below:g}" if below < math.inf else ""
    raise InputError(name, expected=expected, found=repr(value), remedy=remedy)


def require_share(name: str, value: object) -> None:
    """Raise `InputError` unless `value` lies from 0 to 1."""
    require_number(name, value, remedy="pass a share from 0 to 1")
    if isinstance(value, int | float) and value > 1:
        raise InputError(name, expected="a share from 0 to 1", found=repr(value), remedy="pass a share from 0 to 1")


def require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise `InputError` unless `value` is one of `choices`."""
    if value not in choices:
        raise InputError(name, expected=f"one of {', '.join(choices)}", found=repr(value), remedy="choose one of these")


def require_flag(name: str, value: object) -> None:
    """Raise `InputError` unless `value` is True or False."""
    if not isinstance(value, bool):
        raise InputError(name, expected="true or false", found=repr(value), remedy="pass one of the two")


def _check_device(name: str) -> None:
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError("device", expected="cpu or cuda", found=repr(name), remedy="pass device='cpu'")
