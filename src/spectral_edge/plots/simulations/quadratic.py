"""Picture of the quadratic simulation: energy of a window against curvature, and the published form's error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spectral_edge.plots.frame import FAINT, INK, LARGE, NORMAL, SMALL, new_figure, plain, shades
from spectral_edge.simulate.quadratic import QuadraticResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(result: QuadraticResult) -> Figure:
    """Two panels: E d^2 against curvature, and published over exact against the relaxation in one observation.

    Args:
        result: of `QuadraticModel.run`.
    """
    figure = new_figure(640)
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.065, right=0.985, top=0.86, bottom=0.115, wspace=0.17)
    order = np.argsort(result.curvature)
    for row, (every, colour) in enumerate(zip(result.settings.every, shades(len(result.settings.every)), strict=True)):
        h = result.curvature[order]
        name = f"s = {every}: slope of d {result.slope[row]:+.2f}"
        left.plot(h, result.exact[row][order], color=colour, linewidth=2, label=name)
        left.errorbar(
            h,
            result.energy[row][order],
            yerr=result.standard_error[row][order],
            fmt="o",
            color=colour,
            markersize=6,
        )
        right.plot(
            result.relaxation[row][order],
            result.published_over_exact[row][order],
            "o-",
            color=colour,
            linewidth=2,
            label=f"s = {every}",
        )
    left.plot(
        result.curvature[order],
        result.published[order],
        color="#D55E00",
        linestyle="--",
        linewidth=2.2,
        label=f"published fixed point: slope {result.slope_pub:+.2f}",
    )
    right.axhline(1, color=FAINT, linewidth=1.2)
    right.axhline(0.5, color=FAINT, linewidth=1.2, linestyle=":")
    _panel(
        left, "Energy of a window, E d² (lines exact, dots simulated)", "curvature h (loss per squared parameter unit)"
    )
    _panel(right, "Published over exact energy (dotted: 1/2)", "relaxation in one observation, κs")
    left.set_ylabel("E d² (squared parameter units)", fontsize=NORMAL, color=INK)
    right.set_ylabel("ratio", fontsize=NORMAL, color=INK)
    low, high = left.get_ylim()
    left.set_ylim(low, high * (high / low) ** 0.28)
    for ax in (left, right):
        ax.legend(fontsize=SMALL, frameon=True, framealpha=0.9, edgecolor="none", loc="upper right", ncols=2)
    figure.suptitle(
        f"Curvature shapes a window only when it has time to act: ln d on ln h has slope {result.slope[0]:+.2f} at s = "
        f"{result.settings.every[0]}, {result.slope[-1]:+.2f} at s = {result.settings.every[-1]}; published "
        f"{result.slope_pub:+.2f}",
        fontsize=LARGE,
        color=INK,
        y=0.975,
    )
    return figure


def _panel(ax: Axes, title: str, xlabel: str) -> None:
    plain(ax)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_title(title, loc="left", fontsize=LARGE, color=INK, pad=8)
    ax.set_xlabel(xlabel, fontsize=NORMAL, color=INK)
