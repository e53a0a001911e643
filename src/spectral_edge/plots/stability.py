"""Do the leading directions last: overlap of windows that share no row, regime, and what moves the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from spectral_edge.plots.frame import COLOURS, empty, headroom, key, mark_steps, panels
from spectral_edge.plots.view import Array, RunView
from spectral_edge.quantities import REGIMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REGIME_COLOURS = ("#d9e8f3", "#fbf0cf", "#f5ddd3")
"""Tints for plateau, transition and forgetting, light enough to draw on."""


def stability_figure(views: Sequence[RunView]) -> Figure:
    """Adiabatic parameter on its regime, overlap of the first mode one window apart, its progress share.

    Args:
        views: a run, and its control if there is one.
    """
    figure, axes = panels(
        views,
        ["lost in one window\n(adiabatic_emp)", "overlap of mode 1\n(lag W)", "progress share\nof mode 1"],
        heights=[280, 230, 230],
    )
    for row in axes:
        row[0].set_ylim(-0.03, 1.03)
        row[0].set_yticks([0.0, 0.25, 0.5, 0.75, 1.0])
    headroom(axes[0][0], 0.14)
    for column, view in enumerate(views):
        series, steps, colour = view.series, view.series["step"], COLOURS[view.role]
        lost, overlap, progress = (row[column] for row in axes)
        if view.windows == 0:
            empty(lost, "no full window")
            continue
        _regimes(lost, steps, series["regime"])
        lost.plot(steps, series["adiabatic_emp"], color=colour, linewidth=1.9)
        overlap.plot(steps, series["alpha_overlap"][:, 0], color=colour, linewidth=1.9)
        progress.plot(steps, series["progress_share"][:, 0], color=colour, linewidth=1.9)
    for column, view in enumerate(views):
        mark_steps([row[column] for row in axes], view)
    _key(axes[0][-1])
    return figure


def _regimes(ax: Axes, steps: Array, regime: Array) -> None:
    """A tint behind each window, reaching half-way to its neighbours."""
    if len(steps) < 2:
        return
    middle = (steps[1:] + steps[:-1]) / 2
    edges = np.concatenate(([steps[0]], middle, [steps[-1]]))
    for code, tint in enumerate(REGIME_COLOURS):
        bars = [(float(edges[i]), float(edges[i + 1] - edges[i])) for i in np.flatnonzero(regime == code)]
        ax.broken_barh(bars, (0.0, 1.0), facecolors=tint, linewidth=0, antialiased=False, zorder=0.5)


def _key(ax: Axes) -> None:
    from matplotlib.patches import Patch

    key(ax, [Patch(color=tint, label=name) for name, tint in zip(REGIMES, REGIME_COLOURS, strict=True)])
