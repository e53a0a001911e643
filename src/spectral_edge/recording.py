"""From snapshots to recorded lag rows: what a live monitor and a scan of checkpoints have in common."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spectral_edge.chronicle import Chronicle, Contents
from spectral_edge.errors import InputError, Outcome
from spectral_edge.measure import group_rows, sketch_error
from spectral_edge.observe import (
    ALONE,
    RESTART,
    VOID,
    VOTES,
    Drift,
    Engine,
    Held,
    Layout,
    ParameterSource,
    Push,
    Ranks,
    ReplicaCheck,
    Selected,
    SketchPlan,
    SketchRing,
    choose_engine,
    exact_engine,
)
from spectral_edge.options import RecorderOptions
from spectral_edge.records import Inventory, UpdateRow

Array = NDArray[np.float64]

_CHANGED, _STEP, _STEP_SQUARE, _OVERHEAD = range(VOTES, VOTES + 4)
_HEADER = VOTES + 4
"""Numbers at the head of each reduction, before those that compare replicas."""

DRIFTED = 1e-6
"""Replicas further apart than this share of their norm are said to have drifted."""

REST = "(rest)"
"""The group of what no named group holds, in traces that store groups."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What became of a snapshot.

    Attributes:
        outcome: in one word.
        row: the row that was recorded, if any.
        overhead: share of the time that the first rank spent observing, known to all ranks.
    """

    outcome: Outcome
    row: UpdateRow | None
    overhead: float


MOST_MUST_MOVE = 0.5
"""Below this `moved_fraction`, half-precision weights are said to round their updates away."""
HALF = ("bfloat16", "float16")
"""Dtypes in which ordinary updates round away."""


class Recorder:
    """Takes snapshots of a source and appends their lag rows to a trace.

    Attributes:
        layout: what is watched, and which part of it this rank counts.
        inventory: what is watched, in the groups for which rows are stored.
        entries: names of what lag rows are stored for, tensors or groups.
        groups: indices among the entries that make up each named group.
        errors: relative standard error of each entry's singular values from sketching.
        engine: which engine, as the trace records it.
        ring: the engine itself.
        chronicle: the trace as it grows.
        drift: the largest distance of replicas at the last observation.

    Args:
        source: the parameters, whose present values are the first update's baseline.
        options: how to keep and store.
        ranks: the processes that observe together; all of them call the same methods in the same order.
    """

    def __init__(self, source: ParameterSource, options: RecorderOptions, ranks: Ranks = ALONE) -> None:
        self.options = options
        self.ranks = ranks
        self.chronicle = Chronicle(options.out, silent=ranks.rank > 0)
        self.drift: Drift | None = None
        self._said_broken = self._said_unmoved = self._said_drift = self._said_rounding = False
        self._begin(source)

    # what is watched ---------------------------------------------------------------------------------------------

    def _begin(self, source: ParameterSource, *, follow: bool = True) -> None:
        try:
            selected = self.options.selection.apply(source)
        except InputError as error:  # to be told to the other ranks, which wait
            selected = Selected((), (), {}, None, error, fatal=True)
        self.layout = Layout.agree(selected, self.ranks)
        self._replicas = ReplicaCheck(self.layout, self.ranks)
        inventory, options, sharded = self.layout.inventory, self.options, self.ranks.size > 1
        share = self.layout.largest if sharded else None
        choice = choose_engine(
            options.engine, inventory.watched, options.cells, ring_dtype=options.ring_dtype, share=share
        )
        sketched = choice.name == "sketch"
        grouped = sketched or options.store == "groups"
        self.inventory = _with_rest(inventory) if grouped else inventory
        self.entries = tuple(self.inventory.groups if grouped else (tensor.name for tensor in inventory.tensors))
        self._members = tuple(self.inventory.groups.values()) if grouped and not sketched else None
        groups = self.inventory.groups
        self.groups = {name: (index,) for index, name in enumerate(groups)} if grouped else dict(groups)
        self._coverage = self.inventory.coverage
        held = self.layout.shards(selected.shards)
        shared: dict[str, Any] = {"ladder": options.ladder, "ranks": self.ranks, "watched": inventory.watched}
        if sketched:
            sizes = [tensor.numel for tensor in inventory.tensors]
            plan = SketchPlan.make(sizes, self.inventory.groups, cells=options.cells, seed=options.seed)
            sketch = SketchRing(held, options.horizon, plan=plan, backend=options.backend, **shared)
            self.ring: Engine = sketch
            self.errors = np.array([group.error for group in plan.groups])
            self.engine = {"name": "sketch", **plan.describe(), "backend": sketch.backend}
            if self.layout.permuted:
                self.engine["permuted"] = list(self.layout.permuted)
        else:
            device = options.ring_device
            self.ring = exact_engine(held, options.horizon, dtype=choice.ring_dtype, device=device, **shared)
            self.errors = np.zeros(len(self.entries))
            ring_dtype = str(choice.ring_dtype).removeprefix("torch.") if choice.ring_dtype else None
            self.engine = {"name": "exact", "ring_dtype": ring_dtype}
        self.engine |= {"why": choice.why, "ranks": self.ranks.size}
        cells = len(self.ring.snapshot()[0]) if sketched and options.keep_sketches else 0
        metadata = {**options.metadata, "engine": self.engine}
        contents = Contents(self.inventory, self.entries, options.horizon, metadata, options.ladder, cells)
        self.chronicle.begin(contents, follow=follow)

    def by_entry(self, by_tensor: Array) -> Array:
        """Sums values by tensor [n, ...] to values by stored entry."""
        if self._members is None:
            return by_tensor
        flat = by_tensor.reshape(len(by_tensor), -1)
        summed = np.stack([group_rows(flat, members) for members in self._members])
        return summed.reshape(len(summed), *by_tensor.shape[1:])

    def sketch_errors(self, row: UpdateRow) -> Array:
        """Relative standard error of an isolated singular value of each named group [groups]."""
        if not self.errors.any():
            return np.zeros(len(self.groups))
        energies = row.lags[:, 0]
        return np.array([sketch_error(energies[list(m)], self.errors[list(m)]) for m in self.groups.values()])

    # observing ---------------------------------------------------------------------------------------------------

    def observe(
        self,
        source: ParameterSource,
        step: int,
        metadata: Mapping[str, float],
        *,
        stepped: bool | None = None,
        restart: tuple[Outcome, str] | None = None,
        limit: Array | None = None,
        overhead: float = 0.0,
        aloud: bool = True,
    ) -> Observation:
        """Takes one snapshot; to be called by all ranks at the same step.

        Args:
            source: the parameters now.
            step: the optimizer step that they belong to.
            metadata: values for the row.
            stepped: whether the optimizer stepped since the last snapshot; None where unknown.
            restart: why the window is to be emptied, so that this snapshot is its new baseline.
            limit: largest squared norm of an update that can be one, of the model and of each group; after a resume.
            overhead: share of the time that the first rank spent observing.
            aloud: whether to warn of what is noted.
        """
        held, problem, changed = None, None, False
        header = np.zeros(_HEADER + self._replicas.size)
        try:
            selected = self.options.selection.apply(source)
            changed = selected.held is not self.layout.held and selected.held != self.layout.held
            if not changed:
                held = self.layout.shards(selected.shards)
                header[_HEADER:] = self._replicas.sums(selected.shards)
        except Exception as error:
            problem = error
        header[[VOID, RESTART, _CHANGED]] = held is None, restart is not None, changed
        header[[_STEP, _STEP_SQUARE]] = step, float(step) ** 2
        header[_OVERHEAD] = overhead if self.ranks.rank == 0 else 0.0
        was_ready = self.ring.ready
        push = self.ring.push(held, header)
        overhead = float(push.header[_OVERHEAD])
        if not self._same_step(step, push.header):
            self.ring.forget()
            return self._left_out(step, "ranks observe different steps: call step() equally often on each", overhead)
        if push.void:
            if problem is not None:
                raise problem
            if not push.header[_CHANGED]:
                return self._left_out(step, "another rank could not observe: see its warning", overhead)
            self._change(source, step)
            return Observation(Outcome.PARAMETERS_CHANGED, None, overhead)
        if push.header[RESTART]:
            outcome, message = restart or (Outcome.FAILED, "another rank asked for it: " + Outcome.FAILED.sentence)
            self.chronicle.note(step, outcome, message, aloud=aloud)
        self._keep_sketch(step, restart=push.baseline)
        if not push.finite:
            if not self._said_broken:
                self._said_broken = True
                self.chronicle.note(step, Outcome.NON_FINITE, self._broken(held), aloud=aloud)
            return Observation(Outcome.NON_FINITE, None, overhead)
        self._said_broken = False
        if push.baseline:
            asked = restart[0] if restart is not None else Outcome.FAILED
            return Observation(asked if was_ready else Outcome.NON_FINITE, None, overhead)
        self._judge_replicas(step, push.header[_HEADER:], aloud=aloud)
        if not push.moved:
            return Observation(self._unmoved(step, stepped, aloud=aloud), None, overhead)
        lags = self.by_entry(push.lags)
        if limit is not None and self._beyond(lags[:, 0], limit):
            self.ring.forget()
            self.chronicle.note(step, Outcome.NOT_RESTORED, Outcome.NOT_RESTORED.sentence, aloud=aloud)
            return Observation(Outcome.NOT_RESTORED, None, overhead)
        ladder = {stride: self.by_entry(longer) for stride, longer in push.ladder.items()}
        row = UpdateRow(step, time.time(), lags, {**metadata, **self._measured(push, lags)}, ladder)
        self.chronicle.segment.add_row(row)
        self._say_rounding(row)
        return Observation(Outcome.OK, row, overhead)

    def _same_step(self, step: int, header: Array) -> bool:
        """Whether all ranks observe this step, from the sums of their steps and of the squares of these."""
        size = self.ranks.size
        return header[_STEP] == size * step and header[_STEP_SQUARE] == size * float(step) ** 2

    def _left_out(self, step: int, why: str, overhead: float) -> Observation:
        self.chronicle.note(step, Outcome.FAILED, f"{why}; {Outcome.FAILED.sentence}", aloud=True)
        return Observation(Outcome.FAILED, None, overhead)

    def _beyond(self, squares: Array, limit: Array) -> bool:
        """Whether an update is too large to be one, of the model or of a group that used to move."""
        by_group = [squares[list(members)].sum() for members in self.groups.values()]
        found = np.array([squares.sum(), *by_group])
        return bool(((found > limit) & (limit > 0)).any())

    def _judge_replicas(self, step: int, sums: Array, *, aloud: bool) -> None:
        self.drift = drift = self._replicas.judge(sums)
        if drift is None or drift.distance <= DRIFTED or self._said_drift:
            return
        self._said_drift = True
        one, two = drift.ranks
        message = (
            f"{Outcome.REPLICAS_DRIFTED.sentence} (ranks {one} and {two} are apart by {drift.distance:.1e} of the "
            "parameters' norm)"
        )
        self.chronicle.note(step, Outcome.REPLICAS_DRIFTED, message, aloud=aloud)

    def _keep_sketch(self, step: int, *, restart: bool) -> None:
        if self.options.keep_sketches and self.engine["name"] == "sketch":
            cells = self.ring.snapshot()[0].cpu().numpy()
            self.chronicle.segment.add_sketch(step, cells, restart=restart)

    def _unmoved(self, step: int, stepped: bool | None, *, aloud: bool) -> Outcome:
        """No watched parameter moved: skipped if the optimizer did not step, rounded away if it did."""
        half = any(tensor.dtype in HALF for tensor in self.inventory.tensors)
        if stepped is None and half and not self._said_unmoved:
            self._said_unmoved = True
            message = (
                "No watched half-precision parameter moved, and the optimizer keeps no step count: either it did "
                "not step, or its updates round away; watch float32 master weights."
            )
            self.chronicle.note(step, Outcome.ROUNDED_AWAY, message, aloud=aloud)
            return Outcome.ROUNDED_AWAY
        outcome = Outcome.ROUNDED_AWAY if stepped else Outcome.SKIPPED
        self.chronicle.note(step, outcome, outcome.sentence, aloud=aloud and bool(stepped))
        return outcome

    def _say_rounding(self, row: UpdateRow) -> None:
        """Warns once where half-precision weights round most of their updates away."""
        half = any(tensor.dtype in HALF for tensor in self.inventory.tensors)
        fraction = row.metadata["moved_fraction"]
        if half and fraction < MOST_MUST_MOVE and not self._said_rounding:
            self._said_rounding = True
            message = (
                f"only {fraction:.1%} of the watched half-precision weights changed: the others' updates round away; "
                "watch float32 master weights"
            )
            self.chronicle.note(row.step, Outcome.ROUNDED_AWAY, message, aloud=True)

    def _measured(self, push: Push, lags: Array) -> dict[str, float]:
        found = {
            "coverage": self._coverage,
            "moved_fraction": push.moved_fraction,
            "parameter_norm": push.parameter_norm,
            "sketch_error": float(sketch_error(lags[:, 0], self.errors)),
        }
        return found if self.drift is None else {**found, "replica_drift": self.drift.distance}

    def _change(self, source: ParameterSource, step: int) -> None:
        before = {tensor.name for tensor in self.inventory.tensors}
        self._begin(source)
        after = {tensor.name for tensor in self.inventory.tensors}
        changes = [f"appeared: {', '.join(sorted(after - before)[:3])}"] if after - before else []
        changes += [f"vanished: {', '.join(sorted(before - after)[:3])}"] if before - after else []
        detail = "; ".join(changes) or "a shape or dtype changed, or ranks hold other parts"
        message = f"{Outcome.PARAMETERS_CHANGED.sentence} ({detail})"
        self.chronicle.note(step, Outcome.PARAMETERS_CHANGED, message, aloud=True)

    def _broken(self, held: Held | None) -> str:
        for info, shard in zip(self.inventory.tensors, held or (), strict=False):
            if shard is not None and not bool(torch.isfinite(shard.values).all()):
                return f"{info.name} is not finite; {Outcome.NON_FINITE.sentence}"
        return Outcome.NON_FINITE.sentence

    def reopen(self, step: int, outcome: Outcome, message: str, metadata: Mapping[str, Any]) -> None:
        """Starts a new segment after the present one, with other metadata; the window is emptied.

        Nothing is differenced across it: the newest snapshot is the baseline of what follows.
        """
        self.options = replace(self.options, metadata={**self.options.metadata, **metadata})
        full = {**self.options.metadata, "engine": self.engine}
        cells = len(self.ring.snapshot()[0]) if self.options.keep_sketches else 0
        self.chronicle.begin(
            Contents(self.inventory, self.entries, self.options.horizon, full, self.options.ladder, cells)
        )
        self.ring.forget()
        self.chronicle.note(step, outcome, message, aloud=True)

    # keeping and restoring ------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The ring's part of this rank, and how far the trace had grown."""
        return {
            "names": [tensor.name for tensor in self.inventory.tensors],
            "groups": {name: list(members) for name, members in self.inventory.groups.items()},
            "ring": self.ring.state_dict(),
            **self.chronicle.state_dict(),
        }

    def load_state_dict(self, states: Sequence[Mapping[str, Any]], step: int) -> Outcome:
        """Continues from the states of the ranks that saved them: the trace too, as a new branch if it had grown.

        Returns:
            RESUMED, or REWOUND if the trace held later records.

        Raises:
            InputError: if other parameters or another horizon are watched now.
        """
        names, saved = [tensor.name for tensor in self.inventory.tensors], list(states[0]["names"])
        if sorted(names) != sorted(saved) or (names != saved and self.ranks.size == 1):
            odd = sorted(set(names) ^ set(saved))[:3]
            raise InputError(
                "monitor state",
                expected=f"{len(names)} tensors as watched now",
                found=f"{len(saved)}, differing in {', '.join(odd) or 'their order'}",
                remedy="construct the monitor with the same model and select",
            )
        self.ring.load_state_dict([state["ring"] for state in states])
        outcome = self.chronicle.load_state_dict(states[0], step)
        return self.ranks.gather(outcome)[0]

    def close(self) -> None:
        """Closes the trace's files."""
        self.chronicle.close()


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
