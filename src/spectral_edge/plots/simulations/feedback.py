"""The loop's states with a slow cycle, areas by period, critical slowing, and a stream without a loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spectral_edge.plots.frame import (
    COLOURS,
    FAINT,
    INK,
    SMALL,
    empty,
    legend,
    new_figure,
    plain,
    titled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from spectral_edge.simulate.feedback import FeedbackResult


def draw(result: FeedbackResult) -> Figure:
    """The four panels of the feedback loop.

    Args:
        result: of `simulate.feedback.Feedback.run`.
    """
    figure = new_figure(1000)
    grid = figure.add_gridspec(2, 2, left=0.06, right=0.985, top=0.94, bottom=0.075, wspace=0.17, hspace=0.34)
    panels: list[list[Axes]] = grid.subplots(squeeze=False).tolist()
    (states, areas), (slowing, stream) = panels
    for ax in (states, areas, slowing, stream):
        plain(ax)
    _states(states, result)
    _areas(areas, result)
    _slowing(slowing, result)
    _stream(stream, result)
    return figure


def _states(ax: Axes, result: FeedbackResult) -> None:
    unstable = result.branch_unstable
    for name, mask, style in (("stable states", ~unstable, "-"), ("unstable state", unstable, ":")):
        drive = np.where(mask, result.branch_drive, np.nan)
        ax.plot(drive, result.branch_state, style, color=FAINT, linewidth=4, label=name, alpha=0.7)
    if result.settings.floor == 0:
        ax.plot([result.settings.low, result.settings.high], [0, 0], color=FAINT, linewidth=4, alpha=0.7)
    ax.plot(result.cycle_drive, result.cycle_state, color=COLOURS["run"], linewidth=1.8, label="slow cycle, loop")
    ax.plot(
        result.cycle_drive, result.cycle_open, color=COLOURS["control"], linewidth=1.4, label="slow cycle, open twin"
    )
    ax.set_xlim(result.settings.low, result.settings.high)
    ax.set_ylim(-0.03, 1.03)
    legend(ax, "center right")
    low, high = result.folds
    if np.isfinite(high):
        title = f"Two states for drives from {low:.2f} to {high:.2f}"
    elif np.isfinite(low):
        title = f"Two states above {low:.2f}: once lost, the gap stays lost"
    else:
        title = "One state at every drive"
    titled(ax, title, "drive-to-noise ratio E", "persistence q")


def _areas(ax: Axes, result: FeedbackResult) -> None:
    # A loop that stays collapsed encloses nothing, which a logarithmic axis cannot show.
    closed = np.where(result.area_closed > 1e-9, result.area_closed, np.nan)
    ax.plot(result.period, closed, "o-", color=COLOURS["run"], linewidth=1.8, label="loop")
    ax.plot(result.period, result.area_open, "s-", color=COLOURS["control"], linewidth=1.8, label="open twin")
    if np.isfinite(result.area_limit):
        ax.axhline(result.area_limit, color=INK, linestyle="--", linewidth=1.2, label="limit of slow cycles")
    ax.set_xscale("log")
    ax.set_yscale("log", nonpositive="mask")
    ax.set_ylim(top=ax.get_ylim()[1] * 2.5)
    legend(ax, "lower left")
    title = "Lag dies out in slow cycles" + (", hysteresis stays" if np.isfinite(result.area_limit) else "")
    titled(ax, title, "period of the cycle (observations)", "area enclosed in (E, q)")


def _slowing(ax: Axes, result: FeedbackResult) -> None:
    if len(result.excess) == 0:
        empty(ax, "no fold")
    else:
        ax.plot(result.excess, result.relaxation_predicted, color=INK, linewidth=1.8, label="predicted")
        ax.plot(result.excess, result.relaxation_measured, "o", color=COLOURS["run"], label="loop after a nudge")
        ax.set_xscale("log")
        ax.set_yscale("log")
        legend(ax, "upper right")
    titled(
        ax, "The high state slows down near its end", "drive above the fold, relative", "settling time (observations)"
    )


def _stream(ax: Axes, result: FeedbackResult) -> None:
    ax.axhline(0, color=FAINT, linewidth=0.8)
    ax.plot(result.lag, result.exogenous, "o-", color=COLOURS["control"], linewidth=1.8, label="plain")
    ax.plot(result.lag, result.exogenous_partial, "o--", color=FAINT, linewidth=1.5, label="given the present gap")
    ax.set_ylim(-0.45, 1.08)
    ax.set_xlim(0, result.lag[-1] + 0.3)
    ax.legend(loc="center right", fontsize=SMALL, frameon=False, labelcolor=INK, bbox_to_anchor=(1.0, 0.55))
    title = f"No loop, yet stability foretells the gap: {result.exogenous[1]:.3f} at m = 1"
    ax.set_xticks(range(0, 21, 5))
    titled(ax, title, "lag m (observations)", r"correlation of $\alpha_k$ and gap$_{k+m}$")
