"""Whether the gap's collapse comes before the loss settles: the published event study, beside its null.

Stabilisation is by definition later than collapse, so the published lead is positive in every run that has one. Two
things are set beside it: the first step at which the loss settles at all, which may come before the collapse, and the
leads that result when the gap's series is shifted circularly against the loss. The shift supposes that the gap may
collapse at any time of a run; a gap that only ever falls makes the null a statement about where it falls.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectral_edge.errors import InputError
from spectral_edge.evaluate.ar1 import checked_series

Array = NDArray[np.float64]

BARS = (1.15, 1.20, 1.25, 1.30)
"""Published thresholds of sigma_2 / sigma_3."""

MAIN_BAR = 1.20
"""The one of which the text speaks."""

SETTLED = 0.3
"""Share of its early median below which the mean |change of the loss| counts as settled."""

EARLY = 10
"""Means of |change| that the early median is taken of."""

MEAN_OF = 3
"""Changes in one mean; the mean stands at the last of them."""


@dataclass(frozen=True, slots=True)
class EventLead:
    """Collapse and stabilisation of one run at one threshold; what does not happen is None.

    Attributes:
        bar: ratio below which the gap counts as collapsed.
        collapse_step: first window at or after the peak with a ratio below the bar.
        stable_step: first window after the collapse at which the loss is settled.
        settled_step: first window of the run at which it is, before or after the collapse.
        lead: stable step minus collapse step, in optimizer steps; positive by construction.
        lead_free: settled step minus collapse step; negative where the loss settled first.
        null_share: share of circular shifts that have a lead.
        null_median: median of the leads of the shifts.
        null_interval: their 2.5th and 97.5th percentiles.
        p_longer: share of shifts, the identity among them, with a lead at least as long.
        p_shorter: the same with one at most as long; a shift without a lead counts for neither.
        p_free: share of shifts, the identity among them, with a free lead at least as long.
    """

    bar: float
    collapse_step: int | None
    stable_step: int | None
    settled_step: int | None
    lead: int | None
    lead_free: int | None
    null_share: float
    null_median: float | None
    null_interval: tuple[float, float] | None
    p_longer: float | None
    p_shorter: float | None
    p_free: float | None


def event_study(
    ratio: ArrayLike, loss: ArrayLike, steps: ArrayLike, *, bars: Sequence[float] = BARS
) -> tuple[EventLead, ...]:
    """Leads of a run at several thresholds.

    Args:
        ratio: sigma_2 / sigma_3 or another ratio, by window [N].
        loss: at the same steps [N].
        steps: of the windows, ascending [N].
        bars: thresholds of the ratio.

    Returns:
        One lead for each threshold, in their order.

    Raises:
        InputError: for series that are not finite or not aligned, or steps that do not ascend.
    """
    at = checked_series("steps", steps)
    if (np.diff(at) <= 0).any():
        raise InputError("steps", expected="ascending", found="some that do not", remedy="sort the windows by step")
    gap, level = checked_series("ratio", ratio, len(at)), checked_series("loss", loss, len(at))
    settled = np.flatnonzero(_settled(level))
    return tuple(_lead(gap, settled, at, bar) for bar in bars)


def _settled(loss: Array) -> NDArray[np.bool_]:
    """Whether the loss is settled at each observation [N]; never before the early median is known."""
    found = np.zeros(len(loss), dtype=np.bool_)
    changes = np.abs(np.diff(loss))
    if len(changes) < MEAN_OF + EARLY - 1:
        return found
    means = np.convolve(changes, np.ones(MEAN_OF) / MEAN_OF, mode="valid")
    early = float(np.median(means[:EARLY]))
    found[MEAN_OF + EARLY :] = means[EARLY:] < SETTLED * early
    return found


def _collapse(ratio: Array, bar: float) -> int | None:
    """Place of the first ratio below the bar at or after the peak."""
    if not len(ratio):
        return None
    peak = int(np.argmax(ratio))
    below = np.flatnonzero(ratio[peak:] < bar)
    return peak + int(below[0]) if len(below) else None


def _leads(ratio: Array, settled: NDArray[np.int64], steps: Array, bar: float) -> tuple[int | None, ...]:
    """Places of collapse and of the stabilisation after it, lead and free lead."""
    fallen = _collapse(ratio, bar)
    if fallen is None or not len(settled):
        return fallen, None, None, None
    free = round(steps[settled[0]] - steps[fallen])
    later = int(np.searchsorted(settled, fallen, side="right"))
    if later == len(settled):
        return fallen, None, None, free
    return fallen, int(settled[later]), round(steps[settled[later]] - steps[fallen]), free


def _lead(ratio: Array, settled: NDArray[np.int64], steps: Array, bar: float) -> EventLead:
    fallen, stable, lead, free = _leads(ratio, settled, steps, bar)
    shifts = [_leads(np.roll(ratio, k), settled, steps, bar) for k in range(len(ratio))]
    null = np.array([shift[2] for shift in shifts if shift[2] is not None], dtype=np.float64)
    free_null = np.array([shift[3] for shift in shifts if shift[3] is not None], dtype=np.float64)
    count = len(shifts)
    return EventLead(
        bar=bar,
        collapse_step=_step(steps, fallen),
        stable_step=_step(steps, stable),
        settled_step=_step(steps, int(settled[0]) if len(settled) else None),
        lead=lead,
        lead_free=free,
        null_share=len(null) / count if count else 0.0,
        null_median=float(np.median(null)) if len(null) else None,
        null_interval=(float(np.quantile(null, 0.025)), float(np.quantile(null, 0.975))) if len(null) else None,
        p_longer=None if lead is None else float((null >= lead).sum() / count),
        p_shorter=None if lead is None else float((null <= lead).sum() / count),
        p_free=None if free is None else float((free_null >= free).sum() / count),
    )


def _step(steps: Array, place: int | None) -> int | None:
    return None if place is None else round(steps[place])
