"""The ledger in pictures: claims by families coloured by verdict, and the runs of one claim beside their controls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from spectral_edge.plots.frame import FAINT, INK, NORMAL, SMALL, WIDTH, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from spectral_edge.claims import Entry, Measured

FILL = {
    "confirmed": "#009E73",
    "not discriminating": "#E69F00",
    "refuted": "#D55E00",
    "inconclusive": "#BBD7EC",
    "not testable here": "#EFEFEF",
}
"""Colours of Okabe and Ito's palette; every cell says its verdict in a word too."""
SHORT = {
    "confirmed": "confirmed",
    "not discriminating": "not discr.",
    "refuted": "refuted",
    "inconclusive": "inconclusive",
    "not testable here": "no record",
}
COMMON = ("arithmetic", "dual", "tri", "dyck", "scan", "stories", "shift")
"""Families with a column of their own; what else a claim is judged on shares the last one."""
OTHER = "other"
_OTHER_WIDTH, _WORD = 2.6, 0.85
"""Width of the last column, and that from which a cell holds a word, in columns."""
_ROW_PX, _TOP_PX, _BOTTOM_PX, _LEFT_PX, _RIGHT_PX = 30, 60, 20, 560, 30
_HEAD_PX, _GAP_PX, _FOOT_PX = 34, 64, 62
_DECADES = 30
"""Largest over least value from which an axis is logarithmic."""


def ledger_figure(entries: Sequence[Entry]) -> Figure:
    """Claims in rows, families in columns; what is judged apart and comes out alike shares a cell.

    Args:
        entries: lines of the ledger, those of a claim next to each other.
    """
    claims = list({entry.claim.id: entry.claim for entry in entries}.values())
    columns = (*COMMON, OTHER)
    height = _TOP_PX + _ROW_PX * len(claims) + _BOTTOM_PX
    figure = new_figure(height)
    ax = figure.add_axes(
        (_LEFT_PX / WIDTH, _BOTTOM_PX / height, 1 - (_LEFT_PX + _RIGHT_PX) / WIDTH, _ROW_PX * len(claims) / height)
    )
    for row, claim in enumerate(claims):
        cells: dict[int, list[Entry]] = {}
        for entry in entries:
            if entry.claim.id == claim.id:
                place = columns.index(entry.family) if entry.family in COMMON else len(COMMON)
                cells.setdefault(place, []).append(entry)
        for place, some in cells.items():
            left, each = float(place), (_OTHER_WIDTH if place == len(COMMON) else 1.0) / len(some)
            for verdict, count in Counter(entry.judgement.verdict for entry in some).items():
                _cell(ax, left, row, count * each, verdict, count)
                left += count * each
    ax.set(xlim=(0, len(COMMON) + _OTHER_WIDTH), ylim=(len(claims), 0))
    places = [*(np.arange(len(COMMON)) + 0.5), len(COMMON) + _OTHER_WIDTH / 2]
    ax.set_xticks(places, columns, fontsize=NORMAL, color=INK)
    ax.set_yticks(
        np.arange(len(claims)) + 0.5, [f"{claim.id}  {claim.title}" for claim in claims], fontsize=SMALL, color=INK
    )
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return figure


def claim_figure(entries: Sequence[Entry]) -> Figure | None:
    """Every run and its controls, one row of panels a family; None where nothing was read as a number.

    Left stands the first published statistic of a run, where there is one; right the scalar that is asked here.

    Args:
        entries: lines of one claim.
    """
    shown = [entry for entry in entries if any(_classes(entry, name) for name in (_published(entry), None))]
    if not shown:
        return None
    read: list[str | None] = [None]
    if any(_published(entry) is not None for entry in shown):
        read.insert(0, next(name for entry in shown if (name := _published(entry)) is not None))
    if all(not _classes(entry, None) for entry in shown):
        read.remove(None)
    panels = [26 + 34 * max(len(_classes(entry, name)) for name in read) for entry in shown]
    height = _HEAD_PX + sum(panels) + _GAP_PX * (len(panels) - 1) + _FOOT_PX
    figure = new_figure(height)
    grid = {"height_ratios": panels, "hspace": _GAP_PX * len(panels) / sum(panels), "wspace": 0.36}
    axes = figure.subplots(len(shown), len(read), squeeze=False, gridspec_kw=grid)
    figure.subplots_adjust(left=0.13, right=0.97, top=1 - _HEAD_PX / height, bottom=_FOOT_PX / height)
    for row, entry in zip(axes, shown, strict=True):
        for ax, name in zip(row, read, strict=True):
            _strip(ax, entry, name)
        row[0].set_title(f"{entry.family}: {entry.judgement.verdict}", loc="left", fontsize=NORMAL, color=INK)
    for ax, name in zip(axes[-1], read, strict=True):
        ax.set_xlabel(shown[0].claim.unit if name is None else name, fontsize=NORMAL, color=INK)
    return figure


def _published(entry: Entry) -> str | None:
    """The name of the first published statistic, where a picture says more of it than a table."""
    name = next(iter(entry.statistics()), None)
    values = [unit.run.statistics.get(name, 0.0) for unit in entry.units] if name is not None else []
    told = any(name in entry.statistics(control) for control in entry.claim.controls)
    return name if told or any(value % 1 for value in values) else None


def _value(found: Measured | None, name: str | None) -> float | None:
    """A statistic by its name, or the scalar."""
    return None if found is None else found.value if name is None else found.statistics.get(name)


def _classes(entry: Entry, name: str | None) -> list[str]:
    """Runs, and classes of controls, of which something is known."""
    known = ["runs"] if any(_value(unit.run, name) is not None for unit in entry.units) else []
    return known + [
        control
        for control in entry.claim.controls
        if any(_value(unit.controls.get(control), name) is not None for unit in entry.units)
    ]


def _cell(ax: Axes, left: float, row: int, width: float, verdict: str, count: int) -> None:
    from matplotlib.patches import Rectangle

    ax.add_patch(Rectangle((left + 0.01, row + 0.05), width - 0.02, 0.9, facecolor=FILL[verdict], edgecolor="none"))
    text = SHORT[verdict] if width >= _WORD else f"{SHORT[verdict][:5]}."
    text = f"{count} {text}" if count > 1 else text
    ax.text(left + width / 2, row + 0.5, text, ha="center", va="center", fontsize=SMALL - 1.5, color=INK)


def _strip(ax: Axes, entry: Entry, statistic: str | None) -> None:
    """Runs in the first row, each class of controls in one below, a thin line from each run to its control."""
    plain(ax)
    names = [name for name in _classes(entry, statistic) if name != "runs"]
    shown: list[float] = []
    for row, name in enumerate(["runs", *names]):
        for unit in entry.units:
            found, own = unit.run if row == 0 else unit.controls.get(name), _value(unit.run, statistic)
            value = _value(found, statistic)
            if found is None or value is None:
                continue
            shown.append(value)
            filled = FILL["inconclusive"] if found.passed is None else "#0072B2" if found.passed else "white"
            if row and own is not None:
                ax.plot([own, value], [0, row], color=FAINT, linewidth=0.4, zorder=1)
            ax.plot(value, row, "o", markersize=7, color="#0072B2", markerfacecolor=filled, zorder=2)
    if statistic is not None and shown and min(shown) > 0 and max(shown) > _DECADES * min(shown):
        ax.set_xscale("log")
    else:
        ax.locator_params(axis="x", nbins=6)
    ax.set_yticks(range(1 + len(names)), ["runs", *names], fontsize=SMALL)
    ax.set_ylim(len(names) + 0.6, -0.6)
