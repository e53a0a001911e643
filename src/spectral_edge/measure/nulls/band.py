"""The band: the gap ratios that structureless updates with this window's memory and moments would show.

It conditions on the scale of every row (through cosines), on the optimizer's memory, and on two moments of the
whitened cosines, m2 and m3, that fix a power-law covariance. What lies outside of it is not explained by these;
that is all it says. It cannot tell a spike of the covariance from structure.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from spectral_edge.errors import InputError
from spectral_edge.measure.nulls.memory import Memory, whitened
from spectral_edge.measure.nulls.table import HIGH, LOW, POSITIONS, SCORES, BandTable, cosine_ratios, moments, table_for

_CHUNK = 1024
"""Windows per lookup, so that the gathered quantiles stay within a few megabytes."""


@dataclass(frozen=True, slots=True)
class BandReading:
    """Where the gap ratios of N windows lie in their band.

    Attributes:
        percentile: [N, W-1] percentile of R_j, 0 to 100.
        low: [N, W-1] 1st percentile of R_j in the band.
        high: [N, W-1] 99th percentile of R_j.
        maximum: [N] 99th percentile of max_j R_j.
    """

    percentile: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    maximum: NDArray[np.float64]


def _conditioned(table: BandTable, m2: NDArray[np.float64], m3: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N, Q, W] quantiles at these moments, linear in sqrt(m2) and in the shape position."""
    root = np.sqrt(m2)
    shape = m3 / np.maximum(root * m2, 1e-300)
    # each of the V columns of nodes has its own places along sqrt(m2)
    row = np.minimum((table.roots[1:] <= root[:, None, None]).sum(axis=1), len(table.roots) - 2)
    column = np.arange(len(POSITIONS))
    start, end = table.roots[row, column], table.roots[row + 1, column]
    right = np.minimum((root[:, None] - start) / (end - start), 1.0)
    shapes = table.shapes[row, column] * (1.0 - right) + table.shapes[row + 1, column] * right
    span = np.maximum(shapes[:, -1] - shapes[:, 0], 1e-12)
    position = np.sqrt(np.clip((shape - shapes[:, 0]) / span, 0.0, 1.0)) * (len(POSITIONS) - 1)
    nearer = np.minimum(position.astype(np.intp), len(POSITIONS) - 2)
    down = (position - nearer)[:, None, None]
    window = np.arange(len(root))

    def along(column: NDArray[np.intp]) -> NDArray[np.float64]:
        at, share = row[window, column], right[window, column][:, None, None]
        return table.quantiles[at, column] * (1.0 - share) + table.quantiles[at + 1, column] * share

    return along(nearer) * (1.0 - down) + along(nearer + 1) * down


def _percentile(quantiles: NDArray[np.float64], ratios: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N, W-1] percentiles, linear in the normal score between quantiles [N, Q, W-1] and continued beyond them."""
    segment = (quantiles[:, 1:-1] <= ratios[:, None, :]).sum(axis=1)[:, None, :]
    start = np.take_along_axis(quantiles, segment, axis=1)[:, 0]
    end = np.take_along_axis(quantiles, segment + 1, axis=1)[:, 0]
    segment = segment[:, 0]
    share = (ratios - start) / np.maximum(end - start, 1e-15)
    scores = SCORES[segment] + share * (SCORES[segment + 1] - SCORES[segment])
    return 100.0 * ndtr(scores)


def band(cosines: NDArray[np.float64], ratios: NDArray[np.float64] | None, memory: Memory) -> BandReading:
    """Place the gap ratios of windows in the band of structureless updates.

    Args:
        cosines: [N, W, W] cosines between the rows of each window, W >= 2.
        ratios: [N, W-1] ratios of the singular values of the *row-normalised* windows, NaN where undefined; None
            computes them (`cosine_ratios`). Ratios of the updates as they are may be placed too, but then uneven
            norms count as structure: at a large effective dimension a learning rate that falls by 1 % a row is
            enough to leave the band.
        memory: the optimizer's memory, known and not fitted.

    Returns:
        The reading; a window with NaN reads NaN.
    """
    count, size = cosines.shape[0], cosines.shape[-1]
    if size < 2:
        raise InputError(
            "window of the band", expected="at least 2 rows", found=str(size), remedy="use a longer window"
        )
    if ratios is None:
        ratios = cosine_ratios(cosines)
    table = table_for(size, memory)
    m2, m3 = moments(whitened(cosines, memory))
    bad = np.isnan(m2)
    if bad.any():
        m2, m3 = np.where(bad, 0.0, m2), np.where(bad, 0.0, m3)
    percentile, low, high = (np.empty((count, size - 1)) for _ in range(3))
    maximum = np.empty(count)
    for start in range(0, count, _CHUNK):
        part = slice(start, start + _CHUNK)
        quantiles = _conditioned(table, m2[part], m3[part])
        percentile[part] = _percentile(quantiles[:, :, :-1], ratios[part])
        low[part], high[part] = quantiles[:, LOW, :-1], quantiles[:, HIGH, :-1]
        maximum[part] = quantiles[:, HIGH, -1]
    if bad.any():
        for column in (percentile, low, high, maximum):
            column[bad] = np.nan
    return BandReading(percentile=percentile, low=low, high=high, maximum=maximum)


def prepare_band(window: int, memory: Memory) -> None:
    """Load or draw the table of a window length and memory now, so that no reading waits for it.

    Args:
        window: window length W.
        memory: the optimizer's memory.
    """
    table_for(window, memory)
