"""What the published detection ratio is expected to read when there is nothing but noise.

In many dimensions P a Gram matrix of W noise rows is nu^2 (P + sqrt(P) H) with H a Gaussian orthogonal matrix
(off-diagonal variance 1, diagonal variance 2), so that

    E sigma_W / d_crit = (P / (W-1))^(1/4) (1 - b_W / sqrt(P)) + O(P^(-3/4)),

with b_W half the mean distance of H's smallest eigenvalue from the mean of its lower half. The means of H's ordered
eigenvalues follow from its probability of having k eigenvalues above a point, which is a Pfaffian (de Bruijn 1955).
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError
from spectral_edge.theory.detection import detection_ratio_limit, detection_ratio_pub
from spectral_edge.theory.wishart import wishart

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]

LARGEST_WIDTH = 30
"""Beyond it draws are the cheaper way: the work grows with the fourth power."""


def detection_ratio_noise(*, parameters: float, width: int) -> float:
    """Expected published ratio of isotropic noise, to relative order 1 / P; at W = 2 exact.

    Args:
        parameters: number P of parameters.
        width: number W of rows, 2 to 30.

    Raises:
        InputError: if the width is outside that range or exceeds P.
    """
    if not 2 <= width <= min(LARGEST_WIDTH, parameters):
        raise InputError(
            "rows of the window",
            expected=f"2 to {LARGEST_WIDTH}, and no more than there are parameters",
            found=repr(width),
            remedy="draw longer windows with detection_ratio_draws",
        )
    order = goe_order_means(width)
    spread = 0.5 * float(order[width // 2 :].mean() - order[-1])
    return float(detection_ratio_limit(parameters=parameters, width=width)) * (1.0 - spread / np.sqrt(parameters))


def detection_ratio_draws(
    *, parameters: int, width: int, draws: int, generator: np.random.Generator
) -> tuple[float, float]:
    """Mean and standard error of the published ratio over exactly drawn windows of isotropic noise.

    Args:
        parameters: number P of parameters.
        width: number W of rows.
        draws: number of windows, at least 2.
        generator: source of randomness.
    """
    eigenvalues = np.linalg.eigvalsh(wishart(width, parameters, draws, generator))[:, ::-1]
    ratio = detection_ratio_pub(np.sqrt(np.maximum(eigenvalues, 0.0)), parameters=parameters)
    return float(ratio.mean()), float(ratio.std(ddof=1) / np.sqrt(draws))


@lru_cache(maxsize=64)
def goe_order_means(size: int) -> Array:
    """Expected ordered eigenvalues of a Gaussian orthogonal matrix, largest first [W], read-only.

    Off-diagonal entries have variance 1, diagonal ones 2.

    Args:
        size: number W of rows.
    """
    reach = 2.0 * np.sqrt(size) + 8.0
    points = np.linspace(-reach, reach, 1201)
    above = _counts_above(size, points)
    # P(j-th largest <= t) = P(fewer than j lie above t); the mean is the integral of its complement.
    below = np.cumsum(above, axis=1)[:, :size]
    means = reach - np.trapezoid(below, points, axis=0)
    means = 0.5 * (means - means[::-1])  # the law is symmetric about zero
    means.flags.writeable = False
    return means


def _counts_above(size: int, points: Array) -> Array:
    """Probability of exactly k = 0..W eigenvalues above each point [points, W + 1].

    The generating function E prod f(x_i), f = z above the point and 1 below it, is the Pfaffian of the skew
    products of f phi_j and f phi_k, bordered by the integrals of f phi_j where W is odd.
    """
    functions = _hermite(size, points)
    step = points[1] - points[0]
    # One factor carries the primitive of the other: <j, k> = int (Phi_j phi_k - Phi_k phi_j).
    primitive = _primitive(functions, step)
    total = primitive[:, -1]
    wedge = primitive[:, None, :] * functions[None, :, :]
    lower = _primitive(wedge - wedge.transpose(1, 0, 2), step)
    crossing = primitive[:, None, :] * (total[None, :, None] - primitive[None, :, :])
    crossing = crossing - crossing.transpose(1, 0, 2)
    upper = lower[:, :, -1:] - lower - crossing
    roots = np.exp(2j * np.pi * np.arange(size + 1) / (size + 1))
    bordered = size + size % 2
    value = np.empty((len(points), size + 1), dtype=np.complex128)
    for place, z in enumerate(roots):
        matrix = np.zeros((len(points), bordered, bordered), dtype=np.complex128)
        matrix[:, :size, :size] = (lower + z * crossing + z * z * upper).transpose(2, 0, 1)
        if size % 2:
            border = (primitive + z * (total[:, None] - primitive)).T
            matrix[:, :size, size], matrix[:, size, :size] = border, -border
        value[:, place] = _pfaffian(matrix)
    chance = np.fft.fft(value / value[:, :1], axis=1).real / (size + 1)
    return np.clip(chance, 0.0, 1.0)


def _hermite(size: int, points: Array) -> Array:
    """Hermite functions for the weight exp(-x^2 / 4), orthonormal [W, points]; any polynomial basis would do."""
    scaled = points / np.sqrt(2.0)
    found = np.empty((size, len(points)))
    found[0] = np.pi**-0.25 * np.exp(-0.5 * scaled**2)
    if size > 1:
        found[1] = np.sqrt(2.0) * scaled * found[0]
    for k in range(2, size):
        found[k] = np.sqrt(2.0 / k) * scaled * found[k - 1] - np.sqrt((k - 1.0) / k) * found[k - 2]
    return found


def _primitive(values: Array, step: float) -> Array:
    """Integral from the left end to each point, from a cubic through four neighbours: fourth order in the step."""
    inner = (-values[..., :-3] + 13.0 * values[..., 1:-2] + 13.0 * values[..., 2:-1] - values[..., 3:]) / 24.0
    # All functions vanish at the ends, so the outer cells hold nothing.
    cells = np.zeros(values.shape)
    cells[..., 2:-1] = inner
    return np.cumsum(cells, axis=-1) * step


def _pfaffian(matrix: Complex) -> Complex:
    """Pfaffians of skew-symmetric matrices [n, 2m, 2m] -> [n], by elimination of two rows at a time."""
    value = np.ones(len(matrix), dtype=np.complex128)
    while matrix.shape[-1] > 2:
        # The largest entry of the first row becomes the pivot; a simultaneous swap changes the sign.
        pivot = 1 + np.argmax(np.abs(matrix[:, 0, 1:]), axis=1)
        order = np.tile(np.arange(matrix.shape[-1]), (len(matrix), 1))
        everyone = np.arange(len(matrix))
        order[everyone, pivot] = 1
        order[:, 1] = pivot
        matrix = np.take_along_axis(matrix, order[:, :, None], axis=1)
        matrix = np.take_along_axis(matrix, order[:, None, :], axis=2)
        corner = matrix[:, 0, 1]
        value = value * corner * np.where(pivot == 1, 1.0, -1.0)
        first, second = matrix[:, 0, 2:], matrix[:, 1, 2:]
        outer = second[:, :, None] * first[:, None, :]
        matrix = matrix[:, 2:, 2:] + (outer - outer.transpose(0, 2, 1)) / corner[:, None, None]
    return value * matrix[:, 0, 1]
