"""The loss and its gradients along the chord between two observations, recorded so that a trace can decompose it.

The change of a loss over an update d is the line integral of its gradient along the chord from theta_t to
theta_t + d. What a decomposition needs of a gradient is its inner products with the window's updates: a probe row.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from spectral_edge.errors import InputError
from spectral_edge.measure.attribution import GAUSS_NODES
from spectral_edge.modes.gradients import gradient, hvp
from spectral_edge.modes.undisturbed import Cost, Meter, undisturbed
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
    def probe(self) -> Callable[..., Any]:
        """Records vectors by their products with the updates."""
        ...

    @property
    def log(self) -> Callable[..., Any]:
        """Files numbers under the present step."""
        ...

    def newest_update(self) -> dict[str, Tensor]:
        """The newest update, by parameter name."""
        ...


class LossPath:
    """Records a loss and its gradients along the path of a monitored run; `evaluate.loss.decompose` reads them back.

    Call `observe()` after every `monitor.step()`; it does something on observation steps only. It then evaluates the
    loss and its gradient where the model is, which is all that the trapezoid rule needs, and on request at the Gauss
    points of the chord that ends there, and the Hessian of the chord's start times the update. Recorded under `name`:
    probes `name/gradient`, `name/gauss_1`, `name/gauss_2`, `name/hessian`, and metrics `name/loss` and `name/rounding`
    (the loss's rounding unit at its value, below which a change means nothing).

    The loss must be deterministic (evaluation mode, one batch): two different batches or dropout masks would be read
    as a change. Several losses take several paths of different names. Each gradient is kept until the next
    observation, where the monitor completes its products.

    Args:
        monitor: a `Monitor` with the exact engine, in one process.
        model: what the loss depends on; measured on undisturbed.
        loss: gives the loss of a fixed batch.
        name: under which everything is recorded.
        gauss: evaluate at the two Gauss points too, two more gradients an observation. With parameters outside the
            watch this keeps a copy of those, and starts at the second observation.
        curvature: record the Hessian at the chord's start times the update too, one Hessian-vector product.
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
        self._monitor, self._model, self._loss = monitor, model, loss
        self._name, self._gauss, self._curvature = name, gauss, curvature
        self._parameters = named(model)
        self._outside: Vector | None = None
        self._meter = Meter()

    @property
    def cost(self) -> Cost:
        """Gradients, Hessian-vector products and seconds spent so far."""
        return self._meter.cost

    def observe(self) -> float | None:
        """Evaluates and records at an observation step.

        Returns:
            The loss, or None where the last step was not observed.

        Raises:
            InputError: if the loss is no scalar, or inner points are wanted of a monitor that keeps no updates.
        """
        if not self._monitor.observed:
            return None
        found: dict[str, Vector] = {}
        values: list[Tensor] = []

        def recorded() -> Tensor:
            value = self._loss()
            if value.ndim:
                raise InputError(
                    "loss", expected="a scalar", found=f"shape {tuple(value.shape)}", remedy="take the batch's mean"
                )
            values.append(value.detach())
            return value

        with self._meter, undisturbed(self._model):
            found[GRADIENT] = gradient(recorded, self._parameters, meter=self._meter)
            chord = self._chord() if self._gauss or self._curvature else None
            if chord is not None:
                if self._gauss:
                    for point, node in zip(POINTS, GAUSS_NODES, strict=True):
                        with displaced(self._parameters, chord, float(node) - 1.0):
                            found[point] = gradient(self._loss, self._parameters, meter=self._meter)
                if self._curvature:
                    with displaced(self._parameters, chord, -1.0):
                        found[HESSIAN] = hvp(self._loss, self._parameters, chord, meter=self._meter)
        self._monitor.probe(**{f"{self._name}/{key}": vector for key, vector in found.items()})
        value = float(values[0])
        rounding = abs(value) * torch.finfo(values[0].dtype).eps
        self._monitor.log(**{f"{self._name}/{LOSS}": value, f"{self._name}/{ROUNDING}": rounding})
        return value

    def _chord(self) -> Vector | None:
        """How all parameters moved since the last observation; None where that is not known of the unwatched ones."""
        update = self._monitor.newest_update()
        outside = {name: p.detach().clone() for name, p in self._parameters.items() if name not in update}
        before, self._outside = self._outside, outside
        if not outside:
            return update
        return None if before is None else {**update, **added(outside, before, -1.0)}
