"""Accuracy and loss, on the time axis that every other figure uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from spectral_edge.plots.frame import COLOURS, empty, faded, log_scale, mark_steps, panels
from spectral_edge.plots.labels import EndLabel, end_labels
from spectral_edge.plots.view import Curve, RunView

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NO_WINDOW = "no full window"


def accuracy_figure(views: Sequence[RunView]) -> Figure:
    """Accuracies above, losses below; metrics of other names where no accuracy was logged.

    Args:
        views: a run, and its control if there is one.
    """
    curves = [_curves(view) for view in views]
    scores = [{name: curve for name, curve in found.items() if "loss" not in name} for found in curves]
    losses = [{name: curve for name, curve in found.items() if "loss" in name} for found in curves]
    accuracies = all("accuracy" in name for found in scores for name in found)
    longest = max((len(_short(name)) for found in curves for name in found), default=0)
    figure, axes = panels(
        views, ["accuracy" if accuracies else "metrics", "loss"], heights=[330, 250], label_characters=longest
    )
    log_scale(axes[1], [values for found in losses for _, values in found.values()])
    if accuracies:
        axes[0][0].set_ylim(-0.03, 1.06)
    for row, shown in zip(axes, (scores, losses), strict=True):
        labels: list[list[EndLabel]] = []
        for ax, view, found in zip(row, views, shown, strict=True):
            if not found:
                empty(ax, "nothing logged")
            labels.append([])
            others = iter(faded(view.role, len(found)))
            for name, (steps, values) in found.items():
                training = name.startswith("train")
                colour = next(others) if "test" not in name and not training else COLOURS[view.role]
                colour = faded(view.role, 3)[1] if training else colour
                ax.plot(
                    steps,
                    values,
                    color=colour,
                    linewidth=1.6 if training else 2.4,
                    linestyle="--" if training else "-",
                    label=name,
                )
                labels[-1].append(EndLabel(_short(name), colour, steps, values))
        for ax, named in zip(row, labels, strict=True):
            end_labels(ax, named)
    for column, view in enumerate(views):
        mark_steps([row[column] for row in axes], view)
    return figure


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
