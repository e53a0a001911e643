"""Whether the past of one series improves the prediction of another beyond that one's own past (Granger 1969).

The smaller model of y_t has an intercept, covariates at t (the learning rate) and the lags 1 to m of y; the larger one
adds the lags 1 to m of x. A nested F test compares them; m is the one of the larger model with the lower AIC.

The level does not hold for slow series, and windows that overlap are slow: their moving average is not described by
one or two lags. Rejections at 5 % of independent pairs (1000 trials, standard error .007; choosing m costs a part):

| | n = 36, m chosen | n = 36, m = 1 | n = 100, m chosen | n = 100, m = 1 |
|---|---|---|---|---|
| AR(.5) | .10 | .07 | .08 | .06 |
| AR(.9) | .13 | .10 | .12 | .09 |
| windows of 5 noise values | .17 | .14 | .13 | .10 |
| windows of 10 noise values | .23 | .16 | .18 | .12 |
| random walks | .19 | .16 | .21 | .17 |

With `stride` = 10 the windows of 10 no longer overlap: .08 with m chosen and .05 with m = 1, where 36 values are left.
A driver that adds .5 of its last value to unit noise is found in .87 with 36 values and 1.00 with 100, one that adds .3
in .50 and .91.
A small p value says that x helps to predict y, not that it causes it: both may follow a third.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import fdtrc

from spectral_edge.errors import InputError

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Granger:
    """A test of what the lags of x add.

    Attributes:
        lags: the m that was used.
        observations: values of y that were fitted.
        aic: of the larger model by m, on the observations that all of them have; one that cannot be fitted is missing.
        statistic: F.
        added: numerator degrees of freedom, m for each column of x.
        free: denominator degrees of freedom.
        p: upper tail of F.
        partial_r2: share of the smaller model's squared residuals that the lags of x remove.
    """

    lags: int
    observations: int
    aic: Mapping[int, float]
    statistic: float
    added: int
    free: int
    p: float
    partial_r2: float


def granger(
    y: ArrayLike,
    x: ArrayLike,
    *,
    covariates: ArrayLike | None = None,
    lags: Sequence[int] = (1, 2),
    stride: int = 1,
) -> Granger | None:
    """Tests whether x predicts y.

    Args:
        y: what is predicted, at equal intervals [n].
        x: what predicts it, at the same steps [n], or several columns that are tested together [n, k].
        covariates: known at the time of y and in both models, for instance the learning rate [n] or [n, c]; those that
            are constant, or that the intercept and each other determine, change nothing.
        lags: the m to choose from, each at least 1.
        stride: only every stride-th value is used, from the last backwards; W or more for windows of W observations.

    Returns:
        The test; None where no larger model has a residual degree of freedom, y is fitted without a residual, or the
        lags of x are determined by the smaller model.

    Raises:
        InputError: for values that are not finite, unequal lengths, or a lag or stride below 1.
    """
    target = np.asarray(y, dtype=np.float64)
    if target.ndim != 1:
        raise InputError("y", expected="shape [n]", found=f"shape {target.shape}", remedy="test one series at a time")
    for name, value in (("stride", stride), ("lags", min(lags, default=0))):
        if value < 1:
            raise InputError(name, expected="at least 1", found=str(value), remedy="lags count observations back")
    every = slice((len(target) - 1) % stride, None, stride)
    driver = _columns("x", x, target)[every]
    known = _columns("covariates", np.empty((len(target), 0)) if covariates is None else covariates, target)[every]
    target = _columns("y", target, target)[every, 0]
    longest = max(lags)
    aic = {
        m: value for m in sorted(set(lags)) if (value := _aic(*_models(target, driver, known, m, longest))) is not None
    }
    if not aic:
        return None
    chosen = min(aic, key=lambda m: aic[m])
    outcome, small, large = _models(target, driver, known, chosen, chosen)
    rank, rest = _least_squares(large, outcome)
    rank_small, rest_small = _least_squares(small, outcome)
    added, free = rank - rank_small, len(outcome) - rank
    if added < 1 or free < 1 or rest is None or rest_small is None:
        return None
    statistic = max(rest_small - rest, 0.0) / added / (rest / free)
    return Granger(
        lags=chosen,
        observations=len(outcome),
        aic=aic,
        statistic=statistic,
        added=added,
        free=free,
        p=float(fdtrc(added, free, statistic)),
        partial_r2=max(1 - rest / rest_small, 0.0),
    )


def holm(p: ArrayLike) -> Array:
    """P values corrected for their number, so that the chance of any false rejection stays at the level (Holm 1979).

    Args:
        p: of a family of tests [n]; NaN for one that is undefined, which stays NaN and does not count.

    Raises:
        InputError: for a value outside 0 to 1.
    """
    raw = np.asarray(p, dtype=np.float64)
    defined = ~np.isnan(raw)
    values = raw[defined]
    if raw.ndim != 1 or ((values < 0) | (values > 1)).any():
        raise InputError(
            "p", expected="values of 0 to 1 [n]", found=f"others, or shape {raw.shape}", remedy="pass p values"
        )
    order = np.argsort(values, kind="stable")
    steps = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)), 1.0)
    corrected = np.empty_like(values)
    corrected[order] = steps
    found = np.full_like(raw, np.nan)
    found[defined] = corrected
    return found


def _columns(name: str, values: ArrayLike, target: Array) -> Array:
    table = np.asarray(values, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim != 2 or len(table) != len(target) or not np.isfinite(table).all():
        wrong = f"shape {table.shape}" if table.shape[:1] != target.shape else "values that are not finite"
        raise InputError(
            name,
            expected=f"{len(target)} finite values in each column",
            found=wrong,
            remedy="cut the series to the steps that all of them have, without holes",
        )
    return table


def _models(target: Array, driver: Array, known: Array, lags: int, skip: int) -> tuple[Array, Array, Array]:
    """What is fitted [n], the regressors of the smaller model [n, a] and of the larger [n, b]; columns standardised."""
    count = len(target)
    if count <= skip:
        return target[:0], np.empty((0, 0)), np.empty((0, 0))
    past = [target[skip - k : count - k, None] for k in range(1, lags + 1)]
    drive = [driver[skip - k : count - k] for k in range(1, lags + 1)]
    intercept = np.ones((count - skip, 1))
    small = np.concatenate([intercept, _scaled(np.concatenate([known[skip:], *past], axis=1))], axis=1)
    return target[skip:], small, np.concatenate([small, _scaled(np.concatenate(drive, axis=1))], axis=1)


def _scaled(columns: Array) -> Array:
    """Columns in standard deviations from their mean, so that units do not decide the rank; zeros for a constant."""
    centred = columns - columns.mean(axis=0)
    spread = centred.std(axis=0)
    usable = spread > 1e-12 * np.abs(columns).max(axis=0, initial=0.0)
    return np.where(usable, centred / np.where(usable, spread, 1.0), 0.0)


def _least_squares(design: Array, outcome: Array) -> tuple[int, float | None]:
    """Rank and sum of squared residuals; None for the latter where it is zero to rounding."""
    solution, _, rank, _ = np.linalg.lstsq(design, outcome, rcond=1e-10)
    rest = float(((outcome - design @ solution) ** 2).sum())
    return int(rank), rest if rest > 1e-20 * float((outcome**2).sum()) else None


def _aic(outcome: Array, small: Array, large: Array) -> float | None:
    """Akaike's criterion of the larger model up to a constant that depends on the number of observations alone."""
    if len(outcome) == 0:
        return None
    rank, rest = _least_squares(large, outcome)
    if rest is None or len(outcome) <= rank or rank == np.linalg.matrix_rank(small, tol=1e-8 * np.sqrt(len(outcome))):
        return None
    return len(outcome) * float(np.log(rest / len(outcome))) + 2 * rank
