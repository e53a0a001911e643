"""Picture of a planted direction in noise: what is seen, what is read, and what the published ratio says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spectral_edge.plots.frame import COLOURS, FAINT, INK, NORMAL, SMALL, legend, new_figure, plain, titled
from spectral_edge.theory.detection import Phase

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from spectral_edge.simulate.bbp import BbpResult

LEFT, RIGHT, THIRD = COLOURS["run"], COLOURS["control"], "#009E73"
REGIONS = ("#f2f2f2", "#cfe3f1", "#f6d9c6")
"""Nothing, time course only, direction too."""


def draw(result: BbpResult) -> Figure:
    """Overlaps, singular value, published ratio and phase diagram.

    Args:
        result: of the sweep.
    """
    figure = new_figure(1000)
    grid = figure.add_gridspec(2, 2, left=0.07, right=0.975, top=0.93, bottom=0.075, hspace=0.33, wspace=0.17)
    axes = [figure.add_subplot(grid[row, column]) for row in range(2) for column in range(2)]
    for ax in axes:
        plain(ax)
    overlaps_panel(axes[0], result)
    _sigma(axes[1], result)
    _published(axes[2], result)
    phase_panel(axes[3], result)
    return figure


def overlaps_panel(ax: Axes, result: BbpResult) -> None:
    """Measured and predicted squared cosines against planted strength.

    Args:
        ax: where to draw.
        result: of the sweep.
    """
    signal = result.signal
    for name, colour, label in (("left", LEFT, "time course u"), ("right", RIGHT, "parameter direction v")):
        ax.plot(result.curve, getattr(result, f"curve_{name}"), color=colour, linewidth=2)
        measured, error = getattr(result, name), getattr(result, f"{name}_error")
        ax.errorbar(signal, measured, error, fmt="o", color=colour, markersize=4.5, label=label)
    _thresholds(ax, result)
    ax.axhline(result.chance, color=FAINT, linewidth=1, linestyle=":", label="chance for u, 1/W")
    ax.set_ylim(-0.02, 1.34)
    titled(
        ax,
        "Seen early, read late: drawn (points), formula (lines)",
        "planted strength d",
        "squared cosine with the truth",
    )
    _legend_row(ax)


def phase_panel(ax: Axes, result: BbpResult) -> None:
    """Which strengths are seen and which directions are read, against the noise's dimension.

    Args:
        ax: where to draw.
        result: of the sweep.
    """
    from matplotlib.colors import ListedColormap

    colours = ListedColormap(REGIONS)
    ax.pcolormesh(result.dimensions, result.strengths, result.phase, cmap=colours, vmin=0, vmax=2, shading="nearest")
    ax.plot(result.dimensions, result.detection_line, color=LEFT, linewidth=2)
    ax.plot(result.dimensions, result.direction_line, color=RIGHT, linewidth=2)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.grid(visible=False)
    for phase, place in zip(Phase, ((1e5, 7e-3), (1e7, 0.2), (1e5, 3.5)), strict=True):
        ax.text(*place, phase.label, ha="center", va="center", fontsize=NORMAL, color=INK)
    settings = result.settings
    for place, colour in zip(result.thresholds_over_noise, (LEFT, RIGHT), strict=True):
        ax.plot(result.effective_dimension, place, "o", color=colour)
    title = f"Parameters help detection, not direction (W = {settings.window})"
    titled(ax, title, "effective dimension of the noise (P if isotropic)", "d over noise norm of a row")


def _sigma(ax: Axes, result: BbpResult) -> None:
    ax.plot(result.signal, result.sigma_theory, color=INK, linewidth=1.6, label="formula, sigma$_1$")
    ax.plot(result.signal, result.sigma, "o", color=LEFT, markersize=4.5, label="sigma$_1$ over noise norm")
    ax.plot(result.signal, result.gap_ratio, "s", color=THIRD, markersize=4, label="sigma$_1$ / sigma$_2$")
    ax.plot(
        result.signal, result.signal_over_noise, color=FAINT, linewidth=1.2, linestyle=":", label="d over noise norm"
    )
    _thresholds(ax, result)
    ax.set_yscale("log")
    titled(ax, "sigma$_1$ moves only once d rivals the noise", "planted strength d", "ratio")
    legend(ax, "lower right")


def _published(ax: Axes, result: BbpResult) -> None:
    ax.plot(result.signal, result.ratio_pub, "o-", color=LEFT, markersize=4.5, label="drawn")
    ax.axhline(result.ratio_limit, color=INK, linewidth=1.2, label="its limit (P / (W-1))$^{1/4}$")
    ax.axhline(5.0, color=RIGHT, linewidth=1.2, linestyle="--", label="published bar, 5")
    ax.set_xscale("log")
    ax.set_ylim(0, 1.34 * max(result.ratio_limit, 5.0))
    _thresholds(ax, result)
    titled(ax, "The published ratio does not see the signal", "planted strength d", "sigma$_W$ / d$_{crit}$")
    _legend_row(ax)


def _thresholds(ax: Axes, result: BbpResult) -> None:
    ax.set_xscale("log")
    share = result.settings.overlap
    for place, colour, label in (
        (result.detection, LEFT, "detection"),
        (result.direction, RIGHT, f"direction {share:.0%}"),
    ):
        ax.axvline(place, color=colour, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1.5)
        ax.annotate(
            label,
            (place, 0.9),
            xycoords=ax.get_xaxis_transform(),
            textcoords="offset points",
            xytext=(4, -2),
            va="top",
            fontsize=SMALL,
            color=colour,
        )


def _legend_row(ax: Axes) -> None:
    legend = ax.legend(
        loc="upper center", ncols=3, fontsize=SMALL, labelcolor=INK, framealpha=1, edgecolor="none", borderaxespad=0.2
    )
    legend.set_zorder(5)
