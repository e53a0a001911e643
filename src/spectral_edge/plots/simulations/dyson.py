"""Paths that repel, the drift, the spacings, and how a rolling window differs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spectral_edge.plots.frame import (
    COLOURS,
    FAINT,
    INK,
    SMALL,
    legend,
    new_figure,
    plain,
    shades,
    titled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from spectral_edge.simulate.dyson import DysonResult


def draw(result: DysonResult) -> Figure:
    """The four panels of a simulated Dyson diffusion.

    Args:
        result: of `simulate.dyson.Dyson.run`.
    """
    figure = new_figure(1000)
    grid = figure.add_gridspec(2, 2, left=0.06, right=0.985, top=0.94, bottom=0.075, wspace=0.16, hspace=0.34)
    panels: list[list[Axes]] = grid.subplots(squeeze=False).tolist()
    (paths, drift), (spacing, memory) = panels
    for ax in (paths, drift, spacing, memory):
        plain(ax)
    _paths(paths, result)
    _drift(drift, result)
    _spacing(spacing, result)
    _memory(memory, result)
    return figure


def _paths(ax: Axes, result: DysonResult) -> None:
    for j, colour in enumerate(shades(result.path.shape[1])):
        ax.plot(result.time, result.path[:, j], color=colour, linewidth=1.4)
    ax.set_xlim(0, result.time[-1])
    ax.set_ylim(bottom=0)
    titled(
        ax,
        f"Levels repel: closest approach {result.closest:.2g} in the second half",
        "time",
        "singular value (noise per unit time)",
    )


def _drift(ax: Axes, result: DysonResult) -> None:
    level = np.arange(1, len(result.state) + 1)
    ax.plot(level, result.drift_predicted, "_", color=INK, markersize=26, markeredgewidth=2, label="predicted")
    measured = np.isfinite(result.drift_measured)
    if measured.any():
        ax.errorbar(
            level[measured],
            result.drift_measured[measured],
            yerr=2 * result.drift_error[measured],
            fmt="o",
            color=COLOURS["run"],
            markersize=6,
            capsize=4,
            label="matrix, two standard errors",
        )
        title = f"The matrix drifts as predicted, within {result.drift_deviation:.1f} standard errors"
    else:
        title = f"No matrix is known at beta = {result.settings.beta:g}"
    ax.set_xticks(level)
    ax.margins(y=0.25)
    legend(ax, "best")
    titled(ax, title, "level j", "drift (singular value per time)")


def _spacing(ax: Axes, result: DysonResult) -> None:
    width = result.spacing[1] - result.spacing[0]
    ax.bar(result.spacing, result.density, width=width, color=COLOURS["run"], alpha=0.35, label="measured")
    ax.plot(result.spacing, result.surmise, color=INK, linewidth=2, label=f"surmise, beta = {result.settings.beta:g}")
    ax.plot(result.spacing, np.exp(-result.spacing), color=FAINT, linestyle="--", linewidth=1.5, label="no repulsion")
    ax.set_xlim(0, result.spacing[-1] + width / 2)
    legend(ax, "upper right")
    found = result.estimate
    title = f"Spacings: beta = {found.beta:.2f} ({found.low:.2f} to {found.high:.2f})"
    titled(ax, title, "spacing / its mean", "density")


def _memory(ax: Axes, result: DysonResult) -> None:
    ax.axhline(0, color=FAINT, linewidth=0.8)
    ax.plot(
        result.lag, result.diffusion_memory, color=COLOURS["control"], linewidth=2, label="matched diffusion, exact"
    )
    ax.plot(result.lag, result.window_memory, "o-", color=COLOURS["run"], markersize=5, label="rolling window")
    ax.set_xlim(0, result.lag[-1])
    ax.set_ylim(top=1.05)
    legend(ax, "upper right")
    corner_text = (
        f"a level passes a neighbour's old place in\n{result.window_past:.0%} of the window's steps,"
        f" {result.diffusion_past:.0%} of the diffusion's"
    )
    ax.text(0.985, 0.66, corner_text, transform=ax.transAxes, ha="right", va="top", fontsize=SMALL, color=INK)
    titled(ax, "A rolling window is not this diffusion", "lag (observations)", r"autocorrelation of $|X|^2$")
