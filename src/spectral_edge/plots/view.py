"""What a figure is drawn from: one run's columns, its curves and the steps worth a line."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from spectral_edge.measure import Decline

Array = NDArray[Any]
Curve = tuple[Array, Array]
"""Steps and values."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A step that every panel marks by a vertical line, and what to call it."""

    step: int
    label: str


@dataclass(frozen=True, slots=True)
class RunView:
    """One run as a figure sees it.

    Attributes:
        role: "run" or "control", which fixes its colour.
        title: heading of its column.
        series: quantities of the whole model by name, as columns over windows, with "step".
        layers: the same for each layer.
        metrics: evaluated metrics by name.
        loss: training loss logged with the observed rows.
        marks: steps to mark.
        falls: declines to annotate, by name of the quantity.
    """

    role: Literal["run", "control"]
    title: str
    series: Mapping[str, Array]
    layers: Mapping[str, Mapping[str, Array]] = field(default_factory=dict[str, Mapping[str, Array]])
    metrics: Mapping[str, Curve] = field(default_factory=dict[str, Curve])
    loss: Curve | None = None
    marks: tuple[Mark, ...] = ()
    falls: Mapping[str, Decline] = field(default_factory=dict[str, Decline])

    @property
    def windows(self) -> int:
        """Number of full windows."""
        return len(self.series["step"])

    @property
    def span(self) -> tuple[int, int]:
        """First and last step of anything there is to draw; (0, 1) where there is nothing."""
        curves = [*(steps for steps, _ in self.metrics.values()), np.asarray(self.series["step"])]
        if self.loss is not None:
            curves.append(self.loss[0])
        ends = [int(end) for steps in curves if len(steps) for end in (steps[0], steps[-1])]
        return (min(ends), max(ends)) if ends else (0, 1)
