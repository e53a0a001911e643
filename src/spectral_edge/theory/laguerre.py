"""Exact laws of the diffusion in `theory.dyson`: samples without a time step, and moments in closed form.

At a fixed time from zero, and in the stationary state of the damped process, the squared singular values follow the
beta-Laguerre ensemble, which a bidiagonal matrix of independent chi variables has (Dumitriu and Edelman 2002). From any
other start the matrix itself can be drawn for beta = 1 and 2. Both are oracles for the integrator.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import expm

from spectral_edge.errors import InputError
from spectral_edge.theory.dyson import Dyson

Array = NDArray[np.float64]


def laguerre_sample(
    width: int, law: Dyson, *, draws: int, generator: np.random.Generator, variance: float = 1.0
) -> Array:
    """Singular values of W x P matrices of i.i.d. normal entries, for any beta, largest first [draws, W].

    Density proportional to prod sigma_j^(beta (P-W+1) - 1) prod_{j<k} (sigma_j^2 - sigma_k^2)^beta exp(-sum
    sigma_j^2 / (2 variance)) (Dumitriu and Edelman 2002).

    Args:
        width: number W of rows.
        law: gives P and beta; its damping is not used.
        draws: number of independent matrices.
        generator: of random numbers.
        variance: of each real component of an entry.
    """
    law.wall_strength(width)
    places = np.arange(width)
    bidiagonal = np.zeros((draws, width, width))
    freedom = law.beta * (law.parameters - places)
    bidiagonal[:, places, places] = np.sqrt(generator.chisquare(freedom, size=(draws, width)))
    if width > 1:
        freedom = law.beta * (width - 1 - places[:-1])
        bidiagonal[:, places[1:], places[:-1]] = np.sqrt(generator.chisquare(freedom, size=(draws, width - 1)))
    return np.sqrt(variance) * np.linalg.svd(bidiagonal, compute_uv=False)


def stationary_sample(width: int, law: Dyson, *, draws: int, generator: np.random.Generator) -> Array:
    """Singular values of the damped process in its stationary state (R4), largest first [draws, W].

    Each real component has the variance 1 / (2 kappa) of an Ornstein-Uhlenbeck process.

    Args:
        width: number W of rows.
        law: the diffusion, damped.
        draws: number of independent draws.
        generator: of random numbers.

    Raises:
        InputError: without damping, where there is no stationary state.
    """
    if law.damping == 0:
        raise InputError(
            "a stationary state",
            expected="damping > 0",
            found="damping = 0",
            remedy="Brownian motion grows without end: use `laguerre_sample` with the variance at the wanted time",
        )
    return laguerre_sample(width, law, draws=draws, generator=generator, variance=0.5 / law.damping)


def transition_sample(sigma: Array, time: float, law: Dyson, *, draws: int, generator: np.random.Generator) -> Array:
    """Exact draws of the singular values after a time, given those now: [N, W] -> [N, draws, W], largest first.

    The singular values alone are a Markov process, since the noise has no preferred direction; so repeated calls with
    draws = 1 give exact paths. The matrix is drawn as [diagonal + noise, noise], the second block in triangular form.

    Args:
        sigma: singular values now; zeros and ties are allowed.
        time: that passes.
        law: the diffusion, with beta 1 or 2.
        draws: for each of the N states.
        generator: of random numbers.

    Raises:
        InputError: for another beta, where no matrix is known.
    """
    if law.beta not in (1, 2):
        raise InputError(
            "exact transitions",
            expected="beta = 1 or 2",
            found=f"beta = {law.beta}",
            remedy="use `theory.dyson.integrate` for other beta",
        )
    count, width = sigma.shape
    law.wall_strength(width)
    kept, variance = _decay(time, law)
    shape = (count, draws, width, width)
    components = int(law.beta)
    square = _entries(shape, components, generator)
    rest = law.parameters - width
    if rest < width:
        block = _entries((count, draws, width, rest), components, generator)
    else:
        block = np.tril(_entries(shape, components, generator), -1)
        freedom = components * (rest - np.arange(width))
        block[..., range(width), range(width)] = np.sqrt(generator.chisquare(freedom, size=(count, draws, width)))
    square = np.sqrt(variance) * square
    square[..., range(width), range(width)] += kept * sigma[:, None, :]
    return np.linalg.svd(np.concatenate([square, np.sqrt(variance) * block], axis=-1), compute_uv=False)


def expected_symmetric(sigma: Array, time: float, law: Dyson) -> Array:
    """(R3): exact means of the elementary symmetric polynomials of sigma^2 after a time, [..., W] -> [..., W + 1].

    d E e_k / dt = beta (P - k + 1)(W - k + 1) E e_{k-1} - 2 kappa k E e_k: second derivatives and the repulsion close
    on the polynomial of one degree less. e_1 is the mean of |X|_F^2, e_W that of det X X^T. Any beta (this library).

    Args:
        sigma: singular values now.
        time: that passes.
        law: the diffusion.
    """
    width = sigma.shape[-1]
    now = np.zeros((*sigma.shape[:-1], width + 1))
    now[..., 0] = 1.0
    for j in range(width):
        now[..., 1 : j + 2] += sigma[..., j, None] ** 2 * now[..., : j + 1].copy()
    degree = np.arange(1, width + 1)
    rates = np.diag(-2 * law.damping * np.arange(width + 1.0))
    rates[degree, degree - 1] = law.beta * (law.parameters - degree + 1) * (width - degree + 1)
    return now @ np.asarray(expm(rates * time)).T


def expected_square(sigma: Array, time: float, law: Dyson) -> Array:
    """Exact mean of sum_j sigma_j^4 = |X X^T|_F^2 after a time, [..., W] -> [...]; any beta (this library).

    Args:
        sigma: singular values now.
        time: that passes.
        law: the diffusion.
    """
    width = sigma.shape[-1]
    growth = 2 * law.beta * (law.parameters + width - 1) + 4
    rates = np.zeros((3, 3))
    rates[1, 0] = law.beta * width * law.parameters
    rates[1, 1], rates[2, 2] = -2 * law.damping, -4 * law.damping
    rates[2, 1] = growth
    now = np.stack([np.ones(sigma.shape[:-1]), (sigma**2).sum(axis=-1), (sigma**4).sum(axis=-1)], axis=-1)
    return (now @ np.asarray(expm(rates * time)).T)[..., 2]


def _decay(time: float, law: Dyson) -> tuple[float, float]:
    """What is left of the matrix after a time, and the variance of each real component that the noise adds."""
    if law.damping == 0:
        return 1.0, time
    return float(np.exp(-law.damping * time)), float(-np.expm1(-2 * law.damping * time)) / (2 * law.damping)


def _entries(shape: tuple[int, ...], components: int, generator: np.random.Generator) -> NDArray[np.generic]:
    if components == 1:
        return generator.standard_normal(shape)
    return generator.standard_normal(shape) + 1j * generator.standard_normal(shape)
