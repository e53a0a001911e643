"""Picture of the flow simulation: strengths, gap, ratio and terms, in truth and under every flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spectral_edge.plots.frame import INK, LARGE, NORMAL, SMALL, new_figure, plain
from spectral_edge.simulate.flow import FlowResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES: dict[str, tuple[str, str, str, float]] = {
    "true": ("true singular values", INK, "-", 3.4),
    "rolling": ("rolling matrix flow", "#009E73", "--", 1.9),
    "leaky": ("leaky matrix flow", "#0072B2", "-", 1.6),
    "axes": ("corrected, along axes", "#CC79A7", "-", 1.6),
    "consistent": ("published, prefactor of Eq. 38", "#E69F00", "-", 1.6),
    "published": ("published, as printed", "#D55E00", "-", 1.6),
}
"""Label, colour, dashes and width of what is drawn, the same in every panel."""

_TERMS = {
    "driving_pub": ("driving, as printed (ℓ/u)", "#D55E00", "-"),
    "driving_consistent": ("driving, prefactor of Eq. 38", "#E69F00", "-"),
    "driving": ("driving, corrected", "#0072B2", "-"),
    "window_loss": ("window loss", "#0072B2", ":"),
    "curvature_asymmetry": ("curvature asymmetry", "#009E73", "-"),
    "damping": ("damping", "#009E73", ":"),
    "measured": ("measured change of g", INK, "--"),
}


def draw(result: FlowResult) -> Figure:
    """Four panels: strengths, gap, ratio R, and the terms of the gap flows.

    Args:
        result: of `FlowModel.run`.
    """
    figure = new_figure(1120)
    grid = figure.add_gridspec(2, 2, left=0.065, right=0.985, top=0.87, bottom=0.065, wspace=0.16, hspace=0.2)
    (strengths, gap), (ratio, terms) = grid.subplots(sharex="all", squeeze=False)
    _strengths(strengths, result)
    _lines(gap, result, result.gap, "Gap g = σ₁ - σ₂ (parameter units)")
    _lines(ratio, result, result.ratio, "Ratio R = σ₁/σ₂")
    _terms(terms, result)
    for ax in (ratio, terms):
        ax.set_xlabel("optimizer step", fontsize=NORMAL, color=INK)
    handles, labels = gap.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="upper center", ncols=3, frameon=False, fontsize=NORMAL, bbox_to_anchor=(0.5, 0.955)
    )
    how = "driven together" if result.settings.drive == "together" else "driven in turn"
    figure.suptitle(
        f"Two modes {how}: error of the gap {result.gap_error['published']:.3g} as printed, "
        f"{result.gap_error['axes']:.2g} along axes, {result.gap_error['leaky']:.2g} by the leaky matrix flow",
        fontsize=LARGE + 1,
        color=INK,
        y=0.985,
    )
    return figure


def _strengths(ax: Axes, result: FlowResult) -> None:
    _panel(ax, "True singular values and energies along the modes' axes (u)")
    for name, colour, width in (("axes_true", "#CC79A7", 2.0), ("true", INK, 2.6)):
        for mode, dashes in enumerate(("-", ":")):
            label = ("σ₁", "σ₂")[mode] if name == "true" else f"root of the energy, axis {mode + 1}"
            ax.plot(
                result.steps,
                result.strengths[name][:, mode],
                color=colour,
                linewidth=width,
                linestyle=dashes,
                label=label,
            )
    _log(ax)
    ax.legend(fontsize=SMALL, frameon=True, framealpha=0.9, edgecolor="none", ncols=2)


def _lines(ax: Axes, result: FlowResult, values: dict[str, np.ndarray], title: str) -> None:
    _panel(ax, title)
    for name, (label, colour, dashes, width) in LINES.items():
        ax.plot(result.steps, values[name], color=colour, linestyle=dashes, linewidth=width, label=label)
    _log(ax)


def _terms(ax: Axes, result: FlowResult) -> None:
    _panel(ax, "Terms of the gap flows, sizes (u per observation)")
    for name, (label, colour, dashes) in _TERMS.items():
        ax.plot(result.steps, np.abs(result.terms[name]), color=colour, linestyle=dashes, linewidth=1.7, label=label)
    _log(ax)
    low, high = ax.get_ylim()
    ax.set_ylim(low, high * (high / low) ** 0.45)
    ax.legend(fontsize=SMALL, frameon=True, framealpha=0.9, edgecolor="none", ncols=2, loc="upper right")


def _panel(ax: Axes, title: str) -> None:
    plain(ax)
    ax.set_title(title, loc="left", fontsize=LARGE, color=INK, pad=8)


def _log(ax: Axes) -> None:
    ax.set_yscale("log", nonpositive="mask")
