"""What of each observed update decoupled weight decay did, and what is left for the gradient."""

import math
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

from spectral_edge.errors import InputError, Outcome
from spectral_edge.modes.loss_path import Watch, checked
from spectral_edge.modes.vectors import Vector, added, named, norm
from spectral_edge.observe import normalise

GRADIENT_PART, DECAY_PART = "lifecycle/gradient", "lifecycle/decay"
"""Probes: the two parts of the update that ends at the observation."""
TRAPEZOID_ERROR = "lifecycle/trapezoid_error"
"""Metric: distance of the decay part from its approximation by the interval's two ends, relative to its norm."""

T = TypeVar("T")

_DECOUPLED = ("AdamW", "Adafactor", "Muon")
_UNCOUNTED = "the decay of a step could not be counted"

_Step = Sequence[tuple[float, Sequence[tuple[str, Tensor, Tensor]]]]
"""Of one optimizer step: eta omega, and name, parameter and its value at the step's start; by parameter group."""


class DecayAccumulator:
    """Sums the steps -eta omega theta of decoupled weight decay between observations; also a context manager.

    Hooks of the optimizer add each step's decay, at the value that a parameter has before the step and the learning
    rate that then holds: one vector of parameter size and one pass over it a step (and a copy of the parameters where
    a closure is given, as it makes the gradients that decide what decays). What the optimizer passes over is not
    counted: parameters without a gradient, and steps that a gradient scaler skips, inside a fused optimizer too. Call
    `observe()` after every `monitor.step()`.

    A total belongs to the update from one snapshot of the monitor to the next. Where the monitor takes a new baseline
    (NaN, a rewind, other parameters) the total starts anew there. Where the total is not known from the update's start
    on, as after a resume without `load_state_dict`, the update is left out with a note and a warning (`NOT_RECORDED`),
    and the next one is split again. Once constructed it never raises. `run_arms` does not count: see `paused`.

    What is left of an update is its gradient part: momentum, clipping, and what an `Intervention` did, if there is one.

    Args:
        monitor: a `Monitor` with the exact engine, in one process.
        model: whose parameters decay.
        optimizer: with decoupled decay: AdamW, Adam with decoupled_weight_decay, Adafactor, Muon; or SGD without
            momentum, where coupled decay is the same step.
        decoupled: True for another optimizer known to subtract eta omega theta from what it started its step with.

    Attributes:
        outcome: what became of the last observation.

    Raises:
        InputError: if the optimizer mixes decay into its gradient, so that an update has no decay part, or the monitor
            watches other parameters or keeps no updates.
    """

    def __init__(
        self, monitor: Watch, model: nn.Module, optimizer: torch.optim.Optimizer, *, decoupled: bool | None = None
    ) -> None:
        checked(
            monitor,
            named(model),
            call="DecayAccumulator(monitor, model, optimizer)",
            updates='construct it with engine="exact"',
        )
        if not (_decouples(optimizer) if decoupled is None else decoupled):
            raise InputError(
                "optimizer",
                expected="decoupled weight decay",
                found=f"{type(optimizer).__name__}, which mixes decay into the gradient",
                remedy="use AdamW, or say decoupled=True if the optimizer is known to decay apart from the gradient",
            )
        self._monitor, self._model, self._optimizer = monitor, model, optimizer
        self._names: dict[int, str] = {}
        self._known: list[Tensor] = []  # so that no other tensor gets the same id
        self._total: Vector = {}
        self._rates: dict[str, float] = {}
        self._steps = 0
        self._seen, self._restored = monitor.baseline, -1
        # The snapshot from which the total runs; None where it began between two.
        self._since = monitor.baseline if monitor.elapsed == 0 else None
        self._split: tuple[int, int] | None = None
        self._waiting: _Step | None = None
        self._paused = 0
        self.outcome = Outcome.OK
        self._hooks = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]
        _LIVE.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Takes the hooks off the optimizer."""
        for hook in self._hooks:
            hook.remove()

    @property
    def total(self) -> Vector:
        """The decay since the last observation, by parameter name; parameters that do not decay are missing."""
        return self._total

    def forget(self) -> None:
        """Starts anew; an update under way is left out."""
        self._catch_up()
        self._begin(self._seen, known=self._since is not None and not self._steps)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs between two observations: numbers, names and tensors only."""
        return {
            "total": {name: piece.clone() for name, piece in self._total.items()},
            "rates": dict(self._rates),
            "steps": self._steps,
            "snapshot": self._since[1] if self._since is not None else -1,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict()`, beside the monitor's state of the same checkpoint; in either order."""
        parameters = self._parameters()
        self._total = {name: piece.to(parameters[name].device).clone() for name, piece in state["total"].items()}
        self._rates, self._steps = dict(state["rates"]), int(state["steps"])
        self._restored, self._seen, self._waiting = int(state["snapshot"]), (-1, -1), None

    @torch.no_grad()
    def observe(self) -> tuple[Vector, Vector] | None:
        """At an observation step, splits the newest update and records both parts as probes.

        Returns:
            The gradient part and the decay part, which sum to the update; None where the last step was not observed, or
            the decay since the one before is not known in full.
        """
        found = None
        loads, snapshot = baseline = self._monitor.baseline
        if self._monitor.observed and self._split != baseline:
            self._split, start = baseline, (loads, snapshot - 1)
            if self._seen == self._since == start:
                found = self._tried(self._parts, "the parts of this update could not be found")
            else:
                self._say(
                    Outcome.NOT_RECORDED,
                    "the decay since the last observation is not known in full; the parts of this update are left out",
                )
        self._catch_up()
        return found

    def _parts(self) -> tuple[Vector, Vector]:
        update = self._monitor.newest_update()
        decay = {name: self._total.get(name, torch.zeros_like(piece)) for name, piece in update.items()}
        gradient = added(update, decay, -1.0)
        rough = decay_trapezoid(self._parameters(), update, self._rates, steps=self._steps)
        self._monitor.probe(**{GRADIENT_PART: gradient, DECAY_PART: decay})
        size = norm(decay)
        self._monitor.log(**{TRAPEZOID_ERROR: norm(added(rough, decay, -1.0)) / size if size else math.nan})
        self.outcome = Outcome.OK
        return gradient, decay

    def _tried(self, attempt: Callable[[], T], failure: str) -> T | None:
        """What watches must not end what it watches."""
        try:
            return attempt()
        except Exception as error:
            self._begin(self._seen, known=False)
            self._say(Outcome.FAILED, f"{failure}: {error}")
            return None

    def _say(self, outcome: Outcome, message: str) -> None:
        if outcome != self.outcome:  # once for as long as it lasts
            self._monitor.note(outcome, message)
        self.outcome = outcome

    def _begin(self, baseline: tuple[int, int], *, known: bool) -> None:
        self._total, self._rates, self._steps, self._waiting = {}, {}, 0, None
        self._seen, self._since = baseline, baseline if known else None

    def _catch_up(self) -> None:
        """Starts anew where the monitor has taken a snapshot since; no step of the optimizer lies between."""
        baseline = self._monitor.baseline
        if baseline == self._seen:
            return
        if self._restored >= 0 and self._restored == baseline[1]:
            self._seen = self._since = baseline
        else:
            # After a resume the snapshot may lie back, and with it decay that was not seen.
            self._begin(baseline, known=baseline[0] == self._seen[0] or self._monitor.elapsed == 0)
        self._restored = -1

    @torch.no_grad()
    def _before_step(self, optimizer: torch.optim.Optimizer, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._waiting = None
        if not self._paused:
            closure = given[1] if len(given) > 1 else named.get("closure")
            self._tried(lambda: self._step(optimizer, closed=closure is not None), _UNCOUNTED)

    @torch.no_grad()
    def _after_step(self, optimizer: torch.optim.Optimizer, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._tried(lambda: self._count(waiting), _UNCOUNTED)

    def _step(self, optimizer: torch.optim.Optimizer, *, closed: bool) -> None:
        self._catch_up()
        overflow = getattr(optimizer, "found_inf", None)
        if overflow is not None and float(overflow):
            return  # a fused optimizer takes this step and changes nothing
        step = self._decaying(optimizer)
        if closed:  # the gradients do not exist yet, and afterwards the values will be gone
            self._waiting = [(rate, [(n, p, value.clone()) for n, p, value in each]) for rate, each in step]
        else:
            self._count(step)

    def _decaying(self, optimizer: torch.optim.Optimizer) -> _Step:
        step: list[tuple[float, list[tuple[str, Tensor, Tensor]]]] = []
        for group in optimizer.param_groups:
            if any(id(p) not in self._names for p in group["params"]):
                self._know(group["params"])
            rate = float(group["lr"]) * float(group.get("weight_decay", 0.0))
            names = [(self._names[id(p)], p) for p in group["params"]] if rate else []
            step.append((rate, [(name, p, p.detach()) for name, p in names if name]))
        return step

    def _count(self, step: _Step) -> None:
        self._steps += 1
        for rate, each in step:
            # Optimizers pass over parameters without a gradient, and with them over their decay.
            moving = [(name, value) for name, p, value in each if p.grad is not None]
            for name, value in moving:
                if name not in self._total:
                    dtype = torch.promote_types(value.dtype, torch.float32)
                    self._total[name] = torch.zeros_like(value, dtype=dtype)
                self._rates[name] = self._rates.get(name, 0.0) + rate
            if moving:
                totals = [self._total[name] for name, _ in moving]
                wide = [value.to(total) for (_, value), total in zip(moving, totals, strict=True)]
                torch._foreach_add_(totals, wide, alpha=-rate)  # pyright: ignore

    def _know(self, parameters: Iterable[Tensor]) -> None:
        """Looks names up, of frozen parameters too, as they may train later; no name for what is not the model's."""
        names = {id(p): normalise(name) for name, p in self._model.named_parameters()}
        for p in parameters:
            if id(p) not in self._names:
                self._known.append(p)
                self._names[id(p)] = names.get(id(p), "")

    def _parameters(self) -> Vector:
        return {normalise(name): p for name, p in self._model.named_parameters()}

    def pause(self, by: int) -> None:
        """Counts no steps while it is paused, for `paused`."""
        self._paused += by

    def follows(self, parameters: Iterable[Tensor]) -> bool:
        """Whether one of these is a parameter of its model."""
        ours = {id(p) for p in self._model.parameters()}
        return any(id(p) in ours for p in parameters)


_LIVE: "weakref.WeakSet[DecayAccumulator]" = weakref.WeakSet()


@contextmanager
def paused(model: nn.Module) -> Generator[None]:
    """Steps taken inside are no part of the run: what follows the model's optimizer steps does not count them.

    For steps whose effect is put back afterwards. What is constructed inside counts.

    Args:
        model: whose parameters take the steps.
    """
    parameters = list(model.parameters())
    following = [one for one in _LIVE if one.follows(parameters)]
    for one in following:
        one.pause(1)
    try:
        yield
    finally:
        for one in following:
            one.pause(-1)


def decay_trapezoid(
    parameters: Mapping[str, Tensor], update: Mapping[str, Tensor], rates: Mapping[str, float], *, steps: int
) -> Vector:
    """The decay between two observations from the parameters at its ends, at a constant rate and along a straight path.

    Decay acts on what each step starts with, so the mean over the steps is theta_{t+1} - (1 + 1/s) d / 2 and not the
    chord's middle: the difference is all of the error at one step an observation. Needs no pass at each step.

    Args:
        parameters: at the later end.
        update: d, from the earlier to the later end.
        rates: sum of eta omega over the steps between, by parameter name; missing names do not decay.
        steps: number s of steps between.
    """
    back = 0.5 * (1.0 + 1.0 / max(steps, 1))
    return {
        name: -rates[name] * (parameters[name].detach() - back * piece) if name in rates else torch.zeros_like(piece)
        for name, piece in update.items()
    }


def _decouples(optimizer: torch.optim.Optimizer) -> bool:
    groups = optimizer.param_groups
    if isinstance(optimizer, torch.optim.SGD):
        return not any(group["momentum"] or group["maximize"] for group in groups)
    if any("decoupled_weight_decay" in group for group in groups):
        return all(group.get("decoupled_weight_decay") for group in groups)
    return type(optimizer).__name__ in _DECOUPLED
