"""The published "decline" of g23 before grokking, and what structureless updates give (theory section 11, finding F5).

The statistic is a peak divided by a later value of the same series, so it is above one unless the series ends at a
maximum, and it grows with the length of the run. It is given here beside its null.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DECLINED = 1.5
"""The published bar: a ratio above it counts as declined."""

_DRAWS = 200


@dataclass(frozen=True, slots=True)
class Decline:
    """How far a positive quantity fell.

    Attributes:
        peak_step: step of the largest value before the last.
        peak: that value.
        step: step of the last value.
        value: the last value.
    """

    peak_step: int
    peak: float
    step: int
    value: float

    @property
    def fold(self) -> float:
        """Peak over value: the published decline. Above 1 unless the last value exceeds everything before it."""
        return self.peak / self.value


def decline_pub(values: Array, steps: NDArray[np.int64]) -> Decline | None:
    """The published decline of a series up to its last value: the peak of all before, divided by it.

    Args:
        values: one value for each full window up to the transition [N], for instance g23; for a control up to the
            step of its twin's transition.
        steps: steps of the windows [N].

    Returns:
        The decline; None with fewer than two values, or where peak or last value is not positive.
    """
    before = values[:-1]
    if len(before) == 0 or not np.isfinite(before).any() or not values[-1] > 0:
        return None
    peak = int(np.nanargmax(before))
    if not before[peak] > 0:
        return None
    return Decline(int(steps[peak]), float(before[peak]), int(steps[-1]), float(values[-1]))


@lru_cache(maxsize=64)
def decline_null(window: int, windows: int) -> tuple[float, float]:
    """Median and 95th percentile of the same ratio for updates of constant norm without any structure.

    In many dimensions the Gram matrix of such updates is the identity plus a small symmetric Gaussian matrix, whose
    scale leaves the ratio alone; so the null needs only the window and the number of windows.

    Args:
        window: number W of updates, at least 3.
        windows: number of successive full windows up to the transition, at least 2.
    """
    rng = np.random.default_rng(20_260_328)
    total = window + windows - 1
    ends = np.arange(windows)[:, None] + np.arange(window)
    ratios = np.empty(_DRAWS)
    for draw in range(_DRAWS):
        noise = rng.standard_normal((total, total))
        noise = (noise + noise.T) / np.sqrt(2)
        np.fill_diagonal(noise, 0.0)
        eigenvalues = np.linalg.eigvalsh(noise[ends[:, :, None], ends[:, None, :]])
        g23 = eigenvalues[:, -2] - eigenvalues[:, -3]
        ratios[draw] = g23[:-1].max() / g23[-1]
    return float(np.median(ratios)), float(np.quantile(ratios, 0.95))
