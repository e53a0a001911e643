"""Sorts `adiabatic_emp` into plateau, transition and forgetting against noise of the window's own covariance.

*Plateau*: the leading k* directions keep more over one window than 95 % of noise would that has the optimizer's memory
and this window's covariance. *Forgetting*: they keep no more than 95 % of noise without memory would. *Transition* lies
between. Memory is known from the optimizer; of the covariance two moments are taken from the 2 W updates behind the
two windows, after a constant drift has been projected out, and a power law with these moments stands in for it.

What this cannot tell apart is said in docs/theory/adiabatic.md: one strong direction in which updates jitter without
going anywhere is steeper than any power law and is called a plateau more often than 5 %.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectral_edge.measure.nulls.memory import NO_MEMORY, Memory
from spectral_edge.measure.regime_table import innovation_moments, place, regime_table_for, upper_limit

Array = NDArray[np.float64]
Positions = NDArray[np.intp]

_CHUNK = 1024
"""Windows per lookup, so that what is gathered stays within a few megabytes."""


@dataclass(frozen=True, slots=True)
class NoiseReading:
    """What noise of N windows' own covariance loses over one window, each [N]; NaN where a cosine is undefined.

    Attributes:
        plateau: 5th percentile of `adiabatic_emp` under noise with the optimizer's memory.
        forgetting: 5th percentile under noise without memory; `plateau` is never above it.
        expected: mean squared overlap |V_k^T V_k'|_F^2 / k under noise with the optimizer's memory, at the estimated
            covariance: up to twice too large for flat noise, of which a window shows a head by chance.
    """

    plateau: Array
    forgetting: Array
    expected: Array


def noise_reading(cosines: Array, position: Positions, memory: Memory) -> NoiseReading:
    """Thresholds of the regimes and the overlap to be expected of noise (this library).

    Args:
        cosines: [N, 2W, 2W] cosines of the updates behind the older and the newer window.
        position: number k of leading directions [N], below W; 0 where undefined, which reads as 1.
        memory: of the optimizer, known and not fitted.

    Returns:
        The reading.
    """
    count, width = len(cosines), cosines.shape[-1] // 2
    table, free = regime_table_for(width, memory), regime_table_for(width, NO_MEMORY)
    m2, m3 = innovation_moments(cosines, memory)
    bad = np.isnan(m2)
    m2, m3 = np.where(bad, 0.0, m2), np.where(bad, 0.0, m3)
    chosen = np.clip(position, 1, width - 1)[:, None] - 1
    columns = np.full((3, count), np.nan)
    for start in range(0, count, _CHUNK):
        part = slice(start, start + _CHUNK)
        at = place(table, m2[part], m3[part])
        for column, values in enumerate((upper_limit(table, at), upper_limit(free, at), at.read(table.expected) ** 2)):
            columns[column, part] = np.take_along_axis(values, chosen[part], axis=-1)[:, 0]
    columns[:, bad] = np.nan
    remembered, forgotten, expected = columns
    return NoiseReading(np.minimum(1.0 - remembered, 1.0 - forgotten), 1.0 - forgotten, expected)


def label(lost: Array, reading: NoiseReading) -> Array:
    """0 plateau, 1 transition, 2 forgetting of `adiabatic_emp` [N], by the names of `quantities.REGIMES`; else NaN."""
    known = np.isfinite(lost) & np.isfinite(reading.plateau) & np.isfinite(reading.forgetting)
    found = (lost >= reading.plateau).astype(np.float64) + (lost > reading.forgetting)
    return np.where(known, found, np.nan)


def prepare_regime(window: int, memory: Memory) -> None:
    """Loads or draws the tables of a window length and memory now, so that no reading waits for it.

    Args:
        window: window length W.
        memory: the optimizer's.
    """
    regime_table_for(window, memory)
    regime_table_for(window, NO_MEMORY)
