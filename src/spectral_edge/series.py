"""Every quantity over the windows of a trace, as columns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError, MissingExtraError, Outcome
from spectral_edge.measure import Windows
from spectral_edge.quantities import QUANTITIES, ROW_METADATA

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Part:
    """Windows of one width, and which rows of the series they are."""

    rows: NDArray[np.intp]
    windows: Windows
    width: int


class EdgeSeries(Mapping[str, Any]):
    """Every quantity over the windows of a trace, as columns computed when first asked for.

    `series["sigma"]` is [N, W], `series["gap_ratio"]` is [N]; an undefined value is NaN and `reason(name)` says why.
    `series["step"]`, also `series.step`, is the step of each window's last update. The names of
    `quantities.ROW_METADATA` are columns too.

    Attributes:
        step: steps [N].
        window: number W of updates.
        stride: observations that one row of the window sums.
    """

    def __init__(
        self,
        steps: NDArray[np.int64],
        parts: Sequence[Part],
        metadata: Mapping[str, Array],
        *,
        window: int,
        stride: int,
    ) -> None:
        self.step = steps
        self.window = window
        self.stride = stride
        self._parts = parts
        self._metadata = metadata
        self._columns: dict[str, Array] = {}

    def __repr__(self) -> str:
        return f"EdgeSeries({len(self.step)} windows of {self.window} updates, stride {self.stride})"

    def __getitem__(self, name: str) -> Any:
        if name == "step":
            return self.step
        if name in self._metadata:
            return self._metadata[name]
        if name not in QUANTITIES:
            raise InputError(
                "quantity",
                expected="a name listed in spectral_edge.quantities",
                found=repr(name),
                remedy=f"for instance {', '.join(list(QUANTITIES)[:4])}",
            )
        if name not in self._columns:
            self._columns[name] = self._assemble(name)
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(("step", *ROW_METADATA, *QUANTITIES))

    def __len__(self) -> int:
        return 1 + len(ROW_METADATA) + len(QUANTITIES)

    def reason(self, name: str) -> list[Outcome]:
        """For each window, why a quantity is undefined or with what reservation it is given."""
        if name in self._metadata:
            return [Outcome.OK if np.isfinite(value) else Outcome.NOT_RECORDED for value in self._metadata[name]]
        codes = np.zeros(len(self.step), dtype=np.int8)
        for part in self._parts:
            codes[part.rows] = part.windows[name].outcomes
        return [Outcome(int(code)) for code in codes]

    def to_pandas(self) -> "pd.DataFrame":
        """One row a window, one column a scalar; vectors become numbered columns, `sigma_1` the largest.

        Raises:
            MissingExtraError: without pandas.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingExtraError("pandas", extra="pandas", purpose="EdgeSeries.to_pandas") from error
        columns: dict[str, Any] = {}
        for name in self:
            values = self[name]
            if values.ndim == 1:
                columns[name] = values
            else:
                columns |= {f"{name}_{j + 1}": values[:, j] for j in range(values.shape[1])}
        return pd.DataFrame(columns)

    def _assemble(self, name: str) -> Array:
        shape = {"scalar": (), "W": (self.window,), "W-1": (self.window - 1,)}[QUANTITIES[name].shape]
        column = np.full((len(self.step), *shape), np.nan)
        for part in self._parts:
            values = part.windows[name].values
            if name == "g23" and part.width == 2 < self.window:
                # The published growing windows substitute lambda_2 where a third value does not exist.
                values = part.windows["sigma"].values[:, 1] ** 2
            if values.ndim == 1:
                column[part.rows] = values
            else:
                column[part.rows, : values.shape[1]] = values
        return column
