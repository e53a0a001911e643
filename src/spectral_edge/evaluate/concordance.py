"""Concordance of a score with an event under censoring, the sign test, and bootstrap intervals over runs."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from spectral_edge.errors import InputError
from spectral_edge.evaluate.ar1 import checked_series

Array = NDArray[np.float64]
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Concordance:
    """Harrell's C of a score with an event's time.

    Attributes:
        c: share of comparable pairs that the score orders as the events did, ties of the score at 1/2; .5 is none.
        pairs: comparable pairs: the earlier of both times is an event's, or both are equal and one is censored.
        tied: pairs of them with equal scores.
        interval: 95 %, percentiles over resampled runs; None where fewer than two runs or pairs are there.
        p: two-sided, share of permutations of the scores, the identity among them, with C at least as far from .5.
        runs: how many.
        events: runs that were not censored.
    """

    c: float
    pairs: int
    tied: int
    interval: Interval | None
    p: float
    runs: int
    events: int


@dataclass(frozen=True, slots=True)
class SignTest:
    """Exact sign test of paired differences.

    Attributes:
        positive: differences above zero.
        negative: differences below zero.
        ties: differences of zero; they are left out of the test.
        p: two-sided.
        p_greater: one-sided, for positive differences.
    """

    positive: int
    negative: int
    ties: int
    p: float
    p_greater: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A statistic over runs with its bootstrap interval.

    Attributes:
        value: of all runs.
        interval: at the level asked for.
        method: "BCa" (Efron 1987), or "percentile" where that is undefined, for instance as all runs agree.
        runs: how many.
    """

    value: float
    interval: Interval
    method: Literal["BCa", "percentile"]
    runs: int


def concordance(
    score: ArrayLike,
    time: ArrayLike,
    observed: ArrayLike,
    *,
    higher: Literal["earlier", "later"] = "earlier",
    draws: int = 2000,
    seed: int = 42,
) -> Concordance | None:
    """Whether a score orders runs as their events come, of which some were not seen (Harrell et al. 1982).

    Args:
        score: of each run, known before its event [N].
        time: step of the event, or the last step that was recorded [N].
        observed: whether the event was seen; False where the run ended before [N].
        higher: what a higher score forecasts; "later" for a lead or a predicted step.
        draws: resampled sets of runs, and permutations.
        seed: of both.

    Returns:
        The concordance; None without a comparable pair.

    Raises:
        InputError: for series that are not finite or not aligned.
    """
    at = checked_series("time", time)
    risk = checked_series("score", score, len(at)) * (1 if higher == "earlier" else -1)
    seen = checked_series("observed", observed, len(at)) != 0
    first = (at[:, None] < at) | ((at[:, None] == at) & ~seen)
    comparable = (first & seen[:, None]).astype(np.float64)
    pairs = float(comparable.sum())
    if pairs == 0:
        return None
    agree = np.heaviside(risk[:, None] - risk, 0.5)
    c = float((comparable * agree).sum()) / pairs
    rng = np.random.default_rng(seed)
    count = len(at)
    weights = rng.multinomial(count, np.full(count, 1 / count), size=draws).astype(np.float64)
    above = ((weights @ (comparable * agree)) * weights).sum(axis=1)
    below = ((weights @ comparable) * weights).sum(axis=1)
    resampled = above[below > 0] / below[below > 0]
    shuffled = np.argsort(rng.random((draws, count)), axis=1)
    null = np.array([(comparable * agree[np.ix_(order, order)]).sum() / pairs for order in shuffled])
    return Concordance(
        c=c,
        pairs=int(pairs),
        tied=int((comparable * (risk[:, None] == risk)).sum()),
        interval=_percentiles(resampled) if pairs > 1 and len(resampled) else None,
        p=float(((np.abs(null - 0.5) >= abs(c - 0.5) - 1e-12).sum() + 1) / (draws + 1)),
        runs=count,
        events=int(seen.sum()),
    )


def sign_test(differences: ArrayLike) -> SignTest | None:
    """Exact binomial test that positive and negative differences are equally likely.

    Args:
        differences: one for each pair of runs [N].

    Returns:
        The test; None where no difference is other than zero.

    Raises:
        InputError: for differences that are not finite.
    """
    values = checked_series("differences", differences)
    positive, negative = int((values > 0).sum()), int((values < 0).sum())
    if positive + negative == 0:
        return None
    two = stats.binomtest(positive, positive + negative).pvalue
    one = stats.binomtest(positive, positive + negative, alternative="greater").pvalue
    return SignTest(positive, negative, len(values) - positive - negative, float(two), float(one))


def bootstrap_interval(
    values: ArrayLike,
    statistic: Callable[..., object] = np.mean,
    *,
    level: float = 0.95,
    draws: int = 9999,
    seed: int = 42,
) -> Estimate | None:
    """A statistic over runs, with the interval that resampling the runs gives.

    With fewer than about ten runs it is too narrow: for the mean of five normal values it holds the truth in .84.

    Args:
        values: one for each run [N].
        statistic: of values along `axis`, as NumPy's.
        level: of the interval.
        draws: resampled sets of runs.
        seed: of the draws.

    Returns:
        The estimate; None with fewer than two runs.

    Raises:
        InputError: for values that are not finite.
    """
    series = checked_series("values", values)
    if len(series) < 2:
        return None
    value = float(np.asarray(statistic(series, axis=-1)))
    methods: Sequence[Literal["BCa", "percentile"]] = ("BCa", "percentile")
    for method in methods:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # of BCa where it is undefined; the percentile follows
            found = stats.bootstrap(
                (series,),
                statistic,
                confidence_level=level,
                n_resamples=draws,
                method=method,
                rng=np.random.default_rng(seed),
            ).confidence_interval
        interval = float(found.low), float(found.high)
        if np.isfinite(interval).all():
            return Estimate(value, interval, method, len(series))
    raise InputError("statistic", expected="a finite value for resampled runs", found="none", remedy="use another one")


def _percentiles(draws: Array) -> Interval:
    return float(np.quantile(draws, 0.025)), float(np.quantile(draws, 0.975))
