"""Accuracy and loss, on the time axis that every other figure uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from spectral_edge.plots.frame import COLOURS, empty, faded, log_scale, mark_steps, panels
from spectral_edge.plots.labels import EndLabel, end_labels
from spectral_edge.plots.view import Curve, RunView

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHTS = {"accuracy": 330, "metrics": 250, "loss": 250}
"""Pixels of a panel, by what it shows, from above."""
NO_WINDOW = "no full window"


def accuracy_figure(views: Sequence[RunView]) -> Figure:
    """A panel each of accuracies, of metrics with other names and of losses, where there are any.

    Args:
        views: a run, and its control if there is one.
    """
    curves = [_curves(view) for view in views]
    kinds = [kind for kind in HEIGHTS if any(_kind(name) == kind for found in curves for name in found)]
    kinds = kinds or ["accuracy"]
    longest = max((len(_short(name)) for found in curves for name in found), default=0)
    figure, axes = panels(views, kinds, heights=[HEIGHTS[kind] for kind in kinds], label_characters=longest)
    for row, kind in zip(axes, kinds, strict=True):
        shown = [{name: curve for name, curve in found.items() if _kind(name) == kind} for found in curves]
        if kind == "accuracy":
            row[0].set_ylim(-0.03, 1.06)
        elif kind == "loss":
            log_scale(row, [values for found in shown for _, values in found.values()])
        labels = [_draw(ax, view, found) for ax, view, found in zip(row, views, shown, strict=True)]
        for ax, named in zip(row, labels, strict=True):
            end_labels(ax, named)
    for column, view in enumerate(views):
        mark_steps([row[column] for row in axes], view)
    return figure


def _kind(name: str) -> str:
    return next((kind for kind in ("accuracy", "loss") if kind in name), "metrics")


def _draw(ax: Axes, view: RunView, found: Mapping[str, Curve]) -> list[EndLabel]:
    """Draws the curves of one run; their names can be written once those of all runs stand."""
    if not found:
        empty(ax, "nothing logged")
    labels: list[EndLabel] = []
    others = iter(faded(view.role, len(found)))
    for name, (steps, values) in found.items():
        training = name.startswith("train")
        colour = next(others) if "test" not in name and not training else COLOURS[view.role]
        colour = faded(view.role, 3)[1] if training else colour
        width, style = (1.6, "--") if training else (2.4, "-")
        ax.plot(steps, values, color=colour, linewidth=width, linestyle=style, label=name)
        labels.append(EndLabel(_short(name), colour, steps, values))
    return labels


def _curves(view: RunView) -> dict[str, Curve]:
    found = dict(view.metrics)
    if not any("loss" in name for name in found) and view.loss is not None:
        found["train_loss"] = view.loss
    return found


def _short(name: str) -> str:
    """`test_accuracy` is "test": the panel already says accuracy."""
    for ending in ("_accuracy", "_loss"):
        if name.endswith(ending):
            return name.removesuffix(ending)
    return name
