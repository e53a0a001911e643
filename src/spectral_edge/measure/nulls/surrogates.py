"""Named surrogates with matched row norms: simpler nulls than the band, for comparison.

They fit what the band takes as known: "ar1" and "drift" estimate the very correlation that a signal would produce,
and all three take the noise for isotropic. Isotropic rows with exact norms reject far too often where the covariance is
uneven (about half of the time at a nominal 5 % under 1/k), which is why none of them is the default.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError
from spectral_edge.measure.nulls.band import BandReading
from spectral_edge.measure.nulls.coherence import pairs
from spectral_edge.measure.nulls.memory import Memory, factor, normalised, whitened
from spectral_edge.measure.nulls.table import cosine_ratios, moments

Surrogate = Literal["iid", "ar1", "drift"]
SURROGATES: tuple[Surrogate, ...] = ("iid", "ar1", "drift")
"""Names of the surrogates."""


def _isotropic(effective: float, size: int, draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """[draws, W, W] Gram matrices, of mean I, of isotropic rows with a real number of dimensions."""
    if effective > size:
        lower = np.tril(rng.standard_normal((draws, size, size)), -1)
        diagonal = np.arange(size)
        shape = 0.5 * (effective - diagonal)
        lower[:, diagonal, diagonal] = np.sqrt(2.0 * rng.standard_gamma(shape, size=(draws, size)))
        rows, dimensions = lower, effective
    else:
        dimensions = max(round(effective), 1)
        rows = rng.standard_normal((draws, size, dimensions))
    return rows @ rows.transpose(0, 2, 1) / dimensions


def _draw(name: Surrogate, cosines: NDArray[np.float64], draws: int, seed: int) -> NDArray[np.float64]:
    """[draws, W, W] cosines of one window's surrogate."""
    size = cosines.shape[-1]
    rng = np.random.default_rng(seed)
    entries = pairs(cosines[None])[0]
    if name == "iid":
        second = float(np.mean(entries**2))
        return normalised(_isotropic(1.0 / max(second, 1e-12), size, draws, rng))
    if name == "ar1":
        lag1 = float(np.clip(np.mean(np.diagonal(cosines, 1)), 0.0, 0.999))
        fitted = Memory(lag1, 1.0)
        second = float(moments(whitened(cosines[None], fitted))[0][0])
        lower, _ = factor(fitted, size)
        return normalised(lower @ _isotropic(1.0 / max(second, 1e-12), size, draws, rng) @ lower.T)
    share = float(np.clip(np.mean(entries), 0.0, 0.999))
    second = float(np.mean((entries - share) ** 2)) / (1.0 - share) ** 2
    # a drift orthogonal to the noise up to sampling: its share of the energy is the mean cosine
    noise = _isotropic(1.0 / max(second, 1e-12), size, draws, rng)
    return normalised(share + (1.0 - share) * noise)


def surrogate_band(
    name: Surrogate, gram: NDArray[np.float64], ratios: NDArray[np.float64], *, draws: int = 400, seed: int = 0
) -> BandReading:
    """Place the gap ratios of windows among draws of a named surrogate with the same row norms.

    "iid" is isotropic noise whose dimension is one over the mean squared cosine; "ar1" the same with the
    mean lag-1 cosine as an AR(1) coefficient; "drift" the same beside a constant drift that has the mean cosine as its
    share of the energy. All are fitted to the window under test.

    Args:
        name: which surrogate.
        gram: [N, W, W] Gram matrices of the windows, norms included.
        ratios: [N, W-1] ratios of the singular values of the same windows, NaN where undefined.
        draws: draws a window.
        seed: of a local generator, the same for every window.

    Returns:
        The reading; a window with NaN or a zero row reads NaN.
    """
    if name not in SURROGATES:
        raise InputError(
            "name of the surrogate", expected=" or ".join(SURROGATES), found=repr(name), remedy="choose one of these"
        )
    count, size = gram.shape[0], gram.shape[-1]
    percentile, low, high = (np.full((count, size - 1), np.nan) for _ in range(3))
    maximum = np.full(count, np.nan)
    cosines = normalised(gram)
    for index in range(count):
        if np.isnan(cosines[index]).any():
            continue
        norms = np.sqrt(np.diagonal(gram[index]))
        sample = cosine_ratios(_draw(name, cosines[index], draws, seed) * norms[:, None] * norms[None, :])
        low[index], high[index] = np.nanquantile(sample, [0.01, 0.99], axis=0)
        maximum[index] = np.nanquantile(np.fmax.reduce(sample, axis=-1), 0.99)
        # counting the observation among the draws keeps a percentile off exact 0 and 100
        below = (sample < ratios[index]).sum(axis=0) + 0.5 * (sample == ratios[index]).sum(axis=0)
        defined = (~np.isnan(sample)).sum(axis=0)
        percentile[index] = np.where(np.isnan(ratios[index]), np.nan, 100.0 * (below + 0.5) / (defined + 1.0))
    return BandReading(percentile=percentile, low=low, high=high, maximum=maximum)
