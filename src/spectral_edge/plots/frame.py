"""What all figures share: the grid of panels, colours, scales, marked steps, words in a panel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from spectral_edge.errors import MissingExtraError
from spectral_edge.plots.view import Array, RunView

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, DPI = 1600, 100
"""Pixels of a figure's width, at this resolution."""

COLOURS = {"run": "#0072B2", "control": "#D55E00"}
"""Blue and vermilion of Okabe and Ito's colour-blind-safe palette."""
INK, FAINT, BAND = "#222222", "#8a8a8a", "#e3e3e3"
SMALL, NORMAL, LARGE = 12.0, 13.0, 15.0
_TITLE_PX, _MARK_PX, _BOTTOM_PX, _LEFT_PX, _ROW_GAP_PX = 34, 24, 62, 112, 26
CHARACTER_PX = 9.2
"""Width of a character of a label, generously."""


def new_figure(height: float) -> Figure:
    """An empty figure of the standard width, bound to the Agg canvas.

    Args:
        height: in pixels.

    Raises:
        MissingExtraError: without matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", extra="plots", purpose="drawing figures") from error
    figure = Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def panels(
    views: Sequence[RunView], ylabels: Sequence[str], *, heights: Sequence[float], label_characters: int = 0
) -> tuple[Figure, list[list[Axes]]]:
    """Panels in rows that share their y axis, one column for each run, all on one time axis.

    Args:
        views: the runs, one column each.
        ylabels: what each row shows.
        heights: of the rows, in pixels.
        label_characters: longest label at the end of a line, for which space is left.

    Returns:
        The figure and its axes by row and column.
    """
    stacked = max((len(view.marks) for view in views), default=0)
    top = _TITLE_PX + _MARK_PX * stacked + 12
    height = top + sum(heights) + _ROW_GAP_PX * (len(heights) - 1) + _BOTTOM_PX
    margin = max(48.0, 26 + CHARACTER_PX * label_characters)
    panel = (WIDTH - _LEFT_PX - margin * len(views)) / len(views)
    figure = new_figure(height)
    grid = figure.add_gridspec(
        len(heights),
        len(views),
        height_ratios=list(heights),
        left=_LEFT_PX / WIDTH,
        right=1 - margin / WIDTH,
        top=1 - top / height,
        bottom=_BOTTOM_PX / height,
        wspace=margin / panel,
        hspace=_ROW_GAP_PX / (sum(heights) / len(heights)),
    )
    axes: list[list[Axes]] = grid.subplots(sharex="all", sharey="row", squeeze=False).tolist()
    for row, name in zip(axes, ylabels, strict=True):
        row[0].set_ylabel(name, fontsize=NORMAL, color=INK)
        for ax in row:
            plain(ax)
    for column, view in enumerate(views):
        pad = 6 + (_MARK_PX * len(view.marks)) * 72 / DPI
        title = axes[0][column].set_title(view.title, loc="left", pad=pad, fontsize=LARGE, fontweight="bold")
        title.set_color(COLOURS[view.role])
        axes[-1][column].set_xlabel("step", fontsize=NORMAL, color=INK)
    time_axis(axes[0][0], views)
    return figure, axes


def plain(ax: Axes) -> None:
    """An axis without a box, with a light horizontal grid."""
    ax.set_facecolor("white")
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(FAINT)
    ax.tick_params(labelsize=SMALL, colors=INK, which="both")
    ax.grid(visible=True, axis="y", which="major", color="#ececec", linewidth=0.8)
    ax.set_axisbelow(True)


def titled(ax: Axes, title: str, x: str, y: str) -> None:
    """What a panel shows, and what its axes are."""
    ax.set_title(title, loc="left", fontsize=LARGE, fontweight="bold", color=INK)
    ax.set_xlabel(x, fontsize=NORMAL, color=INK)
    ax.set_ylabel(y, fontsize=NORMAL, color=INK)


def legend(ax: Axes, place: Literal["best", "upper right", "lower right", "lower left", "center right"]) -> None:
    """What a panel's lines are, without a frame."""
    ax.legend(loc=place, fontsize=SMALL, frameon=False, labelcolor=INK)


