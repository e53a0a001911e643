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
    largest,
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
    """Normalised ratios with the band of their largest, the published raw ratios, and k*.

    Args:
        views: a run, and its control if there is one.
    """
    figure, axes = panels(views, ["normalised ratio R$_j$", "raw ratio R$_j$", "position k*"], heights=[330, 250, 250])
    normalised, raw, positions = axes
    log_scale(normalised, [view.series["cosine_ratios"] for view in views])
    log_scale(raw, [view.series["ratios"] for view in views])
    for column, view in enumerate(views):
        _ratios(normalised[column], view, "cosine_ratios")
        _ratios(raw[column], view, "ratios")
        _positions(positions[column], view)
    for row, name in ((normalised, "cosine_ratios"), (raw, "ratios")):
        # The band may shoot far above every ratio, where few updates decide the window.
        row[0].set_ylim(1.0, max(_top(view, name) for view in views) * 1.15)
        headroom(row[0], 0.13)
        ratio_ticks(row)
    width = max(view.series["sigma"].shape[1] for view in views)
    positions[0].set_ylim(0.3, width + 0.9)
    positions[0].set_yticks(range(1, width))
    for column, view in enumerate(views):
        mark_steps([row[column] for row in axes], view)
    _keys(normalised[-1], raw[-1], positions[-1])
    return figure


def _ratios(ax: Axes, view: RunView, name: str) -> None:
    series, steps = view.series, view.series["step"]
    if len(steps) == 0:
        empty(ax, "no full window")
        return
    if name == "cosine_ratios":
        ax.fill_between(steps, 1.0, series["band_max"], color=BAND, linewidth=0, label="band")
    ratios = series[name]
    for j in range(ratios.shape[1]):
        ax.plot(steps, ratios[:, j], color=FAINT, linewidth=0.7, alpha=0.75)
    top = largest(ratios) if name == "cosine_ratios" else series["gap_ratio"]
    ax.plot(steps, top, color=COLOURS[view.role], linewidth=2.2, label=name)


def _positions(ax: Axes, view: RunView) -> None:
    series, steps = view.series, view.series["step"]
    ax.plot(steps, series["k_star_raw"], "o", color=FAINT, markersize=4, label="raw")
    ax.plot(steps, series["k_star_clear"], "o", color=COLOURS[view.role], markersize=6.5, label="clear")
    ax.plot(
        steps, series["k_star_weighted"], "+", color=INK, markersize=5, alpha=0.6, markeredgewidth=0.9, label="weighted"
    )


def _top(view: RunView, name: str) -> float:
    ratios = view.series[name]
    return float(np.nanmax(ratios)) if np.isfinite(ratios).any() else 2.0


def _keys(normalised: Axes, raw: Axes, positions: Axes) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    each = Line2D([], [], color=FAINT, linewidth=0.9, label="each R$_j$")
    top = Line2D([], [], color=INK, linewidth=2.2, label="largest")
    at_edge = Line2D([], [], color=INK, linewidth=2.2, label="R at k*")
    key(normalised, [each, top, Patch(color=BAND, label="inside its null band")])
    key(raw, [each, at_edge])
    key(
        positions,
        [
            Line2D([], [], color=FAINT, marker="o", markersize=4, linewidth=0, label="raw"),
            Line2D([], [], color=INK, marker="o", markersize=6.5, linewidth=0, label="clear of the band"),
            Line2D([], [], color=INK, marker="+", markersize=6, linewidth=0, label="weighted"),
        ],
    )
