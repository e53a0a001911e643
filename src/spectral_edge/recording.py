"""From snapshots to recorded lag rows: what a live monitor and a scan of checkpoints have in common."""

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spectral_edge.errors import InputError, Outcome, warn
from spectral_edge.measure import group_rows, sketch_error
from spectral_edge.observe import (
    BACKENDS,
    CELLS,
    ENGINES,
    Engine,
    ParameterSource,
    Push,
    Selection,
    SketchPlan,
    SketchRing,
    exact_engine,
    use_sketch,
)
from spectral_edge.records import Inventory, Note, UpdateRow
from spectral_edge.trace import (
    Position,
    Segment,
    SegmentHeader,
    SegmentWriter,
    TraceWriter,
    generations,
    position_on_disk,
    read_folder,
    read_memory,
)

Array = NDArray[np.float64]

_COUNTS = ("rows", "probes", "products", "log")

REST = "(rest)"
"""The group of what no named group holds, in traces that store groups."""


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
        backend: of a sketch: "auto", "torch" or "numba".

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
        if self.engine not in ENGINES:
            raise InputError("engine", expected=" | ".join(ENGINES), found=repr(self.engine), remedy="leave it at auto")
        if self.backend not in BACKENDS:
            raise InputError("backend", expected=" | ".join(BACKENDS), found=repr(self.backend), remedy="use auto")
        if type(self.cells) is not int or self.cells < 1:
            raise InputError("cells", expected="a positive whole number", found=repr(self.cells), remedy="use 65536")
        if self.store not in ("tensors", "groups"):
            raise InputError("store", expected="tensors | groups", found=repr(self.store), remedy="leave it at tensors")


HALF = ("bfloat16", "float16")
"""Dtypes in which ordinary updates round away."""