def time_axis(ax: Axes, views: Sequence[RunView]) -> None:
    """The x axis over everything that any of the runs shows, with thousands separated."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    first = min(view.span[0] for view in views)
    last = max(view.span[1] for view in views)
    ax.set_xlim(0 if 0 <= first < 0.1 * last else first, max(last, first + 1))
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(_thousands))


def log_scale(axes: Sequence[Axes], values: Sequence[Array]) -> None:
    """A logarithmic y axis, unless there is nothing positive to show on it."""
    largest = [float(np.nanmax(column)) for column in values if np.isfinite(column).any()]
    if any(value > 0 for value in largest):
        for ax in axes:
            ax.set_yscale("log", nonpositive="mask")


def largest(ratios: Array) -> Array:
    """The largest defined ratio of each window, NaN where there is none."""
    filled = np.where(np.isfinite(ratios), ratios, -np.inf).max(axis=1, initial=-np.inf)
    return np.where(np.isfinite(filled), filled, np.nan)


def headroom(ax: Axes, share: float) -> None:
    """Room above what a panel and those that share its axis show, for words: this share of the panel's height."""
    low, high = ax.transScale.transform([(1.0, limit) for limit in ax.get_ylim()])[:, 1]
    top = ax.transScale.inverted().transform((1.0, high + (high - low) * share / (1 - share)))[1]
    ax.set_ylim(top=float(top))


def corner(ax: Axes, text: str) -> None:
    """Words in the upper right corner of a panel."""
    ax.text(
        0.99,
        0.97,
        text,
        transform=ax.transAxes,
        ha="right",
        va="top",
        fontsize=SMALL,
        color=INK,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2.0},
    )


def key(ax: Axes, handles: Sequence[Artist]) -> None:
    """What symbols mean, in one row in the upper right corner."""
    ax.legend(
        handles=handles,
        loc="upper right",
        ncols=len(handles),
        frameon=True,
        framealpha=0.9,
        edgecolor="none",
        facecolor="white",
        fontsize=SMALL,
        handlelength=1.4,
        columnspacing=1.4,
        borderaxespad=0.1,
        borderpad=0.2,
        labelcolor=INK,
    )


def ratio_ticks(axes: Sequence[Axes]) -> None:
    """Plain numbers on a logarithmic axis of ratios, which rarely spans a decade."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    high = axes[0].get_ylim()[1]
    wanted = [1, 1.2, 1.5, 2, 3, 5, 10] if high < 20 else [1, 2, 5, 10, 20, 50, 100, 1000, 10_000]
    for ax in axes:
        ax.yaxis.set_major_locator(FixedLocator(wanted))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_formatter(FuncFormatter(_plain_number))


def mark_steps(column: Sequence[Axes], view: RunView) -> None:
    """A vertical line through every panel of a column at each marked step, named above the topmost."""
    for place, mark in enumerate(view.marks):
        for ax in column:
            ax.axvline(mark.step, color=INK, linewidth=1.3, linestyle=(0, (4, 3)), zorder=1.5)
        ax = column[0]
        low, high = ax.get_xlim()
        share = (mark.step - low) / (high - low)
        side = "left" if share < 0.3 else "right" if share > 0.7 else "center"
        ax.annotate(
            mark.label,
            (mark.step, 1.0),
            xycoords=ax.get_xaxis_transform(),
            textcoords="offset points",
            xytext=(0, 3 + place * _MARK_PX * 72 / DPI),
            ha=side,
            va="bottom",
            fontsize=SMALL,
            color=INK,
            annotation_clip=False,
        )


def _thousands(value: float, _: int | None) -> str:
    return f"{value:,.0f}"


def _plain_number(value: float, _: int | None) -> str:
    return f"{value:,g}"


def empty(ax: Axes, text: str) -> None:
    """Says in a panel why it shows nothing."""
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", fontsize=NORMAL, color=FAINT)


def shades(count: int) -> list[str]:
    """Colours of an ordered set, dark to light, that stay apart for colour-blind readers."""
    import matplotlib
    from matplotlib.colors import to_hex

    return [to_hex(matplotlib.colormaps["viridis"](float(place))) for place in np.linspace(0.0, 0.86, max(count, 1))]


def faded(role: str, count: int) -> list[str]:
    """A run's own colour from full to light."""
    from matplotlib.colors import to_hex, to_rgb

    full = np.array(to_rgb(COLOURS[role]))
    return [to_hex(full * (1 - share) + share) for share in np.linspace(0.0, 0.7, max(count, 1))]
