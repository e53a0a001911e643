"""Arms of an intervention from one common checkpoint: the same weights, optimizer state, batches and random numbers."""

import copy
import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spectral_edge.errors import InputError, Outcome
from spectral_edge.modes.interventions import Intervention
from spectral_edge.modes.lifecycle import paused
from spectral_edge.modes.undisturbed import Standing
from spectral_edge.modes.vectors import named

Array = NDArray[np.float64]


class Training(Protocol):
    """What a trial needs of a run; every task of `spectral_edge.experiments` is one.

    Whatever decides the future of the run beyond the model (optimizer, schedule, batch generator) is in `state_dict`.

    Attributes:
        model: the network.
    """

    @property
    def model(self) -> nn.Module: ...  # noqa: D102

    def train_step(self) -> Any:
        """Take one optimizer step."""
        ...

    def evaluate(self) -> Mapping[str, float]:
        """Metrics by name."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides the future of the run."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`'s value."""
        ...


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One arm of a trial.

    Attributes:
        name: how its result is called.
        kind: one of `interventions.ARMS`.
        along: label of the direction; needed by all kinds but "none" and "shrink_all" with a budget.
        onto: label of the direction that "rotate" turns to.
        budget: name of an earlier arm whose removed shares are removed here too, step by step.
        factor: of "shrink" and "amplify".
        angle: of "rotate", in degrees.
        restore_norm: whether the altered update gets its norm back.
    """

    name: str
    kind: str = "remove"
    along: str = ""
    onto: str | None = None
    budget: str | None = None
    factor: float | None = None
    angle: float = 90.0
    restore_norm: bool = False


@dataclass(frozen=True, slots=True)
class ArmResult:
    """What became of one arm.

    Attributes:
        name: of the arm.
        outcome: the preregistered metric after the last step; NaN where it was not finite.
        steps: steps since the checkpoint at which metrics were taken.
        metrics: every metric at these steps, by name.
        shares: removed share of each update's energy [T]; NaN where an update was left as it was.
        removed_share: removed energy of all steps as a share of their energy.
        displacement: root mean square of the change of an update over that of the updates.
        cosine: mean cosine between an update and what became of it.
        left_out: number of updates left as they were, by reason.
    """

    name: str
    outcome: float
    steps: NDArray[np.intp]
    metrics: Mapping[str, Array]
    shares: Array
    removed_share: float
    displacement: float
    cosine: float
    left_out: Mapping[str, int]


def run_arms(
    task: Training,
    arms: Sequence[Arm],
    directions: Mapping[str, Mapping[str, Tensor]],
    *,
    steps: int,
    outcome: str = "test_loss",
    evaluate_every: int | None = None,
) -> dict[str, ArmResult]:
    """Runs every arm from where the task stands, and puts the task back there.

    The model is put back as it stands, with buffers that no state dictionary holds, gradients, training flags and
    random states of torch, NumPy and Python. A `DecayAccumulator` on the model does not count the arms' steps.

    Args:
        task: a run at its checkpoint.
        arms: what to do, in order; an arm whose shares another one replays comes before it.
        directions: frozen directions by label.
        steps: optimizer steps of each arm.
        outcome: the metric that is judged, after the last step; choose it before looking.
        evaluate_every: steps between evaluations; by default only the last is evaluated.

    Returns:
        Results by name of the arm.

    Raises:
        InputError: if an arm names a direction or an earlier arm that does not exist, two arms share a name, steps are
            none, or the task does not report the outcome.
    """
    if not hasattr(task, "train_step"):
        raise InputError(
            "task",
            expected="a run with model, train_step(), evaluate(), state_dict() and load_state_dict()",
            found=type(task).__name__,
            remedy="wrap the model, its optimizer and its batches in one object",
        )
    _check(arms, directions, steps)
    results: dict[str, ArmResult] = {}
    parameters = named(task.model)
    with _checkpoint(task) as restore:
        for arm in arms:
            restore()
            used = [label for label in (arm.along, arm.onto) if label]
            # Arms that need no direction still report the component along one, any one.
            chosen = [directions[label] for label in used] or [_any(parameters)]
            with Intervention(
                parameters,
                chosen,
                arm=arm.kind,
                factor=arm.factor,
                onto=2 if arm.onto else None,
                angle=arm.angle,
                budget=None if arm.budget is None else results[arm.budget].shares,
                restore_norm=arm.restore_norm,
            ) as intervention:
                measured: dict[str, list[float]] = {}
                at: list[int] = []
                for step in range(1, steps + 1):
                    task.train_step()
                    intervention.step()
                    if step == steps or (evaluate_every and step % evaluate_every == 0):
                        at.append(step)
                        for name, value in task.evaluate().items():
                            measured.setdefault(name, []).append(float(value))
            if outcome not in measured:
                raise InputError(
                    "outcome",
                    expected=" | ".join(measured) or "a metric of the task",
                    found=repr(outcome),
                    remedy="name one of the metrics that evaluate() returns",
                )
            results[arm.name] = _summary(arm.name, outcome, at, measured, intervention)
    return results


def _summary(
    name: str, outcome: str, at: Sequence[int], measured: Mapping[str, Sequence[float]], done: Intervention
) -> ArmResult:
    acts = [act for act in done.acts if act.outcome == Outcome.OK]
    energy = sum(act.norm_before**2 for act in acts)
    removed = sum(act.removed_energy for act in acts)
    moved = sum(act.displacement**2 for act in acts)
    cosines = [act.cosine for act in acts if math.isfinite(act.cosine)]
    left_out: dict[str, int] = {}
    for act in done.acts:
        if act.outcome != Outcome.OK:
            left_out[str(act.outcome)] = left_out.get(str(act.outcome), 0) + 1
    final = measured[outcome][-1]
    return ArmResult(
        name=name,
        outcome=final if math.isfinite(final) else math.nan,
        steps=np.array(at, dtype=np.intp),
        metrics={key: np.array(values) for key, values in measured.items()},
        shares=done.shares,
        removed_share=removed / energy if energy > 0 else math.nan,
        displacement=math.sqrt(moved / energy) if energy > 0 else math.nan,
        cosine=float(np.mean(cosines)) if cosines else math.nan,
        left_out=left_out,
    )


def _check(arms: Sequence[Arm], directions: Mapping[str, Mapping[str, Tensor]], steps: int) -> None:
    known: set[str] = set()
    for arm in arms:
        if arm.name in known:
            raise InputError("arms", expected="names that differ", found=f"{arm.name} twice", remedy="rename one")
        needed = [arm.onto] if arm.onto is not None else []
        if arm.along or not (arm.kind == "none" or (arm.kind == "shrink_all" and arm.budget is not None)):
            needed.append(arm.along)
        for label in needed:
            if label not in directions:
                raise InputError(
                    f"direction of the arm {arm.name}",
                    expected=" | ".join(directions) or "a direction",
                    found=repr(label),
                    remedy="pass it in directions",
                )
        if arm.budget is not None and arm.budget not in known:
            raise InputError(
                f"budget of the arm {arm.name}",
                expected=" | ".join(sorted(known)) or "an earlier arm",
                found=repr(arm.budget),
                remedy="put that arm before this one",
            )
        known.add(arm.name)
    if steps < 1:
        raise InputError("steps", expected="at least 1", found=str(steps), remedy="train on")


def _any(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    name, tensor = next(iter(parameters.items()))
    return {name: torch.ones_like(tensor)}


@contextmanager
def _checkpoint(task: Training) -> Generator[Any]:
    """Gives a function that puts the task back to where it stood; done once more on leaving."""
    # Optimizers take over the tensors of a state that they are given, so each arm gets a copy of its own.
    state, standing = copy.deepcopy(task.state_dict()), Standing(task.model)

    def restore() -> None:
        task.load_state_dict(copy.deepcopy(state))
        standing.restore()

    with paused(task.model):
        try:
            yield restore
        finally:
            restore()
