"""The smallest loop in which a gap sustains itself: states, hysteresis, and why watching a run cannot show it."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError
from spectral_edge.measure.gram import grams
from spectral_edge.measure.spectrum import spectrum
from spectral_edge.measure.subspace import moment_change, neighbour_gaps, stability
from spectral_edge.theory.feedback import (
    Loop,
    drive_at,
    evolve,
    fixed_points,
    fold_drives,
    fold_states,
    growth_rate,
    hysteresis_area,
    loop_area,
    open_state,
    relaxation_time,
    triangle,
)

Array = NDArray[np.float64]

_SPEEDS = 4
"""Periods of the cycle that are compared, each a quarter of the one before."""
_STEP = 0.5
"""Of the integrator, in relaxation times 1/r of the state without a gap."""
_NUDGE, _WAIT = 1e-6, 5.0
_LAGS = (0, 1, 2, 3, 5, 7, 10, 15, 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackResult:
    """What the simulation found.

    Attributes:
        settings: that gave it.
        branch_state: persistence along the bifurcation diagram [K].
        branch_drive: drive at which it is a fixed point [K].
        branch_unstable: which of them are unstable [K].
        folds: drives between which there are two stable states (where the high one ends, where the low one does).
        cycle_drive: drive over the slowest cycle [T].
        cycle_state: persistence of the closed loop [T].
        cycle_open: persistence of its open twin [T].
        collapse: drive at which the high state was lost in the slowest cycle.
        recovery: drive at which it came back; NaN if it did not.
        period: of each cycle tried, ascending, observations.
        area_closed: what the second cycle encloses, by period.
        area_open: the same for the open twin.
        area_limit: limit of the closed loop's area in slow cycles; NaN where the loop does not close.
        excess: relative distance of the drive above the fold where the high state ends.
        relaxation_predicted: time in which a small disturbance falls by e, observations, by distance.
        relaxation_measured: the same from the loop disturbed.
        lag: observations m.
        exogenous: correlation of alpha_k and gap_{k+m} in a stream of updates without any loop, by m.
        exogenous_partial: the same given gap_k.
        sentences: the findings in words.
    """

    settings: "Feedback"
    branch_state: Array
    branch_drive: Array
    branch_unstable: NDArray[np.bool_]
    folds: tuple[float, float]
    cycle_drive: Array
    cycle_state: Array
    cycle_open: Array
    collapse: float
    recovery: float
    period: Array
    area_closed: Array
    area_open: Array
    area_limit: float
    excess: Array
    relaxation_predicted: Array
    relaxation_measured: Array
    lag: Array
    exogenous: Array
    exogenous_partial: Array
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """A gap that sustains itself through the stability of its own direction.

    Attributes:
        window: number W of updates.
        noise: constant C of the stability coefficient.
        rate: r, per observation, at which persistence follows the coefficient.
        floor: persistence that a drive has without a gap; 0 for the minimal loop, which never recovers.
        low: least drive-to-noise ratio of the slow cycle.
        high: largest drive-to-noise ratio of the slow cycle.
        period: observations in the slowest cycle.
        stream: observations of the stream without a loop.
        energy: its drift-to-noise energy while the drive is on.
        hold: mean number of observations for which the drive stays on or off.
        dimension: of its noise.
        seed: of the random numbers.
    """

    window: int = 10
    noise: float = 1.0
    rate: float = 1.0
    floor: float = 0.03
    low: float = 0.05
    high: float = 0.8
    period: float = 4000.0
    stream: int = 3000
    energy: float = 1.0
    hold: float = 200.0
    dimension: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        _ = self.loop  # the constants are checked there
        if not 0 <= self.low < self.high:
            raise InputError(
                "the cycle of the drive",
                expected="0 <= low < high",
                found=f"low={self.low}, high={self.high}",
                remedy="exchange or separate them",
            )
        least = {
            "period": 64.0 / self.rate,
            "stream": max(10.0 * self.window, self.window + _LAGS[-1] + 30.0),
            "hold": 1.0,
            "dimension": float(self.window),
            "window": 2.0,
        }
        for name, bound in least.items():
            if not getattr(self, name) >= bound:
                raise InputError(
                    name, expected=f"at least {bound:g}", found=f"{getattr(self, name)}", remedy=f"raise {name}"
                )
        if not self.energy > 0:
            raise InputError("energy", expected="a positive number", found=f"{self.energy}", remedy="raise energy")

    @property
    def loop(self) -> Loop:
        """The constants of the loop."""
        return Loop(window=self.window, noise=self.noise, rate=self.rate, floor=self.floor)

    def run(self) -> FeedbackResult:
        """Computes the states, runs the cycles, disturbs the high state and watches the stream without a loop."""
        loop = self.loop
        state = np.linspace(self.floor, 1, 802)[1:-1]
        held = drive_at(state, loop)
        periods = np.array([self.period / 4.0**place for place in range(_SPEEDS - 1, -1, -1)])
        cycles = [self._cycle(period) for period in periods.tolist()]
        drive, closed, opened = (both[: len(both) // 2 + 1] for both in cycles[-1])
        second = [[both[len(both) // 2 :] for both in cycle] for cycle in cycles]
        collapse, recovery = _passages(drive, closed, fold_states(loop))
        excess = np.logspace(-4, 0, 13) if fold_states(loop) else np.zeros(0)
        predicted, measured = self._relaxation(excess)
        lag = np.array(_LAGS)
        plain, partial = self._exogenous(lag)
        result = FeedbackResult(
            settings=self,
            branch_state=state,
            branch_drive=held,
            branch_unstable=growth_rate(state, held, loop) > 0,
            folds=fold_drives(loop),
            cycle_drive=drive,
            cycle_state=closed,
            cycle_open=opened,
            collapse=collapse,
            recovery=recovery,
            period=periods,
            area_closed=np.array([loop_area(over, one) for over, one, _ in second]),
            area_open=np.array([loop_area(over, other) for over, _, other in second]),
            area_limit=hysteresis_area(loop),
            excess=excess,
            relaxation_predicted=predicted,
            relaxation_measured=measured,
            lag=lag.astype(np.float64),
            exogenous=plain,
            exogenous_partial=partial,
            sentences=(),
        )
        return replace(result, sentences=_sentences(result))

    def _cycle(self, period: float) -> tuple[Array, Array, Array]:
        """Drive, closed loop and open twin over two cycles."""
        loop, step = self.loop, _STEP / self.rate
        drive = triangle(self.low, self.high, period=period, cycles=2, step=step)
        highest = np.array(np.nanmax(fixed_points(np.array(self.high), loop)))
        closed = evolve(highest, drive, loop, step=step)
        opened = evolve(open_state(np.array(self.high), loop), drive, loop, step=step, closed=False)
        return drive[::2], closed, opened

    def _relaxation(self, excess: Array) -> tuple[Array, Array]:
        """Relaxation times above the fold: from the formula, and from a nudge."""
        if len(excess) == 0:
            return excess, excess
        loop = self.loop
        drive = fold_drives(loop)[0] * (1 + excess)
        settled = fixed_points(drive, loop)[:, 2]
        count = round(_WAIT / 0.05)
        step = _WAIT / self.rate / count
        path = evolve(settled + _NUDGE, np.tile(drive, (2 * count + 1, 1)), loop, step=step)
        return relaxation_time(drive, loop), _WAIT / self.rate / np.log(_NUDGE / (path[-1] - settled))

    def _exogenous(self, lag: NDArray[np.intp]) -> tuple[Array, Array]:
        """Correlation of a window's stability with a later gap, in a stream whose drive is switched by chance."""
        rng = np.random.default_rng(self.seed)
        width, total = self.window, self.stream
        switches = rng.random(total) < 1 / self.hold
        on = (np.cumsum(switches) % 2).astype(np.float64)
        rows = rng.standard_normal((total, self.dimension)) / np.sqrt(self.dimension)
        rows[:, 0] += np.sqrt(self.energy) * on
        lags = np.zeros((total, width + 1))
        for m in range(width + 1):
            lags[m:, m] = np.einsum("tp,tp->t", rows[m:], rows[: total - m])
        gram = grams(lags, np.arange(width, total), size=width + 1)
        found = spectrum(np.ascontiguousarray(gram[:, 1:, 1:]))
        change = moment_change(gram[:, -1:, -1:], gram[:, :1, :1], gram[:, -1:, :1])
        alpha = stability(change, neighbour_gaps(found.eigenvalues, null_space=True))[:, 0]
        gap = found.sigma[:, 0] - found.sigma[:, 1]
        count = len(gap)
        pairs = [(alpha[: count - m], gap[m:], gap[: count - m]) for m in lag.tolist()]
        plain = np.array([_correlation(now, later) for now, later, _ in pairs])
        partial = np.array(
            [
                _correlation(_without(now, given), _without(later, given)) if m else np.nan
                for m, (now, later, given) in zip(lag.tolist(), pairs, strict=True)
            ]
        )
        return plain, partial


