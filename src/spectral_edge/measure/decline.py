"""The published "decline" of g23 before grokking, and what structureless updates give (theory section 11, finding F5).

The statistic is a peak divided by a later value of the same series, so it is at least one whatever the data, and it
grows with the length of the run. It is given here beside its null.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DECLINED = 1.5
"""The published bar: a ratio above it counts as declined."""

_DRAWS = 200


def decline_pub(values: Array, steps: NDArray[np.int64], at: int) -> float:
    """Peak up to a step divided by the value at it, as published for g23.

    Args:
        values: one value for each full window [N], for instance g23, or its normalised form.
        steps: steps of the windows [N].
        at: the step of the transition; for a control the step of its twin's.

    Returns:
        The ratio over windows with step <= at; NaN if there is none or the last value is not positive.
    """
    before = values[steps <= at]
    before = before[np.isfinite(before)]
    if len(before) == 0 or before[-1] <= 0:
        return float("nan")
    return float(before.max() / before[-1])


@lru_cache(maxsize=64)
def decline_null(window: int, windows: int) -> tuple[float, float]:
    """Median and 95th percentile of the same ratio for updates of constant norm without any structure.

    In many dimensions the Gram matrix of such updates is the identity plus a small symmetric Gaussian matrix, whose
    scale leaves the ratio alone; so the null needs only the window and the number of windows.

    Args:
        window: number W of updates, at least 3.
        windows: number of successive full windows up to the transition.
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
        ratios[draw] = g23.max() / g23[-1]
    return float(np.median(ratios)), float(np.quantile(ratios, 0.95))
