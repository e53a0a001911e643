"""The newest window of a live run: the last lag rows of the model and of each group, and the reading they make."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spectral_edge.measure import Memory, WindowOptions, Windows, grams, group_rows
from spectral_edge.records import EdgeReading, UpdateRow

Array = NDArray[np.float64]


_INTERVALS = (1.0, 2.0, 5.0, 10.0, 20.0, 25.0, 50.0, 100.0, 200.0)
"""Intervals, in steps, to the nearest of which that of an irregular schedule is rounded for the null's memory."""


class LiveWindow:
    """Remembers as many lag rows as the horizon has lags.

    Args:
        options: how windows are measured; a memory of None is worked out from `momentum` and the observed steps.
        horizon: number L of lags.
        momentum: the optimizer's, or None where unknown.
    """

    def __init__(self, options: WindowOptions, *, horizon: int, momentum: float | None) -> None:
        self._options = options
        self._horizon = horizon
        self._momentum = momentum
        self._steps: list[int] = []
        self._rows = np.full((1, horizon, horizon), np.nan)

    @property
    def newest_step(self) -> int:
        """Step of the newest row."""
        return self._steps[-1]

    def clear(self) -> None:
        """Forgets everything, after a restart."""
        self._steps = []
        self._rows = np.full_like(self._rows[:1], np.nan)

    def add(self, row: UpdateRow, groups: Sequence[Sequence[int]]) -> None:
        """Takes in a row.

        Args:
            row: the newest lag rows by stored entry.
            groups: which entries make up each group.
        """
        if len(self._rows) != 1 + len(groups):
            self._rows = np.full((1 + len(groups), self._horizon, self._horizon), np.nan)
        self._rows = np.roll(self._rows, -1, axis=-2)
        self._rows[0, -1] = group_rows(row.lags, range(len(row.lags)))
        for index, members in enumerate(groups, start=1):
            self._rows[index, -1] = group_rows(row.lags, members)
        self._steps = [*self._steps[-self._options.window :], row.step]

    def reading(self, row: UpdateRow, names: Sequence[str]) -> EdgeReading:
        """The reading of the window that ends with `row`, with one for each named group."""
        size = min(2 * self._options.window, self._horizon)
        blocks = grams(self._rows, np.array([self._horizon - 1]), size=size)[:, 0]
        options = replace(self._options, memory=self._options.memory or self._observed_memory())
        rate = np.full(len(blocks), row.metadata.get("learning_rate", np.nan))
        error = np.full(len(blocks), row.metadata["sketch_error"])
        whole = Windows(blocks[:1], options, learning_rate=rate[:1], sketch_error=error[:1])
        groups = _LazyGroups(
            names, lambda: Windows(blocks[1:], options, learning_rate=rate[1:], sketch_error=error[1:]), row
        )
        return EdgeReading(row.step, whole, 0, row.metadata, groups, k_star=options.k_star)

    def state_dict(self) -> dict[str, Any]:
        """Everything, as tensors and numbers."""
        return {"rows": torch.from_numpy(self._rows.copy()), "steps": list(self._steps)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self._rows = state["rows"].numpy().copy()
        self._steps = list(state["steps"])

    def _observed_memory(self) -> Memory | None:
        if self._momentum is None or len(self._steps) < 2:
            return None
        typical = float(np.median(np.diff(self._steps)))
        # A table for each new median would be drawn inside the training loop; these are shipped.
        return Memory(self._momentum, min(_INTERVALS, key=lambda known: abs(np.log(known / typical))))


class _LazyGroups(Mapping[str, EdgeReading]):
    """Readings of the named groups, measured together when the first is asked for."""

    def __init__(self, names: Sequence[str], measure: Callable[[], Windows], row: UpdateRow) -> None:
        self._names = {name: index for index, name in enumerate(names)}
        self._measure = functools.cache(measure)
        self._row = row

    def __getitem__(self, name: str) -> EdgeReading:
        windows = self._measure()
        return EdgeReading(
            self._row.step, windows, self._names[name], self._row.metadata, k_star=windows.options.k_star
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
