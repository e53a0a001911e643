"""Scoring forecasts out of sample, against the baselines that any theory has to beat."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from spectral_edge.errors import InputError

Array = NDArray[np.float64]
Interval = tuple[float, float]

LEAST = 8
"""Forecasts with every term known, below which nothing is scored: four to fit on and four to test."""

PARTS = 5
"""Stretches of neighbouring forecasts that stand for repetitions where there is one run only."""

NO_CHANGE, AR1 = "no change", "AR(1)"
"""Names of the baselines that are always there."""


@dataclass(frozen=True, slots=True)
class Forecasts:
    """Forecasts of one run, in the order in which they were made, each known before what it is about.

    Attributes:
        measured: what was to be forecast, a change [N]; NaN leaves a forecast out.
        level: the quantity at the time of the forecast [N]; the regressor of AR(1).
        scale: what errors are divided by [N], known at the time of the forecast.
        terms: the forecasts as sums of named terms, by form and term [N].
    """

    measured: Array
    level: Array
    scale: Array
    terms: Mapping[str, Mapping[str, Array]]


@dataclass(frozen=True, slots=True)
class Rival:
    """A form beside one baseline, on the tested forecasts.

    Attributes:
        r2: of the baseline.
        r2_first_half: on the first half of each run, to which AR(1) is fitted.
        error_ratio: sum of squared errors of the form over that of the baseline; below 1 the form is better.
        interval: 95 % of the ratio.
    """

    r2: float
    r2_first_half: float
    error_ratio: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Score:
    """How well one form forecast the second half of its runs.

    R^2 is 1 - sum e^2 / sum e_0^2 with e_0 the error of no change. Intervals are jackknives over runs, or over `PARTS`
    stretches of a single run, with Student's t (Miller 1974): few repetitions make percentile bootstraps too narrow.

    Attributes:
        form: name of the form.
        forecasts: how many were tested.
        r2: for the form as it stands, nothing fitted.
        interval: 95 % of `r2`.
        r2_first_half: `r2` on the first half of each run.
        r2_fitted: after each term got a coefficient of its own, fitted on the first half.
        coefficients: the fitted coefficients by term; 1 for each is what the theory says.
        coefficient_intervals: 95 % of each.
        r2_without: for the form as it stands with one term left out, by that term.
        rivals: the form as it stands beside each baseline. AR(1) is fitted on the first half.
        median_error: median of |error| over median of |change|, for the form as it stands.
    """

    form: str
    forecasts: int
    r2: float
    interval: Interval
    r2_first_half: float
    r2_fitted: float
    coefficients: Mapping[str, float]
    coefficient_intervals: Mapping[str, Interval]
    r2_without: Mapping[str, float]
    rivals: Mapping[str, Rival]
    median_error: float

    @property
    def beats_all(self) -> bool:
        """Whether the form's squared error lies below that of every baseline by more than its interval."""
        return all(rival.interval[1] < 1 for rival in self.rivals.values())


