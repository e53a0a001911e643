"""From lag rows to every named quantity: pure NumPy in float64."""

from spectral_edge.measure.decline import DECLINED, Decline, decline_null, decline_pub
from spectral_edge.measure.dynamics import Swap, persistence, project, swap
from spectral_edge.measure.edge import k_stars
from spectral_edge.measure.gram import cosines, grams, group_rows, sketch_error, window_ends
from spectral_edge.measure.nulls import NO_MEMORY, Memory, known_memory, prepare_band
from spectral_edge.measure.spectrum import Spectrum, spectrum
from spectral_edge.measure.windows import NULLS, Column, WindowOptions, Windows

__all__ = [
    "DECLINED",
    "NO_MEMORY",
    "NULLS",
    "Column",
    "Decline",
    "Memory",
    "Spectrum",
    "Swap",
    "WindowOptions",
    "Windows",
    "cosines",
    "decline_null",
    "decline_pub",
    "grams",
    "group_rows",
    "k_stars",
    "known_memory",
    "persistence",
    "prepare_band",
    "project",
    "sketch_error",
    "spectrum",
    "swap",
    "window_ends",
]
