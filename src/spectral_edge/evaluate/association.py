"""Correlation of two series in step, at a lag fixed in advance or searched for, against series without a relation.

Trends and slow noise correlate by themselves (theory section 11): independent AR(.9) series of 36 points reach a best
|r| of .50 over eleven lags, in the median. Two nulls are given. Circular shift keeps both series as they are and breaks
their alignment; it needs stationary series, and with n pairs no p value below 1/n can come of it. Independent AR(1)
series with the memory of each one, detrended in the same way, have no such floor, but assume one form of memory.

Rejections at 5 % on independent series of 36 points, a cubic removed, 1000 draws (standard error .01):

| | i.i.d. | AR(.5) | AR(.9) |
|---|---|---|---|
| fixed lag, Student's t with n | .07 | .11 | .28 |
| fixed lag, Student's t with n_effective | .05 | .07 | .12 |
| fixed lag, circular shift (1/36 is attainable) | .03 | .04 | .05 |
| fixed lag, AR(1) series | .05 | .05 | .10 |
| best of eleven lags, circular shift | .02 | .02 | .05 |
| best of eleven lags, AR(1) series | .04 | .05 | .09 |

So on slow series neither null keeps its level: the circular shift rejects twice as often as the 1/n that it can attain,
since the seam is a jump that the series has nowhere else, and AR(1) series suffer from a memory that 36 points do not
determine. A relation of r = .8 at a lag of 2 is found, fixed lag, in .9 or more by either; by the search in .15 to .18
by circular shift and .8 to 1 by AR(1) series (36 points; .9 and 1 with 150). The search by shifts is that weak because
shifts up to the range of the lags contain the alignment that was found.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr

from spectral_edge.errors import InputError
from spectral_edge.evaluate.ar1 import ar1_draws, checked_series, lag1, matched_memory, polynomial, removed

Array = NDArray[np.float64]

LEAST = 6
"""Pairs, besides one for each covariate, below which a correlation is undefined; the published rule is over 5."""


@dataclass(frozen=True, slots=True)
class Association:
    """A correlation at one lag, with what unrelated series give.

    Attributes:
        lag: observations by which x leads y.
        r: Pearson correlation of what is left of both after detrending and covariates.
        n: pairs.
        n_effective: n (1 - a) / (1 + a), with a the product of both lag-1 autocorrelations; from 4 to n.
        p_effective: two-sided, by Student's t with n_effective - 2 degrees of freedom.
        p_shift: two-sided, share of all circular shifts of x that reach |r|, the identity among them.
        p_ar1: two-sided, share of independent AR(1) pairs that reach |r|, the observed pair among them.
    """

    lag: int
    r: float
    n: int
    n_effective: float
    p_effective: float
    p_shift: float
    p_ar1: float


@dataclass(frozen=True, slots=True)
class BestLag:
    """The lag of the extreme correlation, with the p value of the search and not of the lag.

    Attributes:
        lag: observations by which x leads y.
        r: correlation at that lag.
        lags: all that were searched and have enough pairs [m].
        correlations: at each of them [m].
        p_shift: share of circular shifts of x whose extreme over all lags reaches this one, the identity among them.
        p_ar1: the same for independent AR(1) pairs.
        null_median: median of the extreme over AR(1) pairs.
        null_95: its 95th percentile; the 5th where the most negative is searched for.
    """

    lag: int
    r: float
    lags: NDArray[np.int64]
    correlations: Array
    p_shift: float
    p_ar1: float
    null_median: float
    null_95: float


def association(
    x: ArrayLike,
    y: ArrayLike,
    steps: ArrayLike,
    *,
    lag: int = 0,
    degree: int | None = 3,
    covariates: ArrayLike | None = None,
    draws: int = 1000,
    seed: int = 42,
) -> Association | None:
    """Correlation of two series after detrending, at one lag fixed in advance.

    Args:
        x: series [N].
        y: series [N].
        steps: of both [N].
        lag: observations by which x leads y; negative where y leads.
        degree: of the polynomial in step that is removed from every series first; None removes nothing.
        covariates: series [N] or [N, c], aligned with y, that are held fixed: their linear share is removed from both.
            For the null by shifts it is the rest of x that is shifted.
        draws: AR(1) pairs.
        seed: of the draws.

    Returns:
        The correlation; None with fewer than `LEAST` pairs besides the covariates, or where a rest is zero.

    Raises:
        InputError: for series that are not finite or not aligned.
    """
    at = checked_series("steps", steps)
    first, second = checked_series("x", x, len(at)), checked_series("y", y, len(at))
    trend = polynomial(at, degree) if degree is not None else np.zeros((len(at), 0))
    held = _covariates(covariates, len(at))
    fixed = removed(held, trend)
    fixed = fixed[[not _vanishes(left, whole) for left, whole in zip(fixed, held, strict=True)]]
    pairs = len(at) - abs(lag)
    if pairs < LEAST + len(fixed):
        return None
    rest = removed(first, trend), removed(second, trend)
    kept = _orthonormal(_aligned(fixed, fixed, lag)[1])
    left = [removed(part, kept) for part in _aligned(*rest, lag)]
    if _vanishes(left[0], first) or _vanishes(left[1], second):
        return None
    r = float(_pearson(left[0], left[1]))
    memories = [float(lag1(part)) for part in left]
    shared = memories[0] * memories[1]
    effective = float(np.clip(pairs * (1 - shared) / (1 + shared), 4.0, pairs))
    rng = np.random.default_rng(seed)
    null = [_null_series(part, trend, len(at), draws, rng) for part in rest]
    null = [removed(part, kept) for part in _aligned(null[0], null[1], lag)]
    return Association(
        lag=lag,
        r=r,
        n=pairs,
        n_effective=effective,
        p_effective=_student(r, effective - 2),
        p_shift=_share(np.abs(_shifted(left[0], left[1], kept)), abs(r)),
        p_ar1=_share(np.append(np.abs(_pearson(null[0], null[1])), abs(r)), abs(r)),
    )


def best_lag(
    x: ArrayLike,
    y: ArrayLike,
    steps: ArrayLike,
    lags: Sequence[int],
    *,
    pick: Literal["largest", "negative"] = "largest",
    degree: int | None = 3,
    draws: int = 1000,
    shifts: int = 1000,
    seed: int = 42,
) -> BestLag | None:
    """The published search over lags, paid for: the null is the extreme over the same lags.

    Args:
        x: series [N].
        y: series [N].
        steps: of both [N].
        lags: observations by which x leads y; those with fewer than `LEAST` pairs are left out.
        pick: the largest |r|, or the most negative r, the published "peak".
        degree: of the polynomial in step that is removed from both; None removes nothing.
        draws: AR(1) pairs.
        shifts: circular shifts of x; all where the series is no longer than that, else so many drawn.
        seed: of the draws.

    Returns:
        The extreme; None where no lag has enough pairs, or a rest is zero.

    Raises:
        InputError: for series that are not finite or not aligned.
    """
    at = checked_series("steps", steps)
    first, second = checked_series("x", x, len(at)), checked_series("y", y, len(at))
    trend = polynomial(at, degree) if degree is not None else np.zeros((len(at), 0))
    usable = np.array([lag for lag in lags if len(at) - abs(lag) >= LEAST], dtype=np.int64)
    rest = removed(first, trend), removed(second, trend)
    if not len(usable) or _vanishes(rest[0], first) or _vanishes(rest[1], second):
        return None
    sign = -1.0 if pick == "negative" else 1.0
    found = _over_lags(rest[0], rest[1], usable)
    best = int(np.argmax(-found if pick == "negative" else np.abs(found)))
    rng = np.random.default_rng(seed)
    places = np.arange(1, len(at)) if len(at) <= shifts else rng.choice(np.arange(1, len(at)), shifts, replace=False)
    rolled = rest[0][(np.arange(len(at)) - places[:, None]) % len(at)]
    extreme = _extreme(found[None], pick)
    drawn = [_null_series(part, trend, len(at), draws, rng) for part in rest]
    null = _extreme(_over_lags(drawn[0], drawn[1], usable), pick)
    return BestLag(
        lag=int(usable[best]),
        r=float(found[best]),
        lags=usable,
        correlations=found,
        p_shift=_share(np.append(_extreme(_over_lags(rolled, rest[1], usable), pick), extreme), float(extreme[0])),
        p_ar1=_share(np.append(null, extreme), float(extreme[0])),
        null_median=sign * float(np.median(null)),
        null_95=sign * float(np.quantile(null, 0.95)),
    )


def _covariates(values: ArrayLike | None, length: int) -> Array:
    """Covariates as rows [c, N]."""
    if values is None:
        return np.zeros((0, length))
    columns = np.asarray(values, dtype=np.float64)
    columns = columns[:, None] if columns.ndim == 1 else columns
    if columns.ndim != 2:
        raise InputError("covariates", expected="[N] or [N, c]", found=f"shape {columns.shape}", remedy="stack columns")
    return np.stack([checked_series("covariates", column, length) for column in columns.T])


def _orthonormal(rows: Array) -> Array:
    """Orthonormal columns [n, p] that span the constant and the rows [c, n]; those that add nothing are left out."""
    columns = np.column_stack([np.ones(rows.shape[1]), *rows])
    length = np.linalg.norm(columns, axis=0)
    left, size, _ = np.linalg.svd(columns[:, length > 0] / length[length > 0], full_matrices=False)
    return left[:, size > 1e-10 * size[0]]


def _aligned(x: Array, y: Array, lag: int) -> tuple[Array, Array]:
    """The pairs x_t, y_(t + lag) of series [..., N]."""
    count = x.shape[-1] - abs(lag)
    return x[..., max(-lag, 0) :][..., :count], y[..., max(lag, 0) :][..., :count]


def _vanishes(rest: Array, series: Array) -> bool:
    """Whether nothing but rounding is left of a series."""
    return float(np.linalg.norm(rest - rest.mean())) <= 1e-10 * float(np.linalg.norm(series))


def _pearson(x: Array, y: Array) -> Array:
    """Correlation along the last axis; 0 where one of the two is constant."""
    x, y = x - x.mean(axis=-1, keepdims=True), y - y.mean(axis=-1, keepdims=True)
    product = (x * y).sum(axis=-1)
    scale = np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    return np.divide(product, scale, out=np.zeros(product.shape), where=scale > 0)


def _shifted(x: Array, y: Array, kept: Array) -> Array:
    """Partial correlations of all circular shifts of x [n] with y [n], both without the columns `kept`."""
    turned = np.conj(np.fft.rfft(x))
    product = np.fft.irfft(turned * np.fft.rfft(y), len(x))
    along = np.fft.irfft(turned[:, None] * np.fft.rfft(kept, axis=0), len(x), axis=0)
    square = (x**2).sum() - (along**2).sum(axis=1)
    scale = np.sqrt(np.maximum(square, 0.0) * (y**2).sum())
    return np.divide(product, scale, out=np.zeros(len(x)), where=scale > 1e-12 * (x**2).sum() ** 0.5)


def _over_lags(x: Array, y: Array, lags: NDArray[np.int64]) -> Array:
    pairs = [_aligned(x, y, int(lag)) for lag in lags]
    return np.stack([_pearson(first, second) for first, second in pairs], axis=-1)


def _extreme(correlations: Array, pick: str) -> Array:
    """The extreme over lags [..., m], larger for more extreme."""
    return (-correlations if pick == "negative" else np.abs(correlations)).max(axis=-1)


def _null_series(rest: Array, trend: Array, length: int, draws: int, rng: np.random.Generator) -> Array:
    """AR(1) series with the memory of a detrended one, detrended alike [draws, N]."""
    basis = trend if trend.shape[1] else polynomial(np.arange(length), 0)
    memory = matched_memory(float(lag1(removed(rest, basis))), basis)
    return removed(ar1_draws(memory, length, draws, rng), trend)


def _share(values: Array, bar: float) -> float:
    return float((values >= bar * (1 - 1e-9 * np.sign(bar))).mean())


def _student(r: float, freedom: float) -> float:
    square = max(1 - r**2, 0.0)
    return 0.0 if square == 0 else float(2 * stdtr(freedom, -abs(r) * np.sqrt(freedom / square)))
