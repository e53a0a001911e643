"""How far two batches' gradient steps are from commuting: from Hessian-vector products, and as published."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from spectral_edge.errors import InputError
from spectral_edge.modes.gradients import gradient, loss_of
from spectral_edge.modes.hessian import Hessian
from spectral_edge.modes.undisturbed import Cost, Meter, Randomness, undisturbed
from spectral_edge.modes.vectors import Loss, Vector, added, displaced, named, norm

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

    Gradient and product of a batch are those of one evaluation, and both batches of a pair begin from the same random
    state: with dropout the two steps are taken under the same mask.

    Args:
        model: measured on undisturbed, in float64 if gradients are tiny.
        pairs: the losses of two batches each; several, as single pairs scatter.

    Raises:
        InputError: if there is no pair, or a loss is none that can be differentiated twice.
    """
    checked = _pairs(pairs)
    parameters = named(model)
    meter, found = Meter(), []
    with meter, undisturbed(model):
        for loss_a, loss_b in checked:
            random = Randomness(parameters.values())
            a = Hessian(loss_a, parameters, meter=meter)
            random.restore()
            b = Hessian(loss_b, parameters, meter=meter)
            defect = added(b @ a.gradient, a @ b.gradient, -1.0)
            found.append((norm(defect), norm(a.gradient), norm(b.gradient)))
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
        InputError: if there is no pair, or a loss is none.
    """
    checked = _pairs(pairs)
    parameters = named(model)
    found: list[float] = []
    with undisturbed(model):
        for loss_a, loss_b in checked:
            random = Randomness(parameters.values())

            def slope(loss: Loss, random: Randomness = random) -> Vector:
                random.restore()  # the same dropout mask in all four
                return gradient(loss, parameters)

            g_a, g_b = slope(loss_a), slope(loss_b)
            ends: list[Vector] = []
            for first, then in ((g_a, loss_b), (g_b, loss_a)):
                with displaced(parameters, first, -learning_rate):
                    ends.append(added(parameters, slope(then), -learning_rate))
            size = learning_rate**2 * norm(g_a) * norm(g_b)
            found.append(norm(added(ends[0], ends[1], -1.0)) / size if size else float("nan"))
    return np.array(found)


def _pairs(pairs: Sequence[tuple[Loss, Loss]]) -> list[tuple[Loss, Loss]]:
    given = list(pairs) if isinstance(pairs, Sequence) else [pairs]  # pyright: ignore[reportUnnecessaryIsInstance]
    odd = [type(pair).__name__ for pair in given if not isinstance(pair, Sequence) or len(pair) != 2]  # pyright: ignore[reportUnnecessaryIsInstance]
    if odd or not given:
        raise InputError(
            "pairs",
            expected="at least one pair of losses",
            found=odd[0] if odd else "none",
            remedy="pass [(loss_a, loss_b), ...], several batches",
        )
    return [(loss_of(one), loss_of(other)) for one, other in given]
