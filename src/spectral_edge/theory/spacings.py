"""Level spacings: how singular values keep apart, and an estimate of Dyson's index beta from them.

Close encounters at distance s have density s^beta. The estimate uses ratios of neighbouring spacings, which need no
local density of levels (Oganesyan and Huse 2007) and whose law for three levels is known (Atas et al. 2013).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import root_scalar
from scipy.special import digamma, gammaln, polygamma

from spectral_edge.errors import InputError

Array = NDArray[np.float64]

LEAST_WINDOWS = 1000
"""Independent windows below which `estimate_beta` calls itself insufficient."""

_CONFIDENCE = 1.959963984540054
_BETA_RANGE = (-0.95, 1e4)
_CALIBRATION = 40_000
"""Draws that measure the three-level law's bias; their standard error is .01 at W = 4 and .005 at W = 10."""
_GRID: tuple[float, ...] = (0.1, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0, 14.0, 21.0, 32.0, 48.0, 72.0, 108.0, 160.0)
"""Indices at which the bias is measured."""


@dataclass(frozen=True, slots=True)
class BetaEstimate:
    """Dyson's index with a 95 % interval.

    A hundred windows of ten tell beta = 1 from 2 (half width .2); a thousand give .06, and .15 for windows of three.

    Attributes:
        beta: the estimate; 0 for levels that ignore one another.
        low: lower end of the interval.
        high: upper end.
        windows: number of independent windows that it rests on.
        sufficient: whether these are at least `LEAST_WINDOWS`.
    """

    beta: float
    low: float
    high: float
    windows: int
    sufficient: bool


def spacing_density(spacing: Array, beta: float) -> Array:
    """Density of the spacing of two levels in units of its mean, a s^beta exp(-b s^2), [...] -> [...].

    Wigner's surmise, exact for two Gaussian levels and close for neighbours among many (Wigner 1957; general beta this
    library).

    Args:
        spacing: in units of its mean.
        beta: Dyson's index.
    """
    root = np.exp(gammaln(beta / 2 + 1) - gammaln((beta + 1) / 2))
    scale = root**2
    log_front = np.log(2.0) + (beta + 1) * np.log(root) - gammaln((beta + 1) / 2)
    with np.errstate(divide="ignore"):
        return np.exp(log_front + beta * np.log(spacing) - scale * spacing**2)


def ratio_density(ratio: Array, beta: float) -> Array:
    """Density on [0, 1] of the smaller over the larger of two neighbouring spacings (Atas et al. 2013, Eq. 7).

    2 (r + r^2)^beta / (Z (1 + r + r^2)^(1 + 3 beta / 2)), exact for three Gaussian levels.

    Args:
        ratio: smaller over larger.
        beta: Dyson's index.
    """
    return 2 * (ratio + ratio**2) ** beta / (1 + ratio + ratio**2) ** (1 + 1.5 * beta) * np.exp(-_log_partition(beta))


