"""Gram matrices of noise rows, drawn without the rows: exact however many parameters there are."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def wishart(size: int, freedom: float, draws: int, generator: np.random.Generator) -> Array:
    """Gram matrices [draws, n, n] of n standard normal rows in `freedom` dimensions (Bartlett 1933).

    The lower triangular factor has standard normal entries below and chi-distributed ones on the diagonal, so a
    draw costs n^2 numbers where rows would cost n times the dimensions.

    Args:
        size: number n of rows.
        freedom: number of dimensions; from n - 1 on it may be fractional, as moment-matched tails need.
        draws: number of matrices.
        generator: source of randomness.
    """
    if freedom <= size - 1:
        rows = generator.standard_normal((draws, size, max(round(freedom), 0)))
        return rows @ rows.transpose(0, 2, 1)
    lower = np.tril(generator.standard_normal((draws, size, size)), -1)
    index = np.arange(size)
    lower[:, index, index] = np.sqrt(generator.chisquare(freedom - index, size=(draws, size)))
    return lower @ lower.transpose(0, 2, 1)


@lru_cache(maxsize=256)
def power_sum(exponent: float, first: int, last: int) -> float:
    """Sum of k^-a for k from first to last.

    Up to a million terms are added one by one; further ones by the integral to half a step beyond either end,
    which is right to a relative a (a + 1) / (24 k^2), below 1e-12 there for any exponent of use.

    Args:
        exponent: a.
        first: first k, at least 1.
        last: last k.
    """
    if last < first:
        return 0.0
    split = min(last, first + 1_000_000)
    head = float((np.arange(first, split + 1, dtype=np.float64) ** -exponent).sum())
    if split == last:
        return head
    low, high = split + 0.5, last + 0.5
    if exponent == 1.0:
        return head + float(np.log(high / low))
    power = 1.0 - exponent
    return head + (high**power - low**power) / power
