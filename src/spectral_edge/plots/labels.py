"""Names of lines, written where each line ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spectral_edge.plots.frame import CHARACTER_PX, DPI, SMALL
from spectral_edge.plots.view import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_AT_EDGE = 0.98
"""A line that ends beyond this share of the panel's width is named outside of the panel, where nothing is drawn."""


@dataclass(frozen=True, slots=True)
class EndLabel:
    """A line's name, written where the line ends."""

    text: str
    colour: str
    steps: Array
    values: Array


@dataclass(frozen=True, slots=True)
class _End:
    """Where a line ends, as shares of the panel, and how wide its name is there."""

    across: float
    up: float
    width: float
    label: EndLabel


def end_labels(ax: Axes, labels: Sequence[EndLabel]) -> None:
    """Names lines where they end, moved apart where names would overlap. Call it once the axis limits stand."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    ax.get_ylim()  # the limits are computed only when they are asked for
    box = ax.get_position()
    width, height = box.width * figure.get_figwidth() * DPI, box.height * figure.get_figheight() * DPI
    ends = [end for label in labels if (end := _end(ax, label, width)) is not None]
    for group in _side_by_side(ends):
        group.sort(key=lambda end: end.up)
        places = _apart([end.up for end in group], gap=SMALL * 1.3 * DPI / 72 / height)
        for place, end in zip(places, group, strict=True):
            _write(ax, end, place, leader=abs(place - end.up) * height > 3)


def _end(ax: Axes, label: EndLabel, width: float) -> _End | None:
    defined = np.flatnonzero(np.isfinite(label.values))
    if len(defined) == 0:
        return None
    at = defined[-1]
    point = (float(label.steps[at]), float(label.values[at]))
    across, up = (float(share) for share in (ax.transScale + ax.transLimits).transform(point))
    if not np.isfinite(up):
        return None
    characters = 2 if label.text.startswith("$") else len(label.text)
    return _End(
        1.0 if across > _AT_EDGE else across, min(max(up, 0.0), 1.0), 0.015 + characters * CHARACTER_PX / width, label
    )


def _side_by_side(ends: Sequence[_End]) -> list[list[_End]]:
    """Groups of ends whose names would stand at the same steps, so that they must differ in height."""
    groups: list[list[_End]] = []
    reach = -np.inf
    for end in sorted(ends, key=lambda end: end.across):
        if end.across < reach:
            groups[-1].append(end)
        else:
            groups.append([end])
        reach = max(reach, end.across + end.width)
    return groups


def _write(ax: Axes, end: _End, place: float, *, leader: bool) -> None:
    if leader:
        ax.plot(
            [end.across + 0.002, end.across + 0.012],
            [end.up, place],
            transform=ax.transAxes,
            color=end.label.colour,
            linewidth=0.8,
            clip_on=False,
            scalex=False,
            scaley=False,
            gid="leader",
        )
    ax.text(
        end.across + 0.015,
        place,
        end.label.text,
        transform=ax.transAxes,
        color=end.label.colour,
        fontsize=SMALL,
        va="center",
        # Inside the panel the other run's lines go on behind the name.
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.5} if end.across < 1 else None,
    )


def _apart(places: list[float], *, gap: float) -> list[float]:
    """Sorted places moved as little as is needed to lie `gap` apart."""
    groups: list[list[float]] = []  # each [centre, count]; members are `gap` apart
    for place in places:
        groups.append([place, 1])
        while len(groups) > 1:
            (before, n), (after, m) = groups[-2], groups[-1]
            if after - before >= gap * (n + m) / 2:
                break
            groups[-2:] = [[(before * n + after * m) / (n + m), n + m]]
    moved = [centre + (i - (count - 1) / 2) * gap for centre, count in groups for i in range(int(count))]
    # No label reaches below the axis, where the numbers of the steps stand, unless there are too many to fit.
    for i, place in enumerate(moved):
        moved[i] = max(place, i * gap)
    return moved
