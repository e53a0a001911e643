"""The gap inside the signal: ratios of consecutive singular values, the conventions of k*, the gaps at it.

Positions count from 1; an undefined position is 0 in the integer arrays of this module.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectral_edge.measure.spectrum import Spectrum

Array = NDArray[np.float64]
Positions = NDArray[np.intp]


def ratios(spectrum: Spectrum) -> Array:
    """R_j = sigma_j / sigma_{j+1} [N, W-1] where both lie above the rank floor, else NaN; never over an epsilon."""
    sigma = spectrum.sigma
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spectrum.resolved[:, 1:], sigma[:, :-1] / sigma[:, 1:], np.nan)


def ratio_errors(spectrum: Spectrum, *, sketch_error: Array | float = 0.0) -> Array:
    """Standard error of measurement of each R_j [N, W-1].

    Rounding moves an eigenvalue by about W eps lambda_1; a sketch moves each sigma by `sketch_error` (relative), so
    that neighbours differ by sqrt(2) of it.
    """
    lam = spectrum.eigenvalues
    with np.errstate(divide="ignore", invalid="ignore"):
        rounding = 0.5 * spectrum.rounding[:, None] * (1 / lam[:, :-1] + 1 / lam[:, 1:])
    relative = rounding + np.sqrt(2.0) * np.asarray(sketch_error)[..., None]
    return ratios(spectrum) * relative


@dataclass(frozen=True, slots=True)
class KStar:
    """One convention's position [N] (0 undefined) and whether a rival lies within two standard errors [N]."""

    position: Positions
    tied: NDArray[np.bool_]


def k_stars(spectrum: Spectrum, *, sketch_error: Array | float = 0.0) -> dict[str, KStar]:
    """Every convention of k* that needs the spectrum alone (theory section 3), by its name."""
    ratio = ratios(spectrum)
    error = ratio_errors(spectrum, sketch_error=sketch_error)
    sigma = spectrum.sigma
    width = sigma.shape[-1]
    total = sigma.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = sigma[:, :-1] / total
    allowed = np.arange(1, width) <= max(width // 2, 1)
    difference = np.where(np.isnan(ratio), np.nan, sigma[:, :-1] - sigma[:, 1:])
    return {
        "raw": _argmax(ratio, error),
        "weighted": _argmax(weight * ratio, weight * error),
        "restricted": _argmax(np.where(allowed, ratio, np.nan), error),
        "abs": _argmax(difference, error * sigma[:, 1:]),
    }


def at_position(values: Array, position: Positions) -> Array:
    """values[n, position[n] - 1], NaN where the position is 0."""
    index = np.maximum(position, 1) - 1
    picked = np.take_along_axis(values, index[:, None], axis=-1)[:, 0]
    return np.where(position > 0, picked, np.nan)


def gaps(spectrum: Spectrum, position: Positions) -> tuple[Array, Array]:
    """The gap at `position` in units of sigma and of lambda, each [N]."""
    sigma, lam = spectrum.sigma, spectrum.eigenvalues
    return at_position(sigma[:, :-1] - sigma[:, 1:], position), at_position(lam[:, :-1] - lam[:, 1:], position)


def _argmax(score: Array, error: Array) -> KStar:
    defined = ~np.isnan(score)
    filled = np.where(defined, score, -np.inf)
    best = np.argmax(filled, axis=-1)
    top = np.take_along_axis(filled, best[:, None], axis=-1)
    top_error = np.take_along_axis(error, best[:, None], axis=-1)
    with np.errstate(invalid="ignore"):
        rival: NDArray[np.bool_] = defined & np.less(top - filled, 2 * np.hypot(error, top_error))
    rival[np.arange(len(best)), best] = False
    return KStar(np.where(defined.any(axis=-1), best + 1, 0), np.asarray(rival.any(axis=-1)))
