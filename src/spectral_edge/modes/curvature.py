"""Curvature along the modes of a window, raw and as the optimizer feels it, with its error from several batches.

A direction v of updates is a displacement. A preconditioned step moves displacements by the matrix D^-1 H, which is
symmetric in the inner product a^T D b, so the curvature that belongs to v is the Rayleigh quotient of that product,

    h~(v) = v^T H v / v^T D v.

It is the quotient of D^-1/2 H D^-1/2 at D^1/2 v (not at v). It is exact where v is an eigenvector of D^-1 H, has an
error of second order nearby, and never leaves the range of that matrix's eigenvalues. The plain projection
v^T D^-1 H v is given beside it: of these properties it has the first only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from spectral_edge.errors import InputError
from spectral_edge.modes.gradients import losses_of
from spectral_edge.modes.hessian import Hessian
from spectral_edge.modes.preconditioner import Preconditioner, metric_of
from spectral_edge.modes.undisturbed import Cost, Meter, undisturbed
from spectral_edge.modes.vectors import Loss, dot, named
from spectral_edge.modes.window import Modes, directions_of

Array = NDArray[np.float64]

LEAST_BATCHES = 4
"""Fewer give no standard error to speak of."""


@dataclass(frozen=True, slots=True)
class ModeCurvature:
    """Curvature along directions, from B batches.

    Standard errors are those of the mean of independent batches. They say nothing about the bias that remains when the
    directions were made from the gradients of the same batches.

    Attributes:
        h: v^T H v along each direction [count], loss per squared parameter unit, at unit norm.
        h_error: its standard error [count].
        h_batches: h on each batch [B, count].
        preconditioned: h~ = v^T H v / v^T D v [count]; equal to h without a preconditioner.
        preconditioned_error: its standard error [count].
        projected: v^T D^-1 H v [count], the rate at which a displacement along v is undone along v.
        stiffness: the relaxation rate before its sign is looked at [count], per step: eta (h~ + omega) where all
            parameters share them.
        stiffness_error: its standard error [count].
        cost: of the measurement.
    """

    h: Array
    h_error: Array
    h_batches: Array
    preconditioned: Array
    preconditioned_error: Array
    projected: Array
    stiffness: Array
    stiffness_error: Array
    cost: Cost

    @property
    def rates(self) -> Array:
        """Relaxation rates kappa [count], per step; NaN where curvature and decay together do not restore."""
        return np.where(self.stiffness > 0, self.stiffness, np.nan)

    def metrics(self) -> dict[str, float]:
        """What `monitor.log(**...)` takes: `curvature_1`, ..., `relaxation_1`, ..., the rates."""
        found = {f"curvature_{j}": float(value) for j, value in enumerate(self.h, start=1)}
        return found | {f"relaxation_{j}": float(value) for j, value in enumerate(self.rates, start=1)}

    @property
    def rates_resolved(self) -> NDArray[np.bool_]:
        """Whether a rate exceeds two of its standard errors [count]."""
        return self.stiffness > 2 * self.stiffness_error


def mode_curvature(
    model: nn.Module,
    directions: Modes | Sequence[Mapping[str, Tensor]],
    losses: Sequence[Loss],
    *,
    preconditioner: Preconditioner | None = None,
) -> ModeCurvature:
    """Curvature along directions, one Hessian-vector product each on every batch.

    The model is as it was afterwards: weights, buffers, gradients, random state and modes of its modules.

    Args:
        model: its trainable parameters are what the Hessian refers to.
        directions: modes, or unit vectors by parameter name; missing names are zero.
        losses: the loss of each batch, four or more; better batches that the updates have not seen.
        preconditioner: of the optimizer; without one D = 1, and the rates are undefined.

    Raises:
        InputError: if there are fewer than four batches, a loss is none that can be differentiated twice, or a
            direction has parameters that the model has not, or that the preconditioner does not move.
    """
    losses, directions = losses_of(losses), directions_of(directions)
    metric = metric_of(preconditioner)
    if len(losses) < LEAST_BATCHES:
        raise InputError(
            "losses",
            expected=f"at least {LEAST_BATCHES} batches, for a standard error",
            found=str(len(losses)),
            remedy="split the data into more batches",
        )
    parameters = named(model)
    watched = {name for direction in directions for name in direction}
    if unknown := sorted(watched - parameters.keys()):
        raise InputError(
            "directions",
            expected="the names of trainable parameters",
            found=", ".join(unknown[:3]),
            remedy="form them from this model's monitor",
        )
    parameters = {name: tensor for name, tensor in parameters.items() if name in watched}
    scaled = None if metric is None else [metric.divided(v) for v in directions]
    h = np.empty((len(losses), len(directions)))
    projected = np.empty_like(h)
    meter = Meter()
    with undisturbed(model), meter:
        for b, loss in enumerate(losses):
            hessian = Hessian(loss, parameters, meter=meter)
            for j, direction in enumerate(directions):
                product = hessian @ direction
                h[b, j] = dot(direction, product)
                projected[b, j] = h[b, j] if scaled is None else dot(scaled[j], product)
    return _summary(h, projected, directions, metric, meter.cost)


def _summary(
    h: Array,
    projected: Array,
    directions: Sequence[Mapping[str, Tensor]],
    preconditioner: Preconditioner | None,
    cost: Cost,
) -> ModeCurvature:
    mean, error = h.mean(axis=0), h.std(axis=0, ddof=1) / np.sqrt(len(h))
    if preconditioner is None:
        unknown = np.full_like(mean, np.nan)
        return ModeCurvature(mean, error, h, mean, error, projected.mean(axis=0), unknown, unknown, cost)
    metric = np.array([preconditioner.metric(v) for v in directions])
    resistance = np.array([preconditioner.resistance(v) for v in directions])
    restoring = np.array([preconditioner.restoring(v) for v in directions])
    return ModeCurvature(
        h=mean,
        h_error=error,
        h_batches=h,
        preconditioned=mean / metric,
        preconditioned_error=error / metric,
        projected=projected.mean(axis=0),
        stiffness=(mean + restoring) / resistance,
        stiffness_error=error / resistance,
        cost=cost,
    )


def adiabatic_relax(adiabatic_rot: float, rates: Array, *, position: int, every: int) -> float:
    """Rotation of the leading directions per relaxation time: adiabatic_rot / (s kappa), a pure number.

    kappa is the mean rate of the modes on both sides of the gap. The published parameter divides by the learning rate
    alone (arXiv 2603.28964, the adiabatic parameter), which leaves a curvature's unit.

    Args:
        adiabatic_rot: |dM|_F / (lambda_k - lambda_k+1) per observation.
        rates: kappa per step, largest mode first [count]; NaN where undefined.
        position: k*, from 1.
        every: steps s per observation.

    Returns:
        NaN where a rate of the pair is undefined or was not measured.

    Raises:
        InputError: if the position or the every is below one.
    """
    for name, value in (("position", position), ("every", every)):
        if value < 1:
            raise InputError(name, expected="1 or more", found=str(value), remedy="count from one")
    if position >= len(rates):
        return float("nan")
    return float(adiabatic_rot / (every * rates[position - 1 : position + 1].mean()))
