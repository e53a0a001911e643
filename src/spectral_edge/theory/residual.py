"""Whether steps of singular values are those of the Dyson diffusion: residuals against its exact transition law.

The residual against one Euler step of the drift would be the obvious test. It is kept (`euler_residual`), but at
beta = 1 its mean square is infinite: the drift has 1/gap, and close encounters have a density proportional to the gap.
It also fails the diffusion itself where levels move by more than their spacing between two observations.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError
from spectral_edge.theory.dyson import Dyson, sigma_drift
from spectral_edge.theory.laguerre import transition_sample

Array = NDArray[np.float64]

_FRESH = 8
"""Further draws for each state that say what the residual of a true step would be."""


@dataclass(frozen=True, slots=True)
class Residuals:
    """Steps compared with the diffusion.

    Attributes:
        squared: squared residual of each step [N] over its mean under the model; mean 1 where the model is right.
        past: share of steps in which some level went beyond where its neighbour had been.
        past_expected: the same share under the model.
    """

    squared: Array
    past: float
    past_expected: float


def euler_residual(before: Array, after: Array, time: float, law: Dyson) -> Array:
    """(Delta sigma - time drift) / sqrt(time), [N, W] twice -> [N, W]: the residual of an Euler step.

    Standard normal for a short time and separate levels; its mean square is infinite at beta = 1.

    Args:
        before: singular values.
        after: those a time later.
        time: between them.
        law: the diffusion.
    """
    return (after - before - time * sigma_drift(before, law)) / time**0.5


def past_neighbours(before: Array, after: Array) -> NDArray[np.bool_]:
    """Steps in which a level ends beyond where a neighbour began, [N, W] twice -> [N].

    Exchanging one row never does this: dropping a row lowers each level to no less than the next one was, and adding
    one raises it to no more than the next one was (Cauchy's interlacing, once each way). A diffusion may.
    """
    passed = (after[:, 1:] > before[:, :-1]) | (after[:, :-1] < before[:, 1:])
    return np.any(passed, axis=-1, keepdims=True)[:, 0]


def matched_diffusion(width: int, parameters: int, *, clock: float = 1.0) -> tuple[Dyson, float]:
    """(R5): the damped diffusion that a rolling window of noise is closest to, one unit of time an observation.

    An exchanged row moves one row in W by variance 2 nu^2 an entry, 2 nu^2 / W on average over all entries, and the
    entries' variance nu^2 stays. So kappa = clock / W with clock 1; other clocks serve to show that none fits.

    Args:
        width: number W of rows.
        parameters: number of columns, or the effective dimension of the noise.
        clock: factor on the rate.

    Returns:
        The diffusion, and the factor that brings singular values in units of nu to its own unit.
    """
    rate = clock / width
    return Dyson(parameters=parameters, beta=1.0, damping=rate), float((2 * rate) ** -0.5)


def residuals(
    before: Array, after: Array, time: float, law: Dyson, *, draws: int, generator: np.random.Generator
) -> Residuals:
    """Compares steps of singular values with exact draws of the diffusion from the same states.

    The squared residual is Mahalanobis' distance of the step from the model's mean with the model's covariance. What a
    true step would give is found from fresh draws, so no law is assumed for it.

    Args:
        before: singular values [N, W], in the unit of the diffusion.
        after: those a time later [N, W].
        time: between them.
        law: the diffusion, with beta 1 or 2.
        draws: for each state; more than 2 W.
        generator: of random numbers.

    Raises:
        InputError: for too few draws, or arrays of different shapes.
    """
    width = before.shape[-1]
    if draws <= 2 * width or before.shape != after.shape:
        raise InputError(
            "residuals of steps",
            expected=f"two arrays of the same shape and more than {2 * width} draws",
            found=f"shapes {before.shape} and {after.shape}, {draws} draws",
            remedy="use several hundred draws",
        )
    model = transition_sample(before, time, law, draws=draws, generator=generator)
    fresh = transition_sample(before, time, law, draws=_FRESH, generator=generator)
    mean = model.mean(axis=1)
    centred = model - mean[:, None]
    root = np.linalg.cholesky(np.einsum("nmi,nmj->nij", centred, centred) / (draws - 1))

    def distance(points: Array) -> Array:
        whitened = np.linalg.solve(root, np.swapaxes(points - mean[:, None], -1, -2))
        return (whitened**2).sum(axis=-2)

    expected = float(distance(fresh).mean())
    crossed = [past_neighbours(before, fresh[:, index]) for index in range(_FRESH)]
    return Residuals(
        distance(after[:, None])[:, 0] / expected,
        float(past_neighbours(before, after).mean()),
        float(np.mean(crossed)),
    )
