"""Scoring forecasts out of sample, against the baselines that any theory has to beat."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError

Array = NDArray[np.float64]

LEAST = 8
"""Forecasts with every term known, below which nothing is scored: four to fit on and four to test."""


@dataclass(frozen=True, slots=True)
class Forecasts:
    """Forecasts of one run, in the order in which they were made.

    Attributes:
        measured: what was to be forecast, a change [N].
        level: the quantity at the time of the forecast [N]; the regressor of AR(1).
        scale: what errors are divided by [N], known at the time of the forecast.
        terms: the forecasts as sums of named terms, by form and term [N].
    """

    measured: Array
    level: Array
    scale: Array
    terms: Mapping[str, Mapping[str, Array]]


@dataclass(frozen=True, slots=True)
class Score:
    """How well one form forecast the tested half of its runs.

    Attributes:
        form: name of the form.
        forecasts: how many were tested.
        r2: 1 - sum e^2 / sum e_0^2 for the form as it stands; e_0 is the error of persistence (no change).
        interval: 95 % of `r2` over resampled blocks of forecasts, or over resampled runs.
        r2_fitted: the same after each term got a coefficient of its own, fitted on the other half.
        r2_ar1: the same for AR(1) fitted on the other half: what the form has to beat.
        coefficients: the fitted coefficients by term; 1 for each is what the theory says.
        median_error: median of |error| over median of |change|, for the form as it stands.
    """

    form: str
    forecasts: int
    r2: float
    interval: tuple[float, float]
    r2_fitted: float
    r2_ar1: float
    coefficients: Mapping[str, float]
    median_error: float


def score(runs: Sequence[Forecasts], form: str, *, seed: int = 0, draws: int = 2000) -> Score:
    """Scores a form: everything fitted is fitted on the first half of each run and tested on the second.

    Args:
        runs: the forecasts of each run.
        form: a key of their terms.
        seed: of the bootstrap.
        draws: of the bootstrap.

    Raises:
        InputError: if fewer than `LEAST` forecasts have all terms.
    """
    early = [_scaled(run, form, slice(None, len(run.measured) // 2)) for run in runs]
    late = [_scaled(run, form, slice(len(run.measured) // 2, None)) for run in runs]
    fit, test = _joined(early), _joined(late)
    if min(len(fit.target), len(test.target)) < LEAST // 2:
        raise InputError(
            f"forecasts of form {form!r}",
            expected=f"at least {LEAST // 2} in each half with every term known",
            found=f"{len(fit.target)} and {len(test.target)}",
            remedy="record a longer run, or the probes and metrics that its terms need",
        )
    error = test.target - test.terms.sum(axis=1)
    weights = np.linalg.lstsq(fit.terms, fit.target, rcond=None)[0]
    memory = np.linalg.lstsq(fit.ar1, fit.target, rcond=None)[0]
    low, high = _bootstrap(late, seed, draws)
    return Score(
        form,
        len(error),
        _r2(error, test.target),
        (low, high),
        _r2(test.target - test.terms @ weights, test.target),
        _r2(test.target - test.ar1 @ memory, test.target),
        {name: float(value) for name, value in zip(runs[0].terms[form], weights, strict=True)},
        float(np.median(np.abs(error)) / np.median(np.abs(test.target))),
    )


@dataclass(frozen=True, slots=True)
class _Half:
    target: Array
    terms: Array
    ar1: Array


def _scaled(run: Forecasts, form: str, part: slice) -> _Half:
    terms = np.stack([values[part] for values in run.terms[form].values()], axis=1)
    scale, target = run.scale[part], run.measured[part]
    known = np.isfinite(terms).all(axis=1) & np.isfinite(target) & (scale > 0)
    scale = scale[known]
    ar1 = np.stack([run.level[part][known] / scale, np.ones_like(scale)], axis=1)
    return _Half(target[known] / scale, terms[known] / scale[:, None], ar1)


def _joined(halves: Sequence[_Half]) -> _Half:
    return _Half(
        np.concatenate([half.target for half in halves]),
        np.concatenate([half.terms for half in halves]),
        np.concatenate([half.ar1 for half in halves]),
    )


def _r2(error: Array, target: Array) -> float:
    total = float((target**2).sum())
    return 1 - float((error**2).sum()) / total if total > 0 else float("nan")


def _bootstrap(halves: Sequence[_Half], seed: int, draws: int) -> tuple[float, float]:
    """95 % of R^2 over resampled runs; of one run over resampled blocks of neighbouring forecasts."""
    generator = np.random.default_rng(seed)
    squares = [np.stack([(h.target - h.terms.sum(axis=1)) ** 2, h.target**2], axis=1) for h in halves]
    if len(squares) == 1:
        count = len(squares[0])
        length = max(1, round(count ** (1 / 3)))
        starts = generator.integers(0, count - length + 1, size=(draws, -(-count // length)))
        places = (starts[:, :, None] + np.arange(length)).reshape(draws, -1)[:, :count]
        sums = squares[0][places].sum(axis=1)
    else:
        totals = np.stack([square.sum(axis=0) for square in squares])
        sums = totals[generator.integers(0, len(totals), size=(draws, len(totals)))].sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = 1 - sums[:, 0] / sums[:, 1]
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)
