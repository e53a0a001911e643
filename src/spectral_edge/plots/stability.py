"""Do the leading directions last: overlap of windows that share no row, and what moves the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from spectral_edge.plots.frame import COLOURS, empty, mark_steps, panels
from spectral_edge.plots.view import RunView

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def stability_figure(views: Sequence[RunView]) -> Figure:
    """What the leading k* directions lose in one window, k* itself, overlap and progress share of the first mode.

    Args:
        views: a run, and its control if there is one.
    """
    figure, axes = panels(
        views,
        [
            "lost in one window\n(adiabatic_emp)",
            "of how many\n(raw k*)",
            "overlap of mode 1\n(lag W)",
            "progress share\nof mode 1",
        ],
        heights=[250, 150, 230, 230],
    )
    shares = [axes[0], axes[2], axes[3]]
    for row in shares:
        row[0].set_ylim(-0.03, 1.03)
        row[0].set_yticks([0.0, 0.25, 0.5, 0.75, 1.0])
    width = max(view.series["sigma"].shape[1] for view in views)
    axes[1][0].set_ylim(0.3, width - 0.3)
    axes[1][0].set_yticks(range(1, width, max(1, width // 4)))
    for column, view in enumerate(views):
        series, steps, colour = view.series, view.series["step"], COLOURS[view.role]
        lost, positions, overlap, progress = (row[column] for row in axes)
        if view.windows == 0:
            empty(lost, "no full window")
            continue
        lost.plot(steps, series["adiabatic_emp"], color=colour, linewidth=1.9)
        positions.plot(steps, series["k_star_raw"], "o", color=colour, markersize=3.5, label="raw")
        overlap.plot(steps, series["alpha_overlap"][:, 0], color=colour, linewidth=1.9)
        progress.plot(steps, series["progress_share"][:, 0], color=colour, linewidth=1.9)
    for column, view in enumerate(views):
        mark_steps([row[column] for row in axes], view)
    return figure
