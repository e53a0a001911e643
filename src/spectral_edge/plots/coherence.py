"""Which way updates point: signed coherence of the model and of each layer, and how far each layer moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from spectral_edge.plots.frame import COLOURS, empty, log_scale, mark_steps, panels, shades
from spectral_edge.plots.frame import FAINT as ZERO
from spectral_edge.plots.labels import EndLabel, end_labels
from spectral_edge.plots.view import RunView

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LABELS = 8
"""Layers named at the ends of their lines; of more, this many evenly spaced in depth."""


def coherence_figure(views: Sequence[RunView]) -> Figure:
    """Coherence of the whole model, of each layer, and the norm of each layer's updates.

    Args:
        views: a run, and its control if there is one.
    """
    longest = max((len(shorten(name)) for view in views for name in view.layers), default=0)
    figure, axes = panels(
        views,
        ["coherence, whole model", "coherence by layer", "update norm by layer (u)"],
        heights=[250, 320, 320],
        label_characters=longest,
    )
    whole, coherent, moving = axes
    log_scale(moving, [layer["update_norm"] for view in views for layer in view.layers.values()])
    for column, view in enumerate(views):
        steps = view.series["step"]
        if len(steps) == 0:
            empty(whole[column], "no full window")
        for ax in (whole[column], coherent[column]):
            ax.axhline(0.0, color=ZERO, linewidth=1.0)
        whole[column].plot(steps, view.series["coherence"], color=COLOURS[view.role], linewidth=2.4)
        for (_, layer), colour in zip(view.layers.items(), shades(len(view.layers)), strict=False):
            coherent[column].plot(layer["step"], layer["coherence"], color=colour, linewidth=1.5)
            moving[column].plot(layer["step"], layer["update_norm"], color=colour, linewidth=1.5)
    for column, view in enumerate(views):
        colours = shades(len(view.layers))
        names = list(view.layers)
        spaced = np.linspace(0, len(names) - 1, min(len(names), MOST_LABELS)).round().astype(int) if names else []
        for row, quantity in ((coherent, "coherence"), (moving, "update_norm")):
            end_labels(
                row[column],
                [
                    EndLabel(
                        shorten(names[i]), colours[i], view.layers[names[i]]["step"], view.layers[names[i]][quantity]
                    )
                    for i in spaced
                ],
            )
        mark_steps([row[column] for row in axes], view)
    return figure


def shorten(name: str) -> str:
    """A layer's name cut from the front, where paths share most."""
    return name if len(name) <= 18 else "…" + name[-17:]
