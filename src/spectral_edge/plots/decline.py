"""The published decline of g23 beside that of the update norm it follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from spectral_edge.measure import Decline
from spectral_edge.plots.frame import COLOURS, INK, corner, empty, headroom, log_scale, mark_steps, panels
from spectral_edge.plots.labels import EndLabel, end_labels
from spectral_edge.plots.view import RunView

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def decline_figure(views: Sequence[RunView]) -> Figure:
    """g23 and the trace of G above, their quotient below, with peak and value of each decline.

    Args:
        views: a run, and its control if there is one.
    """
    figure, axes = panels(views, ["g23 and tr G (u²)", "g23 / tr G"], heights=[400, 300], label_characters=5)
    above, below = axes
    log_scale(above, [view.series[name] for view in views for name in ("gram_trace", "g23")])
    log_scale(below, [view.series["g23_normalized"] for view in views])
    for column, view in enumerate(views):
        if view.windows == 0:
            empty(above[column], "no full window")
        elif not np.isfinite(view.series["g23"]).any():
            empty(below[column], "g23 is undefined")
        for ax, name, colour in (
            (above[column], "gram_trace", INK),
            (above[column], "g23", COLOURS[view.role]),
            (below[column], "g23_normalized", COLOURS[view.role]),
        ):
            ax.plot(view.series["step"], view.series[name], color=colour, linewidth=1.9, label=name)
            if name in view.falls:
                _fall(ax, view.falls[name], colour)
    for row in axes:
        headroom(row[0], 0.1)
    for column, view in enumerate(views):
        steps = view.series["step"]
        end_labels(
            above[column],
            [
                EndLabel("tr G", INK, steps, view.series["gram_trace"]),
                EndLabel("g23", COLOURS[view.role], steps, view.series["g23"]),
            ],
        )
        _say(above[column], view, ("g23", "gram_trace"))
        _say(below[column], view, ("g23_normalized",))
        mark_steps([above[column], below[column]], view)
    return figure


def _fall(ax: Axes, fall: Decline, colour: str) -> None:
    ax.plot([fall.peak_step, fall.step], [fall.peak, fall.peak], color=colour, linewidth=1.2, linestyle=":")
    ax.plot(
        [fall.peak_step, fall.step],
        [fall.peak, fall.value],
        "o",
        color=colour,
        markersize=9,
        markeredgecolor="white",
        zorder=4,
    )


def _say(ax: Axes, view: RunView, names: Sequence[str]) -> None:
    """The declines in numbers, where `headroom` left a place for them."""
    words = {"g23": "g23", "gram_trace": "tr G", "g23_normalized": "g23 / tr G"}
    folds = [f"{words[name]}: {_fold(view.falls[name])}" for name in names if name in view.falls]
    if folds:
        corner(ax, f"peak before / value at the mark:  {',   '.join(folds)}")


def _fold(fall: Decline) -> str:
    return f"{fall.fold:,.0f}-fold" if 100 <= fall.fold < 1e6 else f"{fall.fold:.3g}-fold"
