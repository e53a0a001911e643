"""Nulls: what updates without structure would show, and where a window stands against them."""

from spectral_edge.measure.nulls.band import BandReading, band, prepare_band
from spectral_edge.measure.nulls.coherence import coherence_p
from spectral_edge.measure.nulls.memory import NO_MEMORY, Memory, known_memory
from spectral_edge.measure.nulls.surrogates import SURROGATES, Surrogate, surrogate_band
from spectral_edge.measure.nulls.table import cosine_ratios

__all__ = [
    "NO_MEMORY",
    "SURROGATES",
    "BandReading",
    "Memory",
    "Surrogate",
    "band",
    "coherence_p",
    "cosine_ratios",
    "known_memory",
    "prepare_band",
    "surrogate_band",
]
