"""What a Gaussian sketch does to the ratio sigma_j / sigma_{j+1}, exact in distribution (theory section 12).

A sketch of d cells turns the Gram matrix G = B B^T into B (Z Z^T / d) B^T, where the entries of Z [W, d] are standard
normal. Z may be rotated, so only the eigenvalues of G matter. Bartlett's triangle has the law of Z up to a rotation of
its columns: a draw costs the same for every d, and no updates are needed.

An error of the ratio is small even where nothing is measured: without any gap it is about 5 % at d = 10 W. So each
result stands beside that of a spectrum without a gap, and beside the error relative to R - 1, which is what a gap is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectral_edge.errors import InputError
from spectral_edge.measure import spectrum

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SketchError:
    """How far a sketch of one dimension moves the ratios of a run's windows.

    Attributes:
        dimension: number d of cells.
        windows: number of windows whose ratio at the position is defined.
        ratio: mean |R~ / R - 1| over windows and draws; None without a window.
        gap: mean |(R~ - R) / (R - 1)|; a few windows close to R = 1 may dominate it. None without a window above R = 1.
        gap_median: median over those windows of each one's mean.
        flat_ratio: mean |R~ - 1| at the position for a spectrum without a gap (G the identity).
        flat_largest: mean over draws of the largest R~ of that spectrum, whose truth is 1.
        recovered: share of draws whose raw k* is that of the window; None without a window of rank 2.
    """

    dimension: int
    windows: int
    ratio: float | None
    gap: float | None
    gap_median: float | None
    flat_ratio: float
    flat_largest: float
    recovered: float | None


def sketch_errors(
    grams: ArrayLike, dimensions: Sequence[int], *, draws: int = 200, seed: int = 0, position: int = 2
) -> tuple[SketchError, ...]:
    """The errors of one ratio for each sketch dimension.

    Args:
        grams: Gram matrices of exact updates, in any unit [N, W, W], finite.
        dimensions: numbers d of cells, each at least W.
        draws: sketches drawn for each window and dimension; the flat spectrum gets at least 1000.
        seed: of the draws.
        position: j of sigma_j / sigma_{j+1}, from 1 to W-1.

    Returns:
        One result for each dimension, in their order. Modes below the rank floor are left out, as in `measure`.

    Raises:
        InputError: for a wrong shape or value, a dimension below W, or a position outside the window.
    """
    gram = np.asarray(grams, dtype=np.float64)
    if gram.ndim != 3 or gram.shape[1] != gram.shape[2] or gram.shape[1] < 2 or not np.isfinite(gram).all():
        raise InputError(
            "grams",
            expected="finite values of shape [N, W, W] with W of at least 2",
            found=f"shape {gram.shape}" if gram.ndim != 3 or np.isfinite(gram).all() else "values that are not finite",
            remedy="pass the Gram matrices of full windows only",
        )
    width = gram.shape[1]
    if not 1 <= position < width:
        raise InputError("position", expected=f"1 to {width - 1}", found=str(position), remedy="count from 1")
    if draws < 1:
        raise InputError("draws", expected="at least 1", found=str(draws), remedy="200 give a mean to a few percent")
    small = [d for d in dimensions if d < width]
    if small:
        raise InputError(
            "dimensions",
            expected=f"at least the window, {width}",
            found=str(small[0]),
            remedy="a sketch with fewer cells than updates loses modes",
        )
    found = spectrum(gram)
    sigma = [np.asarray(s[:rank], dtype=np.float64) for s, rank in zip(found.sigma, found.rank, strict=True)]
    rng = np.random.default_rng(seed)
    return tuple(_at(sigma, width, d, draws, position - 1, rng) for d in dimensions)


def sketched_sigma(sigma: ArrayLike, dimension: int, draws: int, rng: np.random.Generator) -> Array:
    """Singular values of sketched windows [draws, r], largest first, in the unit of `sigma`.

    Args:
        sigma: positive singular values of the window [r].
        dimension: number d of cells, at least r.
        draws: number of sketches.
        rng: source of the draws.
    """
    scale = np.asarray(sigma, dtype=np.float64)
    rank = len(scale)
    triangle = np.tril(rng.standard_normal((draws, rank, rank)), -1)
    diagonal = np.arange(rank)
    triangle[:, diagonal, diagonal] = np.sqrt(rng.chisquare(dimension - diagonal, (draws, rank)))
    return np.linalg.svd(scale[:, None] * triangle, compute_uv=False) / np.sqrt(dimension)


def _at(
    sigmas: Sequence[Array], width: int, dimension: int, draws: int, at: int, rng: np.random.Generator
) -> SketchError:
    flat = _ratios(sketched_sigma(np.ones(width), dimension, max(draws, 1000), rng))
    errors: list[float] = []
    gaps: list[float] = []
    recovered: list[float] = []
    for sigma in sigmas:
        if len(sigma) < 2:
            continue
        truth = _ratios(sigma)
        drawn = _ratios(sketched_sigma(sigma, dimension, draws, rng))
        recovered.append(float((drawn.argmax(axis=1) == truth.argmax()).mean()))
        if at < len(truth):
            error = float(np.abs(drawn[:, at] - truth[at]).mean())
            errors.append(error / float(truth[at]))
            if truth[at] - 1 > _rounding(width):
                gaps.append(error / float(truth[at] - 1))
    return SketchError(
        dimension=dimension,
        windows=len(errors),
        ratio=_mean(errors),
        gap=_mean(gaps),
        gap_median=float(np.median(gaps)) if gaps else None,
        flat_ratio=float((flat[:, at] - 1).mean()),
        flat_largest=float(flat.max(axis=1).mean()),
        recovered=_mean(recovered),
    )


def _ratios(sigma: Array) -> Array:
    return sigma[..., :-1] / sigma[..., 1:]


def _rounding(width: int) -> float:
    """Distance from 1 below which a ratio is 1 to rounding."""
    return 100 * width * float(np.finfo(np.float64).eps)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
