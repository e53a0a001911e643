"""Shares of gradient and weight decay in the newest update along each mode, from a trace with recorded parts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectral_edge.evaluate.probed import ProbedTrace, Products, chain_windows, width_of
from spectral_edge.measure import attribution as parts
from spectral_edge.measure import grams, spectrum

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LifecycleSeries:
    """The two parts of N updates along the modes of the windows that end with them.

    Attributes:
        step: of the update [N].
        gradient: <v_j, gradient part> [N, W], in u; NaN below the rank floor.
        decay: <v_j, decay part> [N, W], in u.
        gradient_energy: |gradient part|^2 [N], in u^2.
        decay_energy: |decay part|^2 [N], in u^2.
        product: inner product of the two parts [N], in u^2.
    """

    step: NDArray[np.int64]
    gradient: Array
    decay: Array
    gradient_energy: Array
    decay_energy: Array
    product: Array

    @property
    def share(self) -> Array:
        """E_g / (E_g + E_w) by mode [N, W]; NaN without decay."""
        return parts.gradient_share(self.gradient, self.decay)

    @property
    def net(self) -> Array:
        """Signed share g / (g + w) by mode [N, W]; NaN without decay."""
        return parts.net_share(self.gradient, self.decay)

    @property
    def alignment(self) -> Array:
        """Sign of the product of the two parts by mode [N, W]: 1 together, -1 against each other; NaN without decay."""
        return np.where(self.decay == 0.0, np.nan, np.sign(self.gradient * self.decay))

    @property
    def cosine(self) -> Array:
        """Cosine of the two parts as whole vectors [N]; NaN without decay."""
        return parts.ratio(self.product, np.sqrt(self.gradient_energy * self.decay_energy))


def lifecycle(trace: ProbedTrace, window: int | None = None, *, group: str | None = None) -> LifecycleSeries:
    """Shares of gradient and decay in each observed update along the modes of its window (arXiv 2604.07380).

    Args:
        trace: recorded with a `DecayAccumulator`.
        window: number W of updates; that of the recorded run by default.
        group: a recorded group, with its own modes; None is the whole model.

    Raises:
        InputError: if it is no trace, or the window cannot be used.
        TraceError: if the parts were not recorded, or there is no such group.
    """
    width = width_of(trace, window)
    products = Products(trace, width, group, remedy="record with a DecayAccumulator")
    index = chain_windows(trace, width, group)
    gradient, first = products.at("lifecycle/gradient", index)
    decay, second = products.at("lifecycle/decay", index)
    keep = first & second
    index = index[keep]
    measured = spectrum(grams(trace.lag_rows(group), index, size=width))
    return LifecycleSeries(
        trace.steps[index],
        parts.mode_gradients(measured, gradient[keep]),
        parts.mode_gradients(measured, decay[keep]),
        products.between("lifecycle/gradient", "lifecycle/gradient", index),
        products.between("lifecycle/decay", "lifecycle/decay", index),
        products.between("lifecycle/gradient", "lifecycle/decay", index),
    )