def spacing_ratios(sigma: Array) -> Array:
    """Smaller over larger of the spacings on both sides of each inner singular value, [..., W] -> [..., W - 2].

    Args:
        sigma: singular values, largest first, distinct.

    Raises:
        InputError: for fewer than three.
    """
    if sigma.shape[-1] < 3:
        raise InputError(
            "spacing ratios",
            expected="at least three singular values",
            found=f"{sigma.shape[-1]}",
            remedy="use a wider window",
        )
    spacing = sigma[..., :-1] - sigma[..., 1:]
    left, right = spacing[..., :-1], spacing[..., 1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.minimum(left, right) / np.maximum(left, right)


def estimate_beta(sigma: Array) -> BetaEstimate:
    """Dyson's index of independent windows, by maximum likelihood over spacing ratios [N, W].

    The interval treats windows as independent and the ratios inside one as they are (a sandwich variance). Windows of
    one run that overlap share rows and must be thinned to one in W + 1. The three-level law reads .05 to .09 low on
    five and more levels at beta = 1 and 2; that is taken off again, as measured on W levels of the beta-Hermite
    ensemble, which is what the singular values of many columns are up to a shift. Good up to beta about 20; a few
    columns more than rows bend the levels, which reads as less repulsion at large beta.

    Args:
        sigma: singular values of independent windows, largest first, W >= 3.

    Raises:
        InputError: for fewer than three singular values or two windows, ties, which have no ratio, or levels that are
            spaced so evenly that beta exceeds every bound.
    """
    ratio = spacing_ratios(sigma)
    windows = len(ratio)
    if windows < 2 or not np.isfinite(ratio).all() or not (ratio > 0).all():
        raise InputError(
            "level spacings",
            expected="at least two windows of distinct singular values",
            found=f"{windows} windows, {int((~(ratio > 0)).sum())} ties",
            remedy="leave out windows below full rank",
        )
    statistic = _statistic(ratio)
    if not _slope(_BETA_RANGE[0]) < statistic.mean() < _slope(_BETA_RANGE[1]):
        raise InputError(
            "level spacings",
            expected=f"spacings of an index beta up to {_BETA_RANGE[1]:g}",
            found="levels that are spaced more evenly",
            remedy="this is no spectrum of random rows",
        )
    raw = _three_level_beta(float(statistic.mean()))
    information = float(polygamma(1, 1 + raw) - 0.5 * polygamma(1, 1 + raw / 2))
    error = float(statistic.mean(axis=-1).std(ddof=1)) / windows**0.5 / information
    beta, stretch = _unbiased(sigma.shape[-1], raw)
    error *= stretch
    low, high = beta - _CONFIDENCE * error, beta + _CONFIDENCE * error
    return BetaEstimate(beta, low, high, windows, windows >= LEAST_WINDOWS)


def _statistic(ratio: Array) -> Array:
    """What the likelihood of a ratio depends on: the derivative of its logarithm by beta, up to a constant."""
    return np.log(ratio + ratio**2) - 1.5 * np.log1p(ratio + ratio**2)


def _three_level_beta(mean: float) -> float:
    """The index under which the statistic has this mean."""

    def excess(value: float) -> float:
        return _slope(value) - mean

    return float(root_scalar(excess, bracket=_BETA_RANGE, xtol=1e-12).root)


def _unbiased(width: int, raw: float) -> tuple[float, float]:
    """The index on W levels that the three-level law reads as `raw`, and its derivative by that.

    Readings are linear between the points of a grid, of which only those around the answer are drawn.
    """

    def read(place: int) -> float:
        return _GRID[place] + _three_level_bias(width, _GRID[place])

    place = int(np.clip(np.searchsorted(_GRID, raw), 1, len(_GRID) - 1))
    while place < len(_GRID) - 1 and read(place) < raw:
        place += 1
    while place > 1 and read(place - 1) > raw:
        place -= 1
    slope = (_GRID[place] - _GRID[place - 1]) / (read(place) - read(place - 1))
    return _GRID[place - 1] + slope * (raw - read(place - 1)), slope


@lru_cache(maxsize=64)
def _three_level_bias(width: int, beta: float) -> float:
    """What the three-level law reads on W levels of index beta, minus beta: drawn once, from a fixed seed.

    Tridiagonal matrices with the spectrum of the beta-Hermite ensemble (Dumitriu and Edelman 2002).
    """
    if width == 3:
        return 0.0
    generator, place = np.random.default_rng(0), np.arange(width)
    matrix = np.zeros((_CALIBRATION, width, width))
    matrix[:, place, place] = np.sqrt(2) * generator.standard_normal((_CALIBRATION, width))
    below = np.sqrt(generator.chisquare(beta * place[:0:-1], size=(_CALIBRATION, width - 1)))
    matrix[:, place[1:], place[:-1]] = below
    levels: Array = np.linalg.eigvalsh(matrix)[:, ::-1].astype(np.float64)
    return _three_level_beta(float(_statistic(spacing_ratios(levels)).mean())) - beta


def _log_partition(beta: float) -> float:
    log_gammas = gammaln(1 + beta) - 2 * gammaln(1 + beta / 2)
    return float(np.log(2 * np.pi) - 1.5 * (1 + beta) * np.log(3.0) + log_gammas)


def _slope(beta: float) -> float:
    """Derivative of the logarithm of the partition function: the statistic's mean under beta."""
    return float(digamma(1 + beta) - digamma(1 + beta / 2) - 1.5 * np.log(3.0))
