"""From snapshots to recorded lag rows: what a live monitor and a scan of checkpoints have in common."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spectral_edge.errors import InputError, Outcome
from spectral_edge.measure import group_rows, sketch_error
from spectral_edge.observe import (
    ALONE,
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
from spectral_edge.recording.ballot import Ballot
from spectral_edge.recording.chronicle import Chronicle, Contents
from spectral_edge.recording.options import RecorderOptions
from spectral_edge.recording.restoring import describe, rings_of
from spectral_edge.recording.watched import changes, with_rest
from spectral_edge.records import UpdateRow

Array = NDArray[np.float64]

DRIFTED = 1e-6
"""Replicas further apart than this share of their norm are said to have drifted."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What became of a snapshot.

    Attributes:
        outcome: in one word.
        row: the row that was recorded, if any.
    """

    outcome: Outcome
    row: UpdateRow | None


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
        wish: what the first rank wanted done about the budget at the last observation, known to all.

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
        self.wish = 0
        self._said_broken = self._said_unmoved = self._said_drift = self._said_rounding = False
        self._begin(source)

    # what is watched ---------------------------------------------------------------------------------------------

    def _begin(self, source: ParameterSource, *, follow: bool = True) -> None:
        try:
            selected = self.options.selection.apply(source)
        except Exception as error:  # to be told to the other ranks, which wait
            problem = error if isinstance(error, InputError) else _source_failed(error)
            selected = Selected((), (), {}, None, problem, fatal=True)
        self.layout = Layout.agree(selected, self.ranks, self.options.terms())
        self._replicas = ReplicaCheck(self.layout, self.ranks)
        inventory, options, sharded = self.layout.inventory, self.options, self.ranks.size > 1
        share = self.layout.largest if sharded else None
        choice = choose_engine(
            options.engine, inventory.watched, options.cells, ring_dtype=options.ring_dtype, share=share
        )
        sketched = choice.name == "sketch"
        grouped = sketched or options.store == "groups"
        self.inventory = with_rest(inventory) if grouped else inventory
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

    def alone(self, what: str) -> tuple[Engine, Layout]:
        """The engine and what it holds, for what one process can only do if it holds everything.

        Raises:
            InputError: on several ranks.
        """
        if self.ranks.size > 1:
            raise InputError(
                what,
                expected="one process that holds all watched parameters",
                found=f"{self.ranks.size} ranks",
                remedy="pass process_group=False where each rank trains a model of its own",
            )
        return self.ring, self.layout

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
        wish: int = 0,
        problem: Exception | None = None,
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
            wish: what this rank wants done about the budget, if it is the first.
            problem: what went wrong before, so that this rank has nothing to add.
            aloud: whether to warn of what is noted.
        """
        self.wish = 0
        held, changed, sums = None, False, np.zeros(self._replicas.size)
        try:
            if problem is None:
                selected = self.options.selection.apply(source)
                changed = selected.held is not self.layout.held and selected.held != self.layout.held
                if not changed:
                    held, sums = self.layout.shards(selected.shards), self._replicas.sums(selected.shards)
        except Exception as error:  # to be raised once the other ranks, which wait, have been told
            problem, held = error, None
        votes = {"void": held is None, "restart": restart is not None, "changed": changed}
        ballot = Ballot.cast(step, len(sums), **votes, wish=wish if self.ranks.rank == 0 else 0)
        ballot.others[:] = sums
        was_ready = self.ring.ready
        push = self.ring.push(held, ballot.numbers)
        ballot = Ballot(push.header)
        if not ballot.agrees(step, self.ranks.size):
            self.ring.forget()
            return self._left_out(step, "ranks observe different steps: call step() equally often on each")
        if push.void:
            if ballot.changed:
                self._change(source, step)
                return Observation(Outcome.PARAMETERS_CHANGED, None)
            if problem is not None:
                raise problem
            return self._left_out(step, "another rank could not observe: see its warning")
        self.wish = ballot.wish
        if ballot.restart:
            outcome, message = restart or (Outcome.FAILED, "another rank asked for it: " + Outcome.FAILED.sentence)
            self.chronicle.note(step, outcome, message, aloud=aloud)
        self.keep_sketch(step, restart=push.baseline)
        if not push.finite:
            if not self._said_broken:
                self._said_broken = True
                self.chronicle.note(step, Outcome.NON_FINITE, self._broken(held), aloud=aloud)
            return Observation(Outcome.NON_FINITE, None)
        self._said_broken = False
        if push.baseline:
            asked = restart[0] if restart is not None else Outcome.FAILED
            return Observation(asked if was_ready else Outcome.NON_FINITE, None)
        self._judge_replicas(step, ballot.others, aloud=aloud)
        if not push.moved:
            return Observation(self._unmoved(step, stepped, aloud=aloud), None)
        lags = self.by_entry(push.lags)
        if limit is not None and self._beyond(lags[:, 0], limit):
            self.ring.forget()
            self.chronicle.note(step, Outcome.NOT_RESTORED, Outcome.NOT_RESTORED.sentence, aloud=aloud)
            return Observation(Outcome.NOT_RESTORED, None)
        ladder = {stride: self.by_entry(longer) for stride, longer in push.ladder.items()}
        row = UpdateRow(step, time.time(), lags, {**metadata, **self._measured(push, lags)}, ladder)
        self.chronicle.segment.add_row(row)
        self._say_rounding(row)
        return Observation(Outcome.OK, row)

    def _left_out(self, step: int, why: str) -> Observation:
        self.chronicle.note(step, Outcome.FAILED, f"{why}; {Outcome.FAILED.sentence}", aloud=True)
        return Observation(Outcome.FAILED, None)

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

    def keep_sketch(self, step: int, *, restart: bool) -> None:
        """Records the sketch of the last snapshot, if sketches are kept: of a baseline too, which has no row.

        Args:
            step: the snapshot's step.
            restart: whether it must not be differenced with the one before.
        """
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
        before = {tensor.name: tensor for tensor in self.inventory.tensors}
        self._begin(source)
        detail = changes(before, {tensor.name: tensor for tensor in self.inventory.tensors})
        message = f"{Outcome.PARAMETERS_CHANGED.sentence} ({detail})"
        self.chronicle.note(step, Outcome.PARAMETERS_CHANGED, message, aloud=True)
        self.keep_sketch(step, restart=True)

    def _broken(self, held: Held | None) -> str:
        for info, shard in zip(self.inventory.tensors, held or (), strict=False):
            if shard is not None and not bool(torch.isfinite(shard.values).all()):
                return f"{info.name} is not finite; {Outcome.NON_FINITE.sentence}"
        return Outcome.NON_FINITE.sentence

    def reopen(self, step: int, outcome: Outcome, message: str) -> None:
        """Starts a new segment after the present one; the window is emptied.

        Nothing is differenced across it: the newest snapshot is the baseline of what follows.
        """
        self.chronicle.begin()
        self.ring.forget()
        self.chronicle.note(step, outcome, message, aloud=True)
        self.keep_sketch(step, restart=True)

    def describe(self, metadata: Mapping[str, Any]) -> None:
        """Changes the metadata of the segments that are still to come."""
        self.options = replace(self.options, metadata={**self.options.metadata, **metadata})
        self.chronicle.describe({**self.options.metadata, "engine": self.engine})

    # keeping and restoring ------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The ring's part of this rank, and how far the trace had grown."""
        return {
            **describe(self.inventory, self.engine),
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
        rings = rings_of(states, describe(self.inventory, self.engine))
        self.ring.load_state_dict(rings)
        return self.chronicle.load_state_dict(states[0], step)

    def close(self) -> None:
        """Closes the trace's files."""
        self.chronicle.close()


def _source_failed(error: Exception) -> InputError:
    found = f"{type(error).__name__}: {error}"
    return InputError("source", expected="its tensors", found=found, remedy="see named_tensors() of the source")
