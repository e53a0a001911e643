"""How updates are kept and stored: what a monitor and a scan have to say to their recorder."""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spectral_edge.errors import InputError
from spectral_edge.observe import BACKENDS, CELLS, ENGINES, Selection

LADDER = 16
"""Most doublings of a ladder."""


@dataclass(frozen=True, slots=True)
class RecorderOptions:
    """How updates are kept and stored.

    Attributes:
        horizon: number L of updates whose inner products are recorded.
        selection: which parameters, in which groups.
        out: the trace's folder; None keeps it in memory.
        store: "tensors" stores a lag row for each tensor, "groups" one for each group.
        ring_dtype: dtype of the kept updates; None keeps the parameters' own.
        ring_device: where they are kept; None keeps them with the parameters.
        metadata: written into every segment.
        engine: "auto", "exact" or "sketch".
        cells: cells of a sketch.
        seed: of a sketch.
        backend: of a sketch: a name of `observe.BACKENDS`.
        ladder: number of longer rows: updates summed over 2, 4, ... observations.
        keep_sketches: whether sketches of the parameters are kept in the trace.

    Raises:
        InputError: on a horizon below two or an unknown `store`.
    """

    horizon: int
    selection: Selection
    out: Path | None
    store: str
    ring_dtype: torch.dtype | None
    ring_device: torch.device | str | None
    metadata: Mapping[str, Any]
    engine: str = "auto"
    cells: int = CELLS
    seed: int = 0
    backend: str = "auto"
    ladder: int = 0
    keep_sketches: bool = False

    def terms(self) -> dict[str, str]:
        """What ranks that observe together must have in common."""
        names = ("horizon", "store", "ring_dtype", "engine", "cells", "seed", "ladder", "keep_sketches")
        watched = self.metadata.get("monitor", {})
        return {**{name: str(getattr(self, name)) for name in names}, **{k: str(v) for k, v in watched.items()}}

    def __post_init__(self) -> None:
        if type(self.horizon) is not int or self.horizon < 2:
            raise InputError(
                "horizon",
                expected="at least 2 updates",
                found=repr(self.horizon),
                remedy="leave it at its default of twice the window",
            )
        if self.ring_dtype is not None and not isinstance(self.ring_dtype, torch.dtype):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError(
                "ring_dtype", expected="a torch dtype", found=repr(self.ring_dtype), remedy="torch.bfloat16"
            )
        if self.ring_dtype is not None and not self.ring_dtype.is_floating_point:
            raise InputError(
                "ring_dtype", expected="a floating-point dtype", found=str(self.ring_dtype), remedy="torch.bfloat16"
            )
        if type(self.seed) is not int or not 0 <= self.seed < 2**63:
            raise InputError(
                "sketch_seed", expected="a whole number of at least 0", found=repr(self.seed), remedy="use 0"
            )
        try:
            json.dumps(dict(self.metadata), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(
                "metadata", expected="plain JSON values", found=str(error), remedy="use text, numbers, lists and dicts"
            ) from error
        if self.engine not in ENGINES:
            raise InputError("engine", expected=" | ".join(ENGINES), found=repr(self.engine), remedy="leave it at auto")
        if self.backend not in BACKENDS:
            raise InputError("backend", expected=" | ".join(BACKENDS), found=repr(self.backend), remedy="use auto")
        if type(self.cells) is not int or self.cells < 1:
            raise InputError("cells", expected="a positive whole number", found=repr(self.cells), remedy="use 65536")
        if type(self.ladder) is not int or not 0 <= self.ladder <= LADDER:
            raise InputError(
                "ladder",
                expected=f"a number of doublings from 0 to {LADDER}",
                found=repr(self.ladder),
                remedy="ladder=4 records updates summed over 2, 4, 8 and 16 observations",
            )
        if self.store not in ("tensors", "groups"):
            raise InputError("store", expected="tensors | groups", found=repr(self.store), remedy="leave it at tensors")


def run_metadata(user: Mapping[str, Any] | None) -> dict[str, Any]:
    """Versions beside whatever the user gives: configuration, seed, command."""
    versions = {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "spectral-edge": version("spectral-edge"),
    }
    return {**(dict(user) if user else {}), "versions": versions}
