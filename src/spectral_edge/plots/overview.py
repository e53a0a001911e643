"""The one picture of a run and its control: accuracy, gap ratio, coherence, and g23 beside the update norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from spectral_edge.plots.frame import (
    COLOURS,
    FAINT,
    INK,
    LARGE,
    NORMAL,
    SMALL,
    WIDTH,
    empty,
    faded,
    headroom,
    key,
    largest,
    log_scale,
    new_figure,
    plain,
    ratio_ticks,
    time_axis,
)
from spectral_edge.plots.labels import EndLabel, end_labels
from spectral_edge.plots.view import RunView

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HEIGHT = 1060


def overview_figure(views: Sequence[RunView]) -> Figure:
    """Two by two panels with the runs drawn over each other.

    Args:
        views: a run, and its control if there is one.
    """
    figure = new_figure(_HEIGHT)
    grid = figure.add_gridspec(
        2,
        2,
        left=90 / WIDTH,
        right=1 - 120 / WIDTH,
        top=1 - 130 / _HEIGHT,
        bottom=62 / _HEIGHT,
        wspace=0.29,
        hspace=0.3,
    )
    (first, second), (third, fourth) = grid.subplots(sharex="all", squeeze=False)
    panels = (
        (first, "Accuracy" if _has_accuracy(views) else "Loss"),
        (second, "Largest normalised ratio, filled outside its null band"),
        (third, "Coherence of the updates"),
        (fourth, "g23 (solid; dots: peak and value read), tr G (dashed), u²"),
    )
    for ax, title in panels:
        plain(ax)
        ax.set_title(title, loc="left", fontsize=LARGE, color=INK, pad=10)
    for ax in (third, fourth):
        ax.set_xlabel("step", fontsize=NORMAL, color=INK)
    time_axis(first, views)
    first.tick_params(labelbottom=True)
    second.tick_params(labelbottom=True)
    _accuracy(first, views)
    _gap(second, views)
    _coherence(third, views)
    _norms(fourth, views)
    _heading(figure, views)
    for ax, _ in panels:
        for step in dict.fromkeys(mark.step for view in views for mark in view.marks):
            ax.axvline(step, color=INK, linewidth=1.3, linestyle=(0, (4, 3)), zorder=1.5)
    return figure


def _heading(figure: Figure, views: Sequence[RunView]) -> None:
    for place, view in enumerate(views):
        figure.text(
            90 / WIDTH,
            1 - (30 + 28 * place) / _HEIGHT,
            view.title,
            fontsize=LARGE + 1,
            fontweight="bold",
            color=COLOURS[view.role],
            va="center",
        )
    marks = {mark.step: mark.label for view in views[::-1] for mark in view.marks}
    if marks:
        said = "dashed line: " + "; ".join(marks.values())
        figure.text(1 - 120 / WIDTH, 1 - 30 / _HEIGHT, said, fontsize=SMALL, color=INK, ha="right", va="center")


def _has_accuracy(views: Sequence[RunView]) -> bool:
    return any("accuracy" in name for view in views for name in view.metrics)


def _accuracy(ax: Axes, views: Sequence[RunView]) -> None:
    labels: list[EndLabel] = []
    for view in views:
        wanted = {name: curve for name, curve in view.metrics.items() if "accuracy" in name}
        if not wanted and not _has_accuracy(views) and view.loss is not None:
            wanted = {"loss": view.loss}
        for name, (steps, values) in wanted.items():
            training = name.startswith("train")
            colour = faded(view.role, 3)[1] if training else COLOURS[view.role]
            width, style = (1.5, "--") if training else (2.6, "-")
            ax.plot(steps, values, color=colour, linewidth=width, linestyle=style)
            labels.append(EndLabel(name.removesuffix("_accuracy"), colour, steps, values))
    if _has_accuracy(views):
        ax.set_ylim(-0.03, 1.06)
    if not labels:
        empty(ax, "nothing logged")
    end_labels(ax, labels)


def _gap(ax: Axes, views: Sequence[RunView]) -> None:
    ratios = [largest(view.series["cosine_ratios"]) for view in views]
    log_scale([ax], ratios)
    labels: list[EndLabel] = []
    for view, gap in zip(views, ratios, strict=True):
        steps, colour, limit = view.series["step"], COLOURS[view.role], view.series["band_max"]
        ax.plot(steps, gap, color=colour, linewidth=2.2)
        ax.plot(steps, limit, color=colour, linewidth=1.2, linestyle=":")
        ax.fill_between(steps, limit, gap, where=gap > limit, color=colour, alpha=0.22, linewidth=0, interpolate=True)
        labels.append(EndLabel("ratio", colour, steps, gap))
        labels.append(EndLabel("band", colour, steps, limit))
    _windows(ax, views)
    tops = [float(np.nanmax(gap)) for gap in ratios if np.isfinite(gap).any()]
    if tops:
        # The band may shoot far above every ratio, where few updates decide the window.
        ax.set_ylim(1.0, max(tops) * 1.3)
    ratio_ticks([ax])
    end_labels(ax, labels)


def _coherence(ax: Axes, views: Sequence[RunView]) -> None:
    ax.axhline(0.0, color=FAINT, linewidth=1.0)
    for view in views:
        ax.plot(view.series["step"], view.series["coherence"], color=COLOURS[view.role], linewidth=2.2)
    _windows(ax, views)
    end_labels(
        ax, [EndLabel(view.role, COLOURS[view.role], view.series["step"], view.series["coherence"]) for view in views]
    )


def _norms(ax: Axes, views: Sequence[RunView]) -> None:
    log_scale([ax], [view.series[name] for view in views for name in ("g23", "gram_trace")])
    labels: list[EndLabel] = []
    for view in views:
        steps = view.series["step"]
        for name, said, width, style in (("gram_trace", "tr G", 1.5, "--"), ("g23", "g23", 2.4, "-")):
            ax.plot(steps, view.series[name], color=COLOURS[view.role], linewidth=width, linestyle=style)
            labels.append(EndLabel(said, COLOURS[view.role], steps, view.series[name]))
        if "g23" in view.falls:
            fall = view.falls["g23"]
            steps, values = [fall.peak_step, fall.step], [fall.peak, fall.value]
            ax.plot(steps, values, linewidth=0, zorder=4, label=f"fall of {view.role}", **_dot(view))
    _windows(ax, views)
    _dots_key(ax, views)
    end_labels(ax, labels)


def _dot(view: RunView) -> dict[str, Any]:
    """A filled dot for the run and a ring around it for the control: both are seen where they coincide."""
    colour = COLOURS[view.role]
    if view.role == "run":
        return {"marker": "o", "markersize": 7, "color": colour, "markeredgecolor": "white"}
    return {"marker": "o", "markersize": 12, "color": colour, "markerfacecolor": "none", "markeredgewidth": 1.8}


def _dots_key(ax: Axes, views: Sequence[RunView]) -> None:
    from matplotlib.lines import Line2D

    read = [view for view in views if "g23" in view.falls]
    if not read:
        return
    headroom(ax, 0.12)
    key(ax, [Line2D([], [], linewidth=0, label=view.role, **_dot(view)) for view in read])


def _windows(ax: Axes, views: Sequence[RunView]) -> None:
    if not any(view.windows for view in views):
        empty(ax, "no full window")
