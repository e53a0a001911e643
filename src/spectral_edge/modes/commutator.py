"""How far two batches' gradient steps are from commuting: from Hessian-vector products, and as published."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from spectral_edge.errors import InputError
from spectral_edge.modes.gradients import gradient, hvp
from spectral_edge.modes.undisturbed import Cost, Meter, undisturbed
from spectral_edge.modes.vectors import Loss, added, displaced, named, norm

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CommutatorDefect:
    """The defect over K pairs of batches; medians over the pairs are properties.

    Attributes:
        defect: |H_B g_A - H_A g_B| for each pair [K], in loss^2 u^-3.
        gradient_a: |g_A| [K], in loss per u.
        gradient_b: |g_B| [K], in loss per u.
        cost: what the measurement took.
    """

    defect: Array
    gradient_a: Array
    gradient_b: Array
    cost: Cost

    @property
    def median(self) -> float:
        """Median of the unnormalised defect, which vanishes with the gradients."""
        return float(np.median(self.defect))

    @property
    def normalised(self) -> Array:
        """|H_B g_A - H_A g_B| / (|g_A| |g_B|) [K], in 1/u, so no pure number; NaN where a gradient is zero."""
        size = self.gradient_a * self.gradient_b
        return np.where(size > 0, self.defect / np.where(size > 0, size, 1.0), np.nan)

    @property
    def median_normalised(self) -> float:
        """Median of the normalised defect: the limit of the published one for small steps."""
        return float(np.median(self.normalised))


def commutator_defect(model: nn.Module, pairs: Sequence[tuple[Loss, Loss]]) -> CommutatorDefect:
    """|H_B g_A - H_A g_B| for pairs of batches, by two gradients and two Hessian-vector products a pair.

    A gradient step on A and then one on B ends eta^2 (H_B g_A - H_A g_B) + O(eta^3) away from the steps in the other
    order, so this is the published defect's numerator over eta^2 without its cancellation. Normalised it is a quotient
    of quantities that vanish together once the training loss is near zero (arXiv 2602.16746 reports the normalised).

    Args:
        model: measured on undisturbed, in float64 if gradients are tiny.
        pairs: the losses of two batches each; several, as single pairs scatter.

    Raises:
        InputError: if there is no pair.
    """
    _require(pairs)
    parameters = named(model)
    meter, found = Meter(), []
    with meter, undisturbed(model):
        for loss_a, loss_b in pairs:
            g_a = gradient(loss_a, parameters, meter=meter)
            g_b = gradient(loss_b, parameters, meter=meter)
            crossed = hvp(loss_b, parameters, g_a, meter=meter)
            defect = added(crossed, hvp(loss_a, parameters, g_b, meter=meter), -1.0)
            found.append((norm(defect), norm(g_a), norm(g_b)))
    columns = np.array(found).T
    return CommutatorDefect(columns[0], columns[1], columns[2], meter.cost)


def commutator_defect_pub(
    model: nn.Module, pairs: Sequence[tuple[Loss, Loss]], *, learning_rate: float = 1e-3
) -> Array:
    """|theta_AB - theta_BA| / (|eta g_A| |eta g_B|) for each pair [K], by taking both steps in both orders.

    As in arXiv 2602.16746. In float32 the numerator, of order eta^2, is lost to rounding long before it vanishes.

    Args:
        model: measured on undisturbed.
        pairs: the losses of two batches each.
        learning_rate: eta of the plain gradient steps.

    Returns:
        NaN where a gradient is zero.

    Raises:
        InputError: if there is no pair.
    """
    _require(pairs)
    parameters = named(model)
    found: list[float] = []
    with undisturbed(model):
        for loss_a, loss_b in pairs:
            g_a, g_b = gradient(loss_a, parameters), gradient(loss_b, parameters)
            ends = [
                _two_steps(parameters, first, then, learning_rate) for first, then in ((g_a, loss_b), (g_b, loss_a))
            ]
            size = learning_rate**2 * norm(g_a) * norm(g_b)
            found.append(norm(added(ends[0], ends[1], -1.0)) / size if size else float("nan"))
    return np.array(found)


def _two_steps(
    parameters: Mapping[str, Tensor], first: dict[str, Tensor], then: Loss, rate: float
) -> dict[str, Tensor]:
    """Where a step along a given gradient and then one on another loss lead to."""
    with displaced(parameters, first, -rate):
        second = gradient(then, parameters)
        return added({name: p.detach() for name, p in parameters.items()}, second, -rate)


def _require(pairs: Sequence[tuple[Loss, Loss]]) -> None:
    if not pairs:
        raise InputError("pairs", expected="at least one pair of losses", found="none", remedy="pass several batches")