def _sentences(found: FeedbackResult) -> tuple[str, ...]:
    low, high = found.folds
    if np.isnan(low):
        states = f"With a floor of {found.settings.floor:g} (1/9 or more) every drive has one state: no hysteresis."
    elif np.isinf(high):
        states = f"Two stable states above a drive of {low:.3f}, one below: the low state never ends."
    else:
        states = f"Two stable states for drives from {low:.3f} to {high:.3f}, one outside."
    sentences = [states]
    if np.isfinite(found.collapse):
        back = f"came back at {found.recovery:.3f}" if np.isfinite(found.recovery) else "did not come back"
        sentences.append(f"In the slowest cycle the gap was lost at a drive of {found.collapse:.3f} and {back}.")
    limit = f" (limit {found.area_limit:.3f})" if np.isfinite(found.area_limit) else ""
    sentences.append(
        f"Cycles of {found.period[0]:,.0f} to {found.period[-1]:,.0f} observations enclose"
        f" {found.area_closed[0]:.3f} to {found.area_closed[-1]:.3f} in the loop{limit} and"
        f" {found.area_open[0]:.3f} to {found.area_open[-1]:.4f} in its open twin."
    )
    if len(found.excess):
        sentences.append(
            f"{found.excess[0]:.2%} above the fold the high state takes {found.relaxation_measured[0]:.0f} observations"
            f" to settle ({found.relaxation_predicted[0]:.0f} predicted), at twice the fold's drive"
            f" {found.relaxation_measured[-1]:.1f}."
        )
    chosen = [int(np.flatnonzero(found.lag == m)[0]) for m in (1, 5, 10)]
    plain = ", ".join(f"{found.exogenous[i]:.3f}" for i in chosen)
    partial = ", ".join(f"{found.exogenous_partial[i]:.2f}" for i in chosen)
    sentences.append(
        f"Without any loop, stability and the gap 1, 5 and 10 observations later correlate at {plain}"
        f" ({partial} given the present gap)."
    )
    return tuple(sentences)


def _passages(drive: Array, state: Array, folds: tuple[float, ...]) -> tuple[float, float]:
    """Drives at which the state falls below the upper fold and later rises above it again."""
    if not folds:
        return np.nan, np.nan
    below = state < folds[-1]
    high = int(np.argmin(below))
    if below.all() or not below[high:].any():
        return np.nan, np.nan
    first = high + int(np.argmax(below[high:]))
    again = ~below[first:]
    return float(drive[first]), float(drive[first + int(np.argmax(again))]) if again.any() else np.nan


def _correlation(one: Array, other: Array) -> float:
    if one.std() == 0 or other.std() == 0:
        return np.nan
    return float(np.corrcoef(one, other)[0, 1])


def _without(series: Array, given: Array) -> Array:
    """What a straight line in `given` leaves of a series."""
    design = np.stack([np.ones_like(given), given], axis=1)
    return series - design @ np.linalg.lstsq(design, series, rcond=None)[0]
