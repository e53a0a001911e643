"""The ledger in pictures: claims by families coloured by verdict, and the runs of one claim beside their controls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from spectral_edge.plots.frame import FAINT, INK, NORMAL, SMALL, WIDTH, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from spectral_edge.claims import Entry

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
_ROW_PX, _TOP_PX, _BOTTOM_PX, _LEFT_PX, _RIGHT_PX = 30, 60, 20, 560, 30
_PANEL_PX = 90


def ledger_figure(entries: Sequence[Entry]) -> Figure:
    """Claims in rows, families in columns.

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
            for part, entry in enumerate(some):
                _cell(ax, place + part / len(some), row, 1 / len(some), entry)
    ax.set(xlim=(0, len(columns)), ylim=(len(claims), 0))
    ax.set_xticks(np.arange(len(columns)) + 0.5, columns, fontsize=NORMAL, color=INK)
    ax.set_yticks(
        np.arange(len(claims)) + 0.5, [f"{claim.id}  {claim.title}" for claim in claims], fontsize=SMALL, color=INK
    )
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return figure


def claim_figure(entries: Sequence[Entry]) -> Figure | None:
    """The scalar of every run and of its controls, one panel a family; None where there is no scalar.

    Args:
        entries: lines of one claim.
    """
    shown = [entry for entry in entries if entry.middle is not None]
    if not shown:
        return None
    rows = [1 + sum(entry.middle_of(name) is not None for name in entry.claim.controls) for entry in shown]
    height = 30 + sum(40 + 34 * count for count in rows) + _PANEL_PX
    figure = new_figure(height)
    axes = figure.subplots(len(shown), 1, squeeze=False, gridspec_kw={"height_ratios": rows, "hspace": 0.55})[
        :, 0
    ].tolist()
    figure.subplots_adjust(left=0.2, right=0.97, top=1 - 34 / height, bottom=62 / height)
    for ax, entry in zip(axes, shown, strict=True):
        _strip(ax, entry)
    axes[-1].set_xlabel(shown[0].claim.unit, fontsize=NORMAL, color=INK)
    return figure


def _cell(ax: Axes, left: float, row: int, width: float, entry: Entry) -> None:
    from matplotlib.patches import Rectangle

    verdict = entry.judgement.verdict
    ax.add_patch(Rectangle((left + 0.01, row + 0.05), width - 0.02, 0.9, facecolor=FILL[verdict], edgecolor="none"))
    text = SHORT[verdict] if width == 1 else SHORT[verdict][:5]
    ax.text(left + width / 2, row + 0.5, text, ha="center", va="center", fontsize=SMALL - 1.5, color=INK)


def _strip(ax: Axes, entry: Entry) -> None:
    """Runs in the first row, each class of controls in one below, a thin line from each run to its control."""
    plain(ax)
    names = [name for name in entry.claim.controls if entry.middle_of(name) is not None]
    for row, name in enumerate(["runs", *names]):
        for unit in entry.units:
            found = unit.run if row == 0 else unit.controls.get(name)
            if found is None or found.value is None:
                continue
            filled = FILL["inconclusive"] if found.passed is None else "#0072B2" if found.passed else "white"
            if row and unit.run.value is not None:
                ax.plot([unit.run.value, found.value], [0, row], color=FAINT, linewidth=0.4, zorder=1)
            ax.plot(found.value, row, "o", markersize=7, color="#0072B2", markerfacecolor=filled, zorder=2)
    ax.set_yticks(range(1 + len(names)), ["runs", *names], fontsize=SMALL)
    ax.set_ylim(len(names) + 0.6, -0.6)
    title = f"{entry.family}: {entry.judgement.verdict}"
    ax.set_title(title, loc="left", fontsize=NORMAL, color=INK)
