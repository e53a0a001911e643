"""A slow triangular cycle of the learning rate, live or replayed, and what the window shows on its way up and down."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.optim import Optimizer

from spectral_edge.errors import InputError
from spectral_edge.measure import WindowOptions, Windows, grams, spectrum
from spectral_edge.measure.subspace import overlaps

Array = NDArray[np.float64]

RESPONSES: dict[str, str] = {
    "log_ratio": "logarithm of the ratio of singular values at k*",
    "overlap": "squared overlap of the leading directions of two windows that follow each other",
    "gap": "gap between the leading two eigenvalues, as a share of their sum over all modes",
}
"""What is read off a window, in words."""


@dataclass(frozen=True, kw_only=True)
class Cycle:
    """A learning rate that goes up from `low` to `high` and down again, straight in its logarithm.

    Attributes:
        low: smallest learning rate.
        high: largest learning rate.
        period: steps of one cycle, up and down; even.
        cycles: how many.

    Raises:
        InputError: if an attribute cannot be used.
    """

    low: float
    high: float
    period: int
    cycles: int

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high:
            raise _unusable("low and high", "0 < low < high", f"{self.low!r} and {self.high!r}")
        if self.period < 4 or self.period % 2:
            raise _unusable("period", "an even number of steps, at least 4", repr(self.period))
        if self.cycles < 1:
            raise _unusable("cycles", "at least 1", repr(self.cycles))

    @property
    def steps(self) -> int:
        """Steps of all cycles together."""
        return self.period * self.cycles

    def position(self, step: NDArray[Any] | float) -> Array:
        """Where the cycle stands before a step counted from 0: 0 at the lowest rate, 1 at the highest."""
        phase = np.mod(np.asarray(step, dtype=np.float64) + 0.5, self.period) / self.period
        return 1 - np.abs(2 * phase - 1)

    def rates(self) -> Array:
        """The learning rate of every step [steps]."""
        return self.low * (self.high / self.low) ** self.position(np.arange(self.steps))


def drive(
    optimizer: Optimizer, cycle: Cycle, step: Callable[[], Any], *, after: Callable[[int], Any] | None = None
) -> None:
    """Takes the steps of a cycle, setting the learning rate of all parameter groups before each.

    Rates are put back afterwards. Relative rates of the groups are kept: the first group follows the cycle.

    Args:
        optimizer: whose rates are set.
        cycle: gives them.
        step: takes one optimizer step, and observes it.
        after: called with the number of steps taken so far.
    """
    before = [group["lr"] for group in optimizer.param_groups]
    relative = [rate / before[0] for rate in before]
    try:
        for taken, rate in enumerate(cycle.rates(), start=1):
            for group, factor in zip(optimizer.param_groups, relative, strict=True):
                group["lr"] = float(rate) * factor
            step()
            if after is not None:
                after(taken)
    finally:
        for group, rate in zip(optimizer.param_groups, before, strict=True):
            group["lr"] = rate


@dataclass(frozen=True, slots=True)
class Readings:
    """One response along a stream of updates.

    Attributes:
        name: one of `RESPONSES`.
        time: centre of the rows behind each value, in observations [N]; the first row is centred at 0.5.
        values: [N]; NaN where undefined.
    """

    name: str
    time: Array
    values: Array


def read(lag_rows: Array, *, window: int, every: int | None = None, k_star: str = "restricted") -> list[Readings]:
    """Every response along a stream, each value at the centre of the rows that it is made of.

    A value that is labelled by its newest row trails what it measures by half a window, which alone opens a loop. A
    singular value does not know the order of its rows; labelled by their centre it reads the same backwards.

    Args:
        lag_rows: inner products of each update with itself and its predecessors [T, L], L at least two windows.
        window: number W of updates.
        every: observations between two readings; half a window by default.
        k_star: the convention of k* behind "log_ratio".

    Raises:
        InputError: if two windows do not fit into the horizon or the stream.
    """
    total, horizon = lag_rows.shape
    if 2 * window > min(horizon, total):
        raise _unusable("window", f"at most half of {min(horizon, total)} recorded lags or rows", str(window))
    ends = np.arange(2 * window - 1, total, max(window // 2, 1) if every is None else every)
    options = WindowOptions(window, k_star)
    nothing = np.full(len(ends), np.nan)
    blocks = grams(lag_rows, ends, size=2 * window)
    found = Windows(blocks[:, window:, window:], options, learning_rate=nothing, sketch_error=np.zeros(len(ends)))
    # Not `alpha_overlap`, whose assignment starts from the newer window and so knows the direction of time.
    older, newer = spectrum(blocks[:, :window, :window]), spectrum(blocks[:, window:, window:])
    overlap = overlaps(older, newer, blocks[:, :window, window:])[:, 0, 0] ** 2
    squared = found["sigma"].values ** 2
    total_energy = squared.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = (squared[:, 0] - squared[:, 1]) / total_energy
    one, two = ends + 1 - window / 2, ends + 1.0 - window
    return [
        Readings("log_ratio", one, np.log(found["gap_ratio"].values)),
        Readings("overlap", two, overlap),
        Readings("gap", one, np.where(np.isfinite(gap), gap, np.nan)),
    ]


def _unusable(subject: str, expected: str, found: str) -> InputError:
    return InputError(subject, expected=expected, found=found, remedy="see spectral_edge.modes.cycle")
