"""The newest window of a live run: the last lag rows of the model and of each group, and the reading they make."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spectral_edge.errors import InputError
from spectral_edge.measure import WindowOptions, Windows, grams, group_rows, known_memory
from spectral_edge.records import EdgeReading, UpdateRow

Array = NDArray[np.float64]

RESUMED_BEYOND = 20.0
"""A first update after resuming that is longer than this many times any before it is none."""


class LiveWindow:
    """Remembers as many lag rows as a reading reaches back: two windows, or the horizon if that is shorter.

    Args:
        options: how windows are measured, but for their memory.
        horizon: number L of lags.
        momentum: the optimizer's, or None where unknown.
        every: the interval between observations, or None where it varies.

    Attributes:
        every: the same; a monitor that observes less often from some point on sets it.
    """

    def __init__(self, options: WindowOptions, *, horizon: int, momentum: float | None, every: int | None) -> None:
        self._options = options
        self.every = every
        self._size = min(2 * options.window, horizon)
        self._momentum = momentum
        self._steps: list[int] = []
        self._rows = np.full((1, self._size, self._size), np.nan)

    @property
    def steps(self) -> Sequence[int]:
        """Steps of the newest rows, oldest first."""
        return self._steps

    def largest_after_resume(self) -> Array:
        """Largest squared norm that the first update after a resume can have, of the model and of each group.

        A group that used to move little may well move more, but not by itself as far as the model does. 0 where no
        update is known.
        """
        squares = np.nanmax(np.nan_to_num(self._rows[:, :, 0]), axis=1)
        return np.where(squares > 0, np.maximum(RESUMED_BEYOND**2 * squares, squares[0]), 0.0)

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
            fresh = np.full((len(groups), self._size, self._size), np.nan)
            self._rows = np.concatenate([self._rows[:1], fresh])
        self._rows = np.roll(self._rows, -1, axis=-2)
        lags = row.lags[:, : self._size]
        self._rows[0, -1] = group_rows(lags, range(len(lags)))
        if all(len(members) == 1 for members in groups):
            self._rows[1:, -1] = lags[[members[0] for members in groups]]
        else:
            for index, members in enumerate(groups, start=1):
                self._rows[index, -1] = group_rows(lags, members)
        self._steps = [*self._steps, row.step][-self._options.window :]

    def reading(self, row: UpdateRow, names: Sequence[str], errors: Callable[[], Array]) -> EdgeReading:
        """The reading of the window that ends with `row`, with one for each named group.

        Args:
            row: the newest row.
            names: of the groups.
            errors: gives the relative standard error of a singular value from sketching, for each group.
        """
        blocks = grams(self._rows, np.array([self._size - 1]), size=self._size)[:, 0]
        memory = known_memory(self._momentum, np.array(self._steps), every=self.every)
        options = replace(self._options, memory=memory)
        rate = np.full(len(blocks), row.metadata.get("learning_rate", np.nan))
        error = np.array([row.metadata["sketch_error"]])
        whole = Windows(blocks[:1], options, learning_rate=rate[:1], sketch_error=error)
        groups = _LazyGroups(
            names, lambda: Windows(blocks[1:], options, learning_rate=rate[1:], sketch_error=errors()), row
        )
        return EdgeReading(row.step, whole, 0, row.metadata, groups, k_star=options.k_star)

    def gram(self, window: int) -> Array:
        """Inner products of the newest `window` updates of the model [window, window], oldest first.

        Raises:
            InputError: if fewer than that are remembered, or have been observed since the last restart.
        """
        there = 0
        if 2 <= window <= self._size:
            block = grams(self._rows[:1], np.array([self._size - 1]), size=window)[0, 0]
            there = int(np.isfinite(block[-1]).sum())
            if there == window:
                return block
        raise InputError(
            "window",
            expected=f"2 to {self._size} updates, observed since the last restart",
            found=str(window) if not 2 <= window <= self._size else f"{there} of {window} so far",
            remedy="go on until the window is full, or ask for a smaller one",
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything, as tensors and numbers."""
        return {"rows": torch.from_numpy(self._rows.copy()), "steps": list(self._steps)}

    def load_state_dict(self, state: Mapping[str, Any], *, same_groups: bool) -> None:
        """The inverse of `state_dict`; rows of other groups than now are dropped and fill again."""
        saved = state["rows"].numpy()
        if not same_groups:
            saved = saved[:1]
        # A window of another width remembers more rows or fewer than were saved.
        common = min(self._size, saved.shape[-1])
        self._rows = np.full((len(saved), self._size, self._size), np.nan)
        self._rows[:, -common:, :common] = saved[:, -common:, :common]
        self._steps = list(state["steps"])[-self._options.window :]


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
