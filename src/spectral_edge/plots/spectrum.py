"""The singular values of the window over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from spectral_edge.plots.frame import empty, log_scale, mark_steps, panels, shades
from spectral_edge.plots.labels import EndLabel, end_labels
from spectral_edge.plots.view import RunView

if TYPE_CHECKING:
    from matplotlib.figure import Figure


MOST_LABELS = 20
"""Singular values named at the ends of their lines."""


def spectrum_figure(views: Sequence[RunView]) -> Figure:
    """All singular values of the window's updates.

    Args:
        views: a run, and its control if there is one.
    """
    figure, axes = panels(views, ["singular values of the window (u)"], heights=[520], label_characters=4)
    row = axes[0]
    log_scale(row, [view.series["sigma"] for view in views])
    for ax, view in zip(row, views, strict=True):
        steps, sigma = view.series["step"], view.series["sigma"]
        if len(steps) == 0:
            empty(ax, "no full window")
        for j, colour in enumerate(shades(sigma.shape[1])):
            ax.plot(steps, sigma[:, j], color=colour, linewidth=2.4 if j == 0 else 1.5)
    for ax, view in zip(row, views, strict=True):
        steps, sigma = view.series["step"], view.series["sigma"]
        colours, count = shades(sigma.shape[1]), sigma.shape[1]
        # Values of a wide window are named in even steps, the first and the last among them.
        named = np.linspace(0, count - 1, min(count, MOST_LABELS)).round().astype(int)
        end_labels(ax, [EndLabel(f"$\\sigma_{{{j + 1}}}$", colours[j], steps, sigma[:, j]) for j in named])
        mark_steps([ax], view)
    return figure
