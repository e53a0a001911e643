"""Ratios of consecutive singular values against the null band, and the positions k* that they give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from spectral_edge.plots.frame import (
    BAND,
    COLOURS,
    FAINT,
    INK,
    empty,
    headroom,
    key,
    log_scale,
    mark_steps,
    panels,
    ratio_ticks,
)
from spectral_edge.plots.view import RunView

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def ratios_figure(views: Sequence[RunView]) -> Figure:
    """The ratios with the band of the largest, and k* below.

    Args:
        views: a run, and its control if there is one.
    """
    figure, axes = panels(views, ["ratio R$_j$ = σ$_j$ / σ$_{j+1}$", "position k*"], heights=[420, 240])
    above, below = axes
    log_scale(above, [view.series["gap_ratio"] for view in views])
    for ax, view in zip(above, views, strict=True):
        _ratios(ax, view)
    if any(view.windows for view in views):
        # The band may shoot far above every ratio, where one update dwarfs the others.
        above[0].set_ylim(1.0, max(_largest(view) for view in views) * 1.15)
    headroom(above[0], 0.1)
    ratio_ticks(above)
    for ax, view in zip(below, views, strict=True):
        _positions(ax, view)
    width = max(view.series["sigma"].shape[1] for view in views)
    below[0].set_ylim(0.3, width + 0.9)
    below[0].set_yticks(range(1, width))
    for column, view in enumerate(views):
        mark_steps([above[column], below[column]], view)
    _keys(above[-1], below[-1])
    return figure


def _ratios(ax: Axes, view: RunView) -> None:
    series, steps = view.series, view.series["step"]
    if len(steps) == 0:
        empty(ax, "no full window")
        return
    ax.fill_between(steps, 1.0, series["band_max"], color=BAND, linewidth=0, label="band")
    ratios = series["ratios"]
    for j in range(ratios.shape[1]):
        ax.plot(steps, ratios[:, j], color=FAINT, linewidth=0.7, alpha=0.75)
    ax.plot(steps, series["gap_ratio"], color=COLOURS[view.role], linewidth=2.4, label="gap_ratio")


def _positions(ax: Axes, view: RunView) -> None:
    series, steps = view.series, view.series["step"]
    ax.plot(steps, series["k_star_raw"], "o", color=FAINT, markersize=4, label="raw")
    ax.plot(steps, series["k_star_clear"], "o", color=COLOURS[view.role], markersize=6.5, label="clear")
    ax.plot(steps, series["k_star_weighted"], "+", color=INK, markersize=5, alpha=0.6, markeredgewidth=0.9,
            label="weighted")  # fmt: skip


def _largest(view: RunView) -> float:
    ratios = view.series["ratios"]
    return float(np.nanmax(ratios)) if np.isfinite(ratios).any() else 2.0


def _keys(above: Axes, below: Axes) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    key(above, [
        Line2D([], [], color=FAINT, linewidth=0.9, label="each R$_j$"),
        Line2D([], [], color=INK, linewidth=2.4, label="R at k*"),
        Patch(color=BAND, label="inside the null band"),
    ])  # fmt: skip
    key(below, [
        Line2D([], [], color=FAINT, marker="o", markersize=4, linewidth=0, label="raw"),
        Line2D([], [], color=INK, marker="o", markersize=6.5, linewidth=0, label="raw, outside the band"),
        Line2D([], [], color=INK, marker="+", markersize=6, linewidth=0, label="weighted"),
    ])  # fmt: skip