def score(runs: Sequence[Forecasts], form: str, *, against: Sequence[str] = ()) -> Score:
    """Scores a form: what is fitted is fitted on the first half of each run, and tested is the second.

    The last outcome of a first half is known when the first tested forecast is made, if forecasts do not overlap.

    Args:
        runs: the forecasts of each run.
        form: a key of their terms.
        against: forms to compare it with, besides no change and AR(1); where one of them is unknown it counts as no
            change.

    Raises:
        InputError: if there are fewer than half of `LEAST` forecasts with all terms in either half.
    """
    early = [_half(run, form, against, slice(None, len(run.measured) // 2)) for run in runs]
    late = [_half(run, form, against, slice(len(run.measured) // 2, None)) for run in runs]
    fit, test = _joined(early), _joined(late)
    if min(len(fit.target), len(test.target)) < LEAST // 2:
        raise InputError(
            f"forecasts of form {form!r}",
            expected=f"at least {LEAST // 2} in each half with every term known",
            found=f"{len(fit.target)} and {len(test.target)}",
            remedy="record a longer run, or the probes and metrics that its terms need",
        )
    error = test.target - test.terms.sum(axis=1)
    memory = _fitted(fit.ar1, fit.target)
    parts = _repetitions(late)
    rivals: dict[str, Rival] = {}
    for name in (NO_CHANGE, AR1, *(other for other in against if other != form)):
        ratio, interval = _error_ratio(parts, name, memory)
        r2, first = (_r2(half.target - half.rival(name, memory), half.target) for half in (test, fit))
        rivals[name] = Rival(r2, first, ratio, interval)
    weights = _fitted(fit.terms, fit.target)
    names = tuple(runs[0].terms[form])
    low, high = rivals[NO_CHANGE].interval
    return Score(
        form=form,
        forecasts=len(error),
        r2=_r2(error, test.target),
        interval=(1 - high, 1 - low),
        r2_first_half=_r2(fit.target - fit.terms.sum(axis=1), fit.target),
        r2_fitted=_r2(test.target - test.terms @ weights, test.target),
        coefficients=dict(zip(names, weights.tolist(), strict=True)),
        coefficient_intervals=dict(zip(names, _coefficient_intervals(_repetitions(early), weights), strict=True)),
        r2_without={name: _r2(error + test.terms[:, k], test.target) for k, name in enumerate(names)},
        rivals=rivals,
        median_error=_quotient(float(np.median(np.abs(error))), float(np.median(np.abs(test.target)))),
    )


@dataclass(frozen=True, slots=True)
class Comparison:
    """Several forms on the same forecasts; `print` shows a table.

    Attributes:
        scores: by form.
        left_out: forms that cannot be scored.
        missing: why not, in words.
    """

    scores: Mapping[str, Score]
    left_out: tuple[str, ...]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        """Forms and baselines, best first."""
        lines = [f"{'form':<26}{'R2':>9}{'first half':>12}   {'95 %':<22}{'fitted':>7}   better than all baselines"]
        rows = [(found.r2, found.r2_first_half, name, found) for name, found in self.scores.items()]
        rivals = next(iter(self.scores.values())).rivals
        rows += [(rival.r2, rival.r2_first_half, f"({name})", None) for name, rival in rivals.items()]
        for r2, first, name, found in sorted(rows, key=lambda row: -row[0]):
            line = f"{name:<26}{_short(r2):>9}{_short(first):>12}"
            if found:
                interval = " to ".join(_short(limit) for limit in found.interval)
                line += f"   {interval:<22}{_short(found.r2_fitted):>7}   {'yes' if found.beats_all else 'no'}"
            lines.append(line)
        if self.left_out:
            lines += ["not scored: " + ", ".join(self.left_out), *(f"missing: {words}" for words in self.missing)]
        return "\n".join(lines)


def compare(
    runs: Sequence[Forecasts], forms: Sequence[str], *, against: Sequence[str] = (), missing: tuple[str, ...] = ()
) -> Comparison:
    """Scores several forms on the forecasts that all of those that can be scored make.

    Args:
        runs: the forecasts of each run.
        forms: keys of their terms.
        against: as for `score`.
        missing: what was not recorded, in words.

    Raises:
        InputError: if no form can be scored, or those that can have too few forecasts in common.
    """
    usable = [form for form in forms if min(_known_in_halves(runs, form)) >= LEAST // 2]
    shared = [replace(run, measured=_where_known(run, usable)) for run in runs]
    scores = {form: score(shared, form, against=against) for form in usable or forms}
    return Comparison(scores, tuple(form for form in forms if form not in usable), missing)


def _short(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.2g}"


@dataclass(frozen=True, slots=True)
class _Half:
    """Forecasts of half a run, all divided by the scale: target [n], terms [n, m], AR(1) regressors [n, 2], others."""

    target: Array
    terms: Array
    ar1: Array
    others: Mapping[str, Array]

    def rival(self, name: str, memory: Array) -> Array:
        """What a baseline forecasts [n]."""
        if name == NO_CHANGE:
            return np.zeros_like(self.target)
        return self.ar1 @ memory if name == AR1 else self.others[name]

    def split(self, count: int) -> "list[_Half]":
        """Stretches of neighbours, as many as there are forecasts if these are fewer."""
        places = np.array_split(np.arange(len(self.target)), min(count, len(self.target)))
        return [
            _Half(self.target[p], self.terms[p], self.ar1[p], {k: v[p] for k, v in self.others.items()}) for p in places
        ]


def _where_known(run: Forecasts, forms: Sequence[str]) -> Array:
    """The measured change [N], NaN where one of the forms is unknown."""
    known = [np.isfinite(values) for form in forms for values in run.terms[form].values()]
    return np.where(np.all(known, axis=0), run.measured, np.nan)


def _known_in_halves(runs: Sequence[Forecasts], form: str) -> tuple[int, int]:
    """Numbers of forecasts that a form makes in the first and in the second halves of the runs."""
    known = [np.isfinite(_where_known(run, [form])) & (run.scale > 0) for run in runs]
    return sum(int(k[: len(k) // 2].sum()) for k in known), sum(int(k[len(k) // 2 :].sum()) for k in known)


def _half(run: Forecasts, form: str, against: Sequence[str], part: slice) -> _Half:
    terms = np.stack([values[part] for values in run.terms[form].values()], axis=1)
    scale, target = run.scale[part], run.measured[part]
    known = np.isfinite(terms).all(axis=1) & np.isfinite(target) & (scale > 0)
    scale = scale[known]
    ar1 = np.stack([run.level[part][known] / scale, np.ones_like(scale)], axis=1)
    sums = {name: np.sum(list(run.terms[name].values()), axis=0)[part][known] / scale for name in against}
    others = {name: np.where(np.isfinite(value), value, 0.0) for name, value in sums.items()}
    return _Half(target[known] / scale, terms[known] / scale[:, None], ar1, others)


def _repetitions(halves: Sequence[_Half]) -> list[_Half]:
    """What the jackknife leaves out one at a time: runs, or stretches of the only one."""
    parts = halves[0].split(PARTS) if len(halves) == 1 else halves
    return [part for part in parts if len(part.target)]


def _joined(halves: Sequence[_Half]) -> _Half:
    return _Half(
        np.concatenate([half.target for half in halves]),
        np.concatenate([half.terms for half in halves]),
        np.concatenate([half.ar1 for half in halves]),
        {name: np.concatenate([half.others[name] for half in halves]) for name in halves[0].others},
    )


def _fitted(regressors: Array, target: Array) -> Array:
    """Coefficients of least squares; columns are brought to one length, so that units do not decide the rank."""
    length = np.sqrt((regressors**2).sum(axis=0))
    length = np.where(length > 0, length, 1.0)
    return np.linalg.lstsq(regressors / length, target, rcond=None)[0] / length


def _r2(error: Array, target: Array) -> float:
    return 1 - _quotient(float((error**2).sum()), float((target**2).sum()))


def _quotient(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else float("nan")


def _error_ratio(parts: Sequence[_Half], name: str, memory: Array) -> tuple[float, Interval]:
    """Squared error of the form over that of a baseline, with the jackknife's interval of its logarithm."""
    sums = np.array(
        [
            [((p.target - p.terms.sum(axis=1)) ** 2).sum(), ((p.target - p.rival(name, memory)) ** 2).sum()]
            for p in parts
        ]
    )
    whole = sums.sum(axis=0)
    ratio = _quotient(float(whole[0]), float(whole[1]))
    rest = whole - sums
    if ratio == 0:
        return ratio, (0.0, 0.0)
    if not np.isfinite(ratio) or (rest <= 0).any():
        return ratio, (float("nan"), float("nan"))
    low, high = _jackknife(np.log(np.array([ratio])), np.log(rest[:, :1] / rest[:, 1:]))[0]
    return ratio, (float(np.exp(low)), float(np.exp(high)))


def _coefficient_intervals(parts: Sequence[_Half], weights: Array) -> list[Interval]:
    if len(parts) < 2:
        return [(float("nan"), float("nan"))] * len(weights)
    without = [_joined([*parts[:k], *parts[k + 1 :]]) for k in range(len(parts))]
    return _jackknife(weights, np.stack([_fitted(part.terms, part.target) for part in without]))


def _jackknife(whole: Array, without: Array) -> list[Interval]:
    """95 % intervals by Student's t, from estimates [m] and the same with each part left out [n, m]."""
    count = len(without)
    if count < 2:
        return [(float("nan"), float("nan"))] * len(whole)
    pseudo = count * whole - (count - 1) * without
    reach = float(stdtrit(count - 1, 0.975)) * pseudo.std(axis=0, ddof=1) / np.sqrt(count)
    return [(float(value - r), float(value + r)) for value, r in zip(whole, reach, strict=True)]
