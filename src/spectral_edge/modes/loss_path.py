"""The loss and its gradients along the chord between two observations, recorded so that a trace can decompose it.

The change of a loss over an update d is the line integral of its gradient along the chord from theta_t to
theta_t + d. What a decomposition needs of a gradient is its inner products with the window's updates: a probe row.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from spectral_edge.errors import InputError, Outcome
from spectral_edge.measure.attribution import GAUSS_NODES
from spectral_edge.modes.gradients import evaluated, gradient, hvp, loss_of
from spectral_edge.modes.undisturbed import Cost, Meter, Randomness, undisturbed
from spectral_edge.modes.vectors import Loss, Vector, added, displaced, named

GRADIENT, HESSIAN = "gradient", "hessian"
POINTS = ("gauss_1", "gauss_2")
LOSS, ROUNDING = "loss", "rounding"


class Watch(Protocol):
    """What is needed of a `Monitor`."""

    @property
    def observed(self) -> bool:
        """Whether the last step recorded an update."""
        ...

    @property
    def watched(self) -> tuple[str, ...]:
        """Names of the watched parameters."""
        ...

    @property
    def keeps_updates(self) -> bool:
        """Whether directions can be formed."""
        ...

    @property
    def baseline(self) -> tuple[int, int]:
        """Tells apart the snapshots from which an update can start: states loaded so far, and number of the newest."""
        ...

    @property
    def elapsed(self) -> int:
        """Calls of `step()` since the newest snapshot."""
        ...

    @property
    def probe(self) -> Callable[..., Any]:
        """Records vectors by their products with the updates."""
        ...

    @property
    def log(self) -> Callable[..., Any]:
        """Files numbers under the present step."""
        ...

    @property
    def note(self) -> Callable[..., Any]:
        """Notes what became of something, with a warning."""
        ...

    def newest_update(self) -> dict[str, Tensor]:
        """The newest update, by parameter name."""
        ...


def checked(monitor: Watch, names: Iterable[str], *, call: str, updates: str | None) -> None:
    """Refuses a monitor that cannot be followed, before the loop starts.

    Args:
        monitor: what was handed over as one.
        names: of the model's parameters.
        call: how the follower is constructed, for the message.
        updates: what to do about a monitor that keeps no updates; None where none are needed.

    Raises:
        InputError: if it is none, watches none of these parameters, or keeps no updates where they are needed.
    """
    if not hasattr(monitor, "newest_update"):
        raise InputError("monitor", expected="a Monitor", found=type(monitor).__name__, remedy=f"call {call}")
    if not set(names) & set(monitor.watched):
        raise InputError(
            "model",
            expected=f"the parameters that the monitor watches, such as {', '.join(monitor.watched[:2])}",
            found="other names",
            remedy="construct the monitor with the same model",
        )
    if updates is not None and not monitor.keeps_updates:
        raise InputError(
            "monitor",
            expected="one that keeps the updates: the exact engine, in one process",
            found="a sketch, or several ranks",
            remedy=updates,
        )


class LossPath:
    """Records a loss and its gradients along the path of a monitored run; `evaluate.loss.decompose` reads them back.

    Call `observe()` after every `monitor.step()`; it does something on observation steps only. It then evaluates the
    loss and its gradient where the model is, which is all that the trapezoid rule needs, and on request at the Gauss
    points of the chord that ends there, and the Hessian of the chord's start times the update. Recorded under `name`:
    probes `name/gradient`, `name/gauss_1`, `name/gauss_2`, `name/hessian`, and metrics `name/loss` and `name/rounding`
    (the loss's rounding unit at its value, below which a change means nothing).

    The loss must be one function of the parameters: of one batch, since two different batches would be read as a
    change. Every evaluation begins from the random state of the first one, so that a loss with dropout keeps its mask.
    Several losses take several paths of different names. Each gradient is kept until the next observation, where the
    monitor completes its products.

    Once constructed it never raises: what goes wrong is noted in the trace with a warning, and what was found before is
    recorded. Trainable parameters are looked up at every observation. Where some appear outside of the watch, how they
    moved is not known yet, and the points on that chord are left out (`PARAMETERS_CHANGED`).

    Args:
        monitor: a `Monitor`, with the exact engine and in one process for `gauss` and `curvature`.
        model: what the loss depends on; measured on undisturbed.
        loss: gives the loss of a fixed batch.
        name: under which everything is recorded.
        gauss: evaluate at the two Gauss points too, two more gradients an observation. With parameters outside the
            watch this keeps a copy of those, and starts at the second observation.
        curvature: record the Hessian at the chord's start times the update too, one Hessian-vector product.

    Attributes:
        outcome: what became of the last observation.

    Raises:
        InputError: if the monitor watches other parameters or keeps no updates, or the loss is no function.
    """

    def __init__(
        self,
        monitor: Watch,
        model: nn.Module,
        loss: Loss,
        *,
        name: str = "loss",
        gauss: bool = True,
        curvature: bool = False,
    ) -> None:
        remedy = 'construct it with engine="exact", or pass gauss=False, curvature=False'
        checked(
            monitor,
            named(model),
            call="LossPath(monitor, model, loss)",
            updates=remedy if gauss or curvature else None,
        )
        self._monitor, self._model, self._loss = monitor, model, loss_of(loss)
        self._name, self._gauss, self._curvature = name, gauss, curvature
        self._outside: Vector | None = None
        self._random: Randomness | None = None
        self._meter = Meter()
        self.outcome = Outcome.OK

    @property
    def cost(self) -> Cost:
        """Gradients, Hessian-vector products and seconds spent so far."""
        return self._meter.cost

    def observe(self) -> float | None:
        """Evaluates and records at an observation step.

        Returns:
            The loss; None where the last step was not observed, or the loss could not be evaluated.
        """
        if not self._monitor.observed:
            return None
        found: dict[str, Vector] = {}
        values: list[Tensor] = []
        outcome, why = Outcome.OK, ""
        try:
            with self._meter, undisturbed(self._model):
                outcome, why = self._evaluate(found, values)
        except Exception as error:
            outcome, why = Outcome.FAILED, f"could not be evaluated in full: {error}"
        if outcome not in (Outcome.OK, self.outcome):  # said once for as long as it lasts
            self._monitor.note(outcome, f"the path of {self._name!r} {why}")
        self.outcome = outcome
        if not values or not found:
            return None
        watched = set(self._monitor.watched)
        self._monitor.probe(
            **{
                f"{self._name}/{key}": {name: piece for name, piece in vector.items() if name in watched}
                for key, vector in found.items()
            }
        )
        value = float(values[0])
        rounding = abs(value) * torch.finfo(values[0].dtype).eps
        self._monitor.log(**{f"{self._name}/{LOSS}": value, f"{self._name}/{ROUNDING}": rounding})
        return value

    def _evaluate(self, found: dict[str, Vector], values: list[Tensor]) -> tuple[Outcome, str]:
        parameters = named(self._model)
        random = self._random = self._random or Randomness(parameters.values())

        def loss() -> Tensor:
            random.restore()
            value = evaluated(self._loss)
            values.append(value.detach())
            return value

        found[GRADIENT] = gradient(loss, parameters, meter=self._meter)
        if not (self._gauss or self._curvature):
            return Outcome.OK, ""
        chord, appeared = self._chord(parameters)
        if chord is None:
            if not appeared:
                return Outcome.OK, ""  # the first observation: the next one knows
            names = ", ".join(appeared[:3])
            return Outcome.PARAMETERS_CHANGED, f"has no chord at this update: {names} trained outside of the watch"
        if self._gauss:
            for point, node in zip(POINTS, GAUSS_NODES, strict=True):
                with displaced(parameters, chord, float(node) - 1.0):
                    found[point] = gradient(loss, parameters, meter=self._meter)
        if self._curvature:
            with displaced(parameters, chord, -1.0):
                found[HESSIAN] = hvp(loss, parameters, chord, meter=self._meter)
        return Outcome.OK, ""

    def _chord(self, parameters: Vector) -> tuple[Vector | None, list[str]]:
        """How the parameters moved since the last observation; None, and names, where that is not known of some."""
        update = self._monitor.newest_update()
        outside = {name: p.detach().clone() for name, p in parameters.items() if name not in update}
        before, self._outside = self._outside, outside
        if not outside:
            return update, []
        if before is None:
            return None, []
        appeared = [name for name in outside if name not in before]
        if appeared:
            return None, appeared
        return {**update, **added(outside, {name: before[name] for name in outside}, -1.0)}, []