class Recorder:
    """Takes snapshots of a source and appends their lag rows to a trace.

    Attributes:
        inventory: what is watched.
        entries: names of what lag rows are stored for, tensors or groups.
        groups: indices among the entries that make up each named group.
        errors: relative standard error of each entry's singular values from sketching.
        engine: which engine, as the trace records it.
        ring: the engine itself.

    Args:
        source: the parameters, whose present values are the first update's baseline.
        options: how to keep and store.
    """

    def __init__(self, source: ParameterSource, options: RecorderOptions) -> None:
        self.options = options
        self.writer = TraceWriter(options.out)
        self._segment: SegmentWriter | None = None
        self._parent: Position | None = None
        self._generation: int | None = None
        self._said_broken = self._said_unmoved = False
        self._begin(source)

    # what is watched ---------------------------------------------------------------------------------------------

    def _begin(self, source: ParameterSource) -> None:
        inventory, tensors = self.options.selection.apply(source)
        sketched = use_sketch(self.options.engine, inventory.watched, self.options.cells)
        grouped = sketched or self.options.store == "groups"
        self.inventory = _with_rest(inventory) if grouped else inventory
        self.entries = tuple(self.inventory.groups if grouped else (tensor.name for tensor in inventory.tensors))
        self._members = tuple(self.inventory.groups.values()) if grouped and not sketched else None
        groups = self.inventory.groups
        self.groups = {name: (index,) for index, name in enumerate(groups)} if grouped else dict(groups)
        self._coverage = self.inventory.coverage
        if not sketched:
            ring, device = self.options.ring_dtype, self.options.ring_device
            self.ring: Engine = exact_engine(tensors, self.options.horizon, dtype=ring, device=device)
            self.errors, self.engine = np.zeros(len(self.entries)), {"name": "exact"}
            return
        options, sizes = self.options, [tensor.numel for tensor in inventory.tensors]
        plan = SketchPlan.make(sizes, self.inventory.groups, cells=options.cells, seed=options.seed)
        sketch = SketchRing(tensors, options.horizon, plan=plan, backend=options.backend)
        self.ring = sketch
        self.errors = np.array([group.error for group in plan.groups])
        self.engine = {"name": "sketch", **plan.describe(), "backend": sketch.backend}

    def by_entry(self, by_tensor: Array) -> Array:
        """Sums values by tensor [n, ...] to values by stored entry."""
        if self._members is None:
            return by_tensor
        flat = by_tensor.reshape(len(by_tensor), -1)
        summed = np.stack([group_rows(flat, members) for members in self._members])
        return summed.reshape(len(summed), *by_tensor.shape[1:])

    def sketch_errors(self, row: UpdateRow) -> Array:
        """Relative standard error of an isolated singular value of the model and of each named group [1 + groups]."""
        energies = row.lags[:, 0]
        found = [sketch_error(energies[list(m)], self.errors[list(m)]) for m in self.groups.values()]
        return np.array([row.metadata["sketch_error"], *found])

    # observing ---------------------------------------------------------------------------------------------------

    def observe(
        self,
        source: ParameterSource,
        step: int,
        metadata: Mapping[str, float],
        *,
        stepped: bool | None = None,
        aloud: bool = True,
    ) -> tuple[Outcome, UpdateRow | None]:
        """Takes one snapshot.

        Args:
            source: the parameters now.
            step: the optimizer step that they belong to.
            metadata: values for the row.
            stepped: whether the optimizer stepped since the last snapshot; None where unknown.
            aloud: whether to warn of what is noted.

        Returns:
            What became of it, and the row if one was recorded.
        """
        inventory, tensors = self.options.selection.apply(source)
        if inventory.tensors is not self.inventory.tensors and inventory.tensors != self.inventory.tensors:
            self._change(source, step)
            return Outcome.PARAMETERS_CHANGED, None
        was_ready = self.ring.ready
        push = self.ring.push(tensors)
        if not push.finite:
            if not self._said_broken:
                self._said_broken = True
                self.note(step, Outcome.NON_FINITE, self._broken(tensors), aloud=aloud)
            return Outcome.NON_FINITE, None
        self._said_broken = False
        if not was_ready:  # this snapshot is the new baseline
            return Outcome.NON_FINITE, None
        if not push.moved:
            return self._unmoved(step, stepped, aloud=aloud), None
        lags = self.by_entry(push.lags)
        row = UpdateRow(step, time.time(), lags, {**metadata, **self._measured(push, lags)})
        self.segment.add_row(row)
        return Outcome.OK, row

    def _unmoved(self, step: int, stepped: bool | None, *, aloud: bool) -> Outcome:
        """No watched parameter moved: skipped if the optimizer did not step, rounded away if it did."""
        half = any(tensor.dtype in HALF for tensor in self.inventory.tensors)
        if stepped is None and half and not self._said_unmoved:
            self._said_unmoved = True
            message = (
                "No watched half-precision parameter moved, and the optimizer keeps no step count: either it did "
                "not step, or its updates round away; watch float32 master weights."
            )
            self.note(step, Outcome.ROUNDED_AWAY, message, aloud=aloud)
            return Outcome.ROUNDED_AWAY
        outcome = Outcome.ROUNDED_AWAY if stepped else Outcome.SKIPPED
        self.note(step, outcome, outcome.sentence, aloud=aloud and bool(stepped))
        return outcome

    def restart(self, source: ParameterSource, step: int, outcome: Outcome, message: str) -> None:
        """Empties the window and takes the present parameters as the new baseline."""
        _, tensors = self.options.selection.apply(source)
        self.ring.restart(tensors)
        self.note(step, outcome, message, aloud=True)

    def branch(self) -> None:
        """Starts a new generation: what follows does not continue what is in the trace."""
        self._segment, self._parent, self._generation = None, None, self._newest_generation() + 1

    def note(self, step: int, outcome: Outcome, message: str, *, aloud: bool = False) -> None:
        """Records something that happened to the observation, and warns of it if asked."""
        self.segment.add_note(Note(step, outcome, message))
        if aloud:
            warn(f"step {step}: {message}")

    def _measured(self, push: Push, lags: Array) -> dict[str, float]:
        return {
            "coverage": self._coverage,
            "moved_fraction": push.moved_fraction,
            "parameter_norm": push.parameter_norm,
            "sketch_error": float(sketch_error(lags[:, 0], self.errors)),
        }

    def _change(self, source: ParameterSource, step: int) -> None:
        before = {tensor.name for tensor in self.inventory.tensors}
        parent = self._segment.position if self._segment else None
        self._begin(source)
        after = {tensor.name for tensor in self.inventory.tensors}
        self._segment, self._parent = None, parent
        changes = [f"appeared: {', '.join(sorted(after - before)[:3])}"] if after - before else []
        changes += [f"vanished: {', '.join(sorted(before - after)[:3])}"] if before - after else []
        detail = "; ".join(changes) or "a shape or dtype changed"
        self.note(step, Outcome.PARAMETERS_CHANGED, f"{Outcome.PARAMETERS_CHANGED.sentence} ({detail})", aloud=True)

    def _broken(self, tensors: Sequence[Tensor]) -> str:
        for info, tensor in zip(self.inventory.tensors, tensors, strict=True):
            if not bool(torch.isfinite(tensor.detach()).all()):
                return f"{info.name} is not finite; {Outcome.NON_FINITE.sentence}"
        return Outcome.NON_FINITE.sentence

    # the trace ---------------------------------------------------------------------------------------------------

    @property
    def segment(self) -> SegmentWriter:
        """The open segment, started when something is first recorded."""
        if self._segment is None:
            if self._generation is None:
                self._generation = self._newest_generation() + 1
            header = SegmentHeader(
                self.inventory,
                self.entries,
                self.options.horizon,
                {**self.options.metadata, "engine": self.engine},
                self._parent,
                self._generation,
            )
            try:
                self._segment = self.writer.open(header)
            except OSError as error:
                warn(f"No further segment of the trace can be written ({error}); it is kept in memory from here on.")
                self.writer = TraceWriter(None)
                self._segment = self.writer.open(replace(header, parent=None))
        return self._segment

    def state_dict(self) -> dict[str, Any]:
        """The ring and how far the trace had grown; everything written so far is brought to the disk."""
        self.segment.sync()
        position = self.segment.position
        return {
            "names": [tensor.name for tensor in self.inventory.tensors],
            "groups": {name: list(members) for name, members in self.inventory.groups.items()},
            "ring": self.ring.state_dict(),
            "position": {name: getattr(position, name) for name in position.__slots__},
            "generation": self._generation,
        }

    def load_state_dict(self, state: Mapping[str, Any], step: int) -> Outcome:
        """Continues from a saved state: the trace too, as a new branch if it had grown beyond it.

        Returns:
            RESUMED, or REWOUND if the trace held later records.

        Raises:
            InputError: if other parameters or another horizon are watched now.
        """
        names = [tensor.name for tensor in self.inventory.tensors]
        if names != list(state["names"]):
            odd = sorted(set(names) ^ set(state["names"]))[:3]
            raise InputError(
                "monitor state",
                expected=f"{len(names)} tensors as watched now",
                found=f"{len(state['names'])}, differing in {', '.join(odd) or 'their order'}",
                remedy="construct the monitor with the same model and select",
            )
        self.ring.load_state_dict(state["ring"])
        saved = Position(**state["position"])
        if self._segment is not None:
            self._segment.sync()
        reached, newest = self._reached(saved)
        self._segment, self._parent, self._generation = None, None, self._newest_generation() + 1
        if reached is None or any(getattr(reached, name) < getattr(saved, name) for name in _COUNTS):
            # Rows that do not follow what is there must not be chained to it: offline windows would mix the two.
            message = "The records before this checkpoint are not in this trace; it starts anew here."
            self.note(step, Outcome.RESUMED, message, aloud=self.writer.folder is not None)
            return Outcome.RESUMED
        self._parent = saved
        if newest and reached == saved:
            self._generation = state["generation"]
            self.note(step, Outcome.RESUMED, Outcome.RESUMED.sentence)
            return Outcome.RESUMED
        self.note(step, Outcome.REWOUND, Outcome.REWOUND.sentence, aloud=True)
        return Outcome.REWOUND

    def segments(self) -> list[Segment]:
        """Everything recorded so far, as a reader sees it."""
        self.segment.sync()
        if self.writer.folder is None:
            return read_memory(self.writer.segments)
        return read_folder(self.writer.folder, generation=self._generation)

    def _reached(self, saved: Position) -> tuple[Position | None, bool]:
        """How far the saved segment reaches now, and whether it is the newest; None if it is not here."""
        if self.writer.folder is not None:
            return position_on_disk(self.writer.folder, saved)
        segments = self.writer.segments
        if saved.segment >= len(segments) or segments[saved.segment].header.identity != saved.identity:
            return None, False
        return segments[saved.segment].position, saved.segment == len(segments) - 1

    def _newest_generation(self) -> int:
        known = [segment.header.generation for segment in self.writer.segments]
        if self.writer.folder is not None:
            known += generations(self.writer.folder)
        return max(known, default=-1)

    def close(self) -> None:
        """Closes the trace's files."""
        if self._segment is not None:
            self._segment.close()


def _with_rest(inventory: Inventory) -> Inventory:
    """The inventory with its groups made a partition, as stored group rows must add up to the model's."""
    taken: set[int] = set()
    for group, members in inventory.groups.items():
        if taken & set(members):
            raise InputError(
                f"group {group!r}",
                expected="groups that share no tensor, as a sketch and store='groups' sum them",
                found="a tensor that an earlier group holds",
                remedy="use other groups, or engine='exact' with store='tensors'",
            )
        taken |= set(members)
    rest = tuple(index for index in range(len(inventory.tensors)) if index not in taken)
    return replace(inventory, groups={**inventory.groups, REST: rest}) if rest else inventory


def run_metadata(user: Mapping[str, Any] | None) -> dict[str, Any]:
    """Versions beside whatever the user gives: configuration, seed, command."""
    versions = {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "spectral-edge": version("spectral-edge"),
    }
    return {**(dict(user) if user else {}), "versions": versions}
