"""Figures of recorded runs: each takes what was computed and draws it, a run beside its control.

Matplotlib is an extra and is used through its object interface only, so that nothing global changes.
"""

from spectral_edge.plots.accuracy import accuracy_figure
from spectral_edge.plots.coherence import coherence_figure
from spectral_edge.plots.decline import decline_figure
from spectral_edge.plots.ledger import claim_figure, ledger_figure
from spectral_edge.plots.overview import overview_figure
from spectral_edge.plots.ratios import ratios_figure
from spectral_edge.plots.spectrum import spectrum_figure
from spectral_edge.plots.stability import stability_figure
from spectral_edge.plots.view import Mark, RunView

__all__ = [
    "Mark",
    "RunView",
    "accuracy_figure",
    "claim_figure",
    "coherence_figure",
    "decline_figure",
    "ledger_figure",
    "overview_figure",
    "ratios_figure",
    "spectrum_figure",
    "stability_figure",
]
