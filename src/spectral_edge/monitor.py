"""Watch a live run: observe the parameters between steps, record lag rows, give readings."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from spectral_edge.analysis import Trace
from spectral_edge.errors import InputError, Outcome, warn
from spectral_edge.guard import never_raises
from spectral_edge.live import LiveWindow
from spectral_edge.measure import WindowOptions, known_memory, prepare_band
from spectral_edge.meter import Budget
from spectral_edge.modes.window import Modes, form_modes, newest_update
from spectral_edge.observe import (
    CELLS,
    ExactRing,
    OptimizerWatch,
    ParameterSource,
    Schedule,
    Selection,
    Selector,
    as_source,
    join,
)
from spectral_edge.recording import (
    ProbeDesk,
    Recorder,
    RecorderOptions,
    Vector,
    foreign_state,
    listed_states,
    named_groups,
    run_metadata,
)
from spectral_edge.records import EdgeReading


class Monitor:
    """Watches the updates of a network's parameters; also a context manager.

    It reads parameters between steps. It hooks nothing into the model, draws no random number and keeps no graph. Once
    it is constructed, nothing raises in the training loop but a misspelt argument and, on several ranks, a rank that is
    gone.

    On several ranks every rank constructs its monitor and makes the same calls in the same order; readings are the
    same on all of them, and the first one records.

    Args:
        model: a module, a `ParameterSource`, or named tensors.
        optimizer: where learning rate, weight decay and momentum are read; the momentum is the null's memory.
        window: number W of updates behind a reading.
        every: observe on every n-th call of `step()`, or where a function of the step says so.
        horizon: number L of updates whose inner products are recorded; twice the window by default, which reaches
            windows that share no row. Longer horizons allow coarser strides later.
        out: folder of the trace; None keeps it in memory.
        select: which parameters: a glob, several, a predicate of name and tensor, or "attention"; all by default.
        groups: named groups of parameters by the same rules; one for each layer by default.
        engine: "exact" keeps the updates themselves, "sketch" some thousand sums of them with random signs; "auto" is
            exact below sixteen parameters a cell, on several ranks also where each counts fewer, with a bfloat16 ring.
        cells: size of a sketch; a singular value is off by about 1 / sqrt(2 cells).
        sketch_seed: of a sketch's signs; the model's own random state is never touched.
        backend: of a sketch: "numba" (extra `fast`), "triton", "torch", or "auto", the fastest one that is there.
        ladder: record rows of updates summed over 2, 4, ..., 2^ladder observations too, which serve longer timescales.
        budget: share of the training's time that observation may take, for instance 0.01; it warns when exceeded.
        budget_action: "warn", or "stretch" to observe less often from then on, in a new segment of the trace.
        process_group: the ranks that train this model together; the default group if there is one. False where each
            rank trains a model of its own.
        k_star: the convention that feeds gaps and adiabatic parameters.
        null: what `band_*` and `k_star_clear` compare with.
        store: record lag rows for each of "tensors", or only for "groups".
        ring_dtype: dtype of the kept updates, for instance torch.bfloat16; the parameters' own by default.
        ring_device: where updates are kept, for instance "cpu"; with the parameters by default.
        metadata: anything worth keeping with the trace: config, seed, command; plain JSON values.

    Attributes:
        failed: whether the last observation failed, so that the next restarts the window.
        overhead: share of the time since the first few observations that was spent observing; None before that.

    Raises:
        InputError: if an argument cannot be used.
    """

    def __init__(
        self,
        model: nn.Module | ParameterSource | Mapping[str, Tensor] | Iterable[tuple[str, Tensor]],
        optimizer: torch.optim.Optimizer | None = None,
        *,
        window: int = 10,
        every: int | Callable[[int], bool] = 10,
        horizon: int | None = None,
        out: str | Path | None = None,
        select: Selector | None = None,
        groups: Mapping[str, Selector] | None = None,
        engine: str = "auto",
        cells: int = CELLS,
        sketch_seed: int = 0,
        backend: str = "auto",
        ladder: int = 0,
        budget: float | None = None,
        budget_action: str = "warn",
        process_group: Any = None,
        k_star: str = "raw",
        null: str = "band",
        store: str = "tensors",
        ring_dtype: torch.dtype | None = None,
        ring_device: torch.device | str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self._optimizer = OptimizerWatch(optimizer)
        self._schedule = Schedule(every)
        measured = WindowOptions(window, k_star, null)
        horizon = 2 * window if horizon is None else horizon
        if window > horizon:
            raise InputError(
                "window",
                expected=f"at most the horizon of {horizon} updates",
                found=str(window),
                remedy="use a smaller window or a longer horizon",
            )
        momentum, interval = self._optimizer.momentum, self._schedule.interval
        self._width = window
        described = {"window": window, "every": interval, "k_star": k_star, "null": null, "momentum": momentum}
        described["optimizer"] = self._optimizer.name
        options = RecorderOptions(
            horizon,
            Selection(select, groups),
            None if out is None else Path(out),
            store,
            ring_dtype,
            ring_device,
            {**run_metadata(metadata), "monitor": described},
            engine,
            cells,
            sketch_seed,
            backend,
            ladder,
        )
        self._budget = Budget(budget, budget_action)
        self._described = described
        self._source = as_source(model)
        with torch.no_grad():
            self._recorder = Recorder(self._source, options, join(process_group))
        self._window = LiveWindow(measured, horizon=horizon, momentum=momentum, every=interval)
        memory = known_memory(momentum, (), every=interval)
        if null == "band" and memory is not None:
            prepare_band(window, memory)
        self._calls = 0
        self._step = 0
        self._observed = -1
        # When the snapshot was taken that the next update starts from, how many there were, and how many loaded states.
        self._taken = self._snapshots = self._loads = 0
        self._probes = ProbeDesk(self._source, self._optimizer)
        self._restart: Outcome | None = None
        self._resumed = False
        self.failed = False

    # the training loop's calls ------------------------------------------------------------------------------------

    @never_raises
    @torch.no_grad()
    def step(
        self,
        *,
        loss: float | Tensor | None = None,
        step: int | None = None,
        tokens: float | None = None,
        data_position: float | None = None,
        clip_factor: float | None = None,
        grad_norm: float | Tensor | None = None,
        max_grad_norm: float | None = None,
    ) -> EdgeReading | None:
        """To be called after every optimizer step.

        Args:
            loss: training loss, logged with the row.
            step: the step's number; by default calls are counted. The same number again counts as the same step.
            tokens: tokens or examples seen so far.
            data_position: position in the data stream.
            clip_factor: by how much the gradient was clipped in this step, 1 for not at all; or give the next two.
            grad_norm: the gradient's norm before clipping, as torch.nn.utils.clip_grad_norm_ returns it.
            max_grad_norm: the norm to which it was clipped.

        Returns:
            A reading on observation steps with a full window, else None.
        """
        label = self._step + 1 if step is None else int(step)
        if self._calls and label == self._step:
            self._optimizer.note_clip(clip_factor, grad_norm, max_grad_norm)
            self._observed = -1
            return None  # the same step again, as in gradient accumulation
        if self._calls and label < self._step:
            self._recorder.chronicle.branch()  # the run went back without telling the monitor
            self._restart = Outcome.REWOUND
        self._calls += 1
        self._step = label
        due = self._schedule.due(self._calls if self._schedule.interval else label)
        metadata: dict[str, float] = {}
        stepped, problem = None, None
        try:
            self._optimizer.note_clip(clip_factor, grad_norm, max_grad_norm)
            if self._resumed and (lost := self._optimizer.lost()):
                self._recorder.chronicle.note(label, Outcome.NOT_RESTORED, lost, aloud=True)
            if due:
                given = {"loss": loss, "tokens": tokens, "data_position": data_position}
                metadata, stepped = self._optimizer.collect(label, given)
        except Exception as error:  # the other ranks wait at an observation: they have to be told
            if not due:
                raise
            problem = error
        if not due:
            return None
        self._budget.meter.enter()
        try:
            return self._observe(metadata, stepped, problem)
        finally:
            self._budget.meter.leave(observed=True)
            self._keep_budget(self._recorder.wish)

    @never_raises
    def clip_grad_norm_(self, max_norm: float) -> Tensor | None:
        """Clips the gradients of all trainable parameters with torch.nn.utils.clip_grad_norm_ and logs the factor.

        Args:
            max_norm: the norm to clip to.

        Returns:
            The norm before clipping.
        """
        norm = nn.utils.clip_grad_norm_(self._optimizer.parameters(self._source), max_norm)
        self._optimizer.measured(norm, max_norm)
        return norm

    @never_raises
    def log(self, **metrics: float) -> None:
        """Files whatever the user evaluates under the current step, for instance `log(test_accuracy=0.97)`."""
        self._recorder.chronicle.segment.add_metrics(self._step, metrics)

    @never_raises
    @torch.no_grad()
    def probe(self, **vectors: Vector) -> None:
        """Records vectors of parameter space at the present observation by their inner products.

        Call it after the `step()` that observed, before the parameters change, on every rank. Each vector is stored as
        its norm, its products with the other vectors of the step, with the updates in the ring, and with the next
        update once that exists. Until then the exact engine keeps a copy of the vector, a sketch only its cells.

        Args:
            **vectors: by name: a mapping from parameter names to tensors, a sequence in the order of the watched
                tensors, "parameters" for the parameters themselves, "gradient" for their gradients as they are now, or
                "decay" for the step of decoupled weight decay. None and missing names count as zero; names of
                parameters that are not watched are passed over, and others refused with a warning.
        """
        if not self.observed:
            warn(f"step {self._step}: a probe was left out, since this step was not observed")
            return
        self._probes.record(self._recorder, self._step, vectors)

    @property
    def observed(self) -> bool:
        """Whether the last `step()` recorded an update, so that a probe can be taken now."""
        return self._observed == self._calls and self._recorder.ring.filled > 0

    @never_raises
    def note(self, outcome: Outcome, message: str) -> None:
        """Notes in the trace what became of something at the present step, and warns of it.

        Args:
            outcome: what became of it.
            message: in a sentence.
        """
        self._recorder.chronicle.note(self._step, outcome, message, aloud=True)

    # the directions themselves -----------------------------------------------------------------------------------

    @property
    def watched(self) -> tuple[str, ...]:
        """Names of the watched parameters."""
        return tuple(tensor.name for tensor in self._recorder.layout.inventory.tensors)

    @property
    def keeps_updates(self) -> bool:
        """Whether directions can be formed: the exact engine keeps the updates, here all of them."""
        return self._recorder.ranks.size == 1 and isinstance(self._recorder.ring, ExactRing)

    @property
    def baseline(self) -> tuple[int, int]:
        """Tells apart the snapshots from which an update can start: states loaded so far, and number of the newest.

        A resumed run continues the numbers. The update of an observation starts from the number before its own.
        """
        return self._loads, self._snapshots

    @property
    def elapsed(self) -> int:
        """Calls of `step()` since the newest snapshot."""
        return self._calls - self._taken

    @torch.no_grad()
    def modes(self, count: int | None = None, *, window: int | None = None) -> Modes:
        """The newest window's modes as directions of parameter space, for `spectral_edge.modes`.

        Args:
            count: how many; all above the rank floor by default. Each takes a copy of the watched parameters.
            window: number of updates, at most two windows or the horizon; the monitor's own by default.

        Raises:
            InputError: unless a window is full, in the exact engine, in one process.
        """
        width = self._width if window is None else window
        if not isinstance(width, int):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError("window", expected="a number of updates", found=repr(window), remedy="pass a whole number")
        ring, layout = self._recorder.alone("directions")
        return form_modes(ring, layout.inventory, self._window.gram(width), self._window.steps[-1], count)

    @torch.no_grad()
    def newest_update(self) -> dict[str, Tensor]:
        """The newest update, by parameter name.

        Raises:
            InputError: unless there is one, in the exact engine, in one process.
        """
        ring, layout = self._recorder.alone("the newest update")
        return newest_update(ring, layout.inventory)

    # reading it back ------------------------------------------------------------------------------------------------

    @property
    def trace(self) -> Trace:
        """Everything recorded so far.

        Raises:
            InputError: on any rank but the first, which records.
        """
        return Trace(self._recorder.chronicle.segments())

    @property
    def overhead(self) -> float | None:
        """Share of the time since the first few observations that was spent observing; None before that."""
        return self._budget.meter.share

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs so that a resumed run gives the same readings: numbers, names and tensors only.

        On several ranks each saves its own: in the exact engine the parts of the updates that it counts.
        """
        return {
            "version": 2,
            "calls": self._calls,
            "step": self._step,
            "observed": self._observed,
            "taken": self._taken,
            "snapshots": self._snapshots,
            "optimizer": self._optimizer.state_dict(),
            "window": self._window.state_dict(),
            "pending": self._probes.state_dict(),
            "every": self._schedule.interval,
            "recorder": self._recorder.state_dict(),
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Outcome:
        """Continues from `state_dict()`; the trace continues too, or branches if it had grown beyond it.

        Args:
            state: what was saved; on several ranks each rank's own, or a list of what all ranks saved, which also
                serves another number of ranks.

        Returns:
            `Outcome.RESUMED`, or `Outcome.REWOUND` if the trace held later records.

        Raises:
            InputError: if the state belongs to other parameters or another horizon, or a rank's part is missing.
        """
        outcome, error = Outcome.RESUMED, None
        try:
            outcome = self._load(state)
        except (InputError, KeyError, TypeError, ValueError, AttributeError, IndexError) as problem:
            error = problem if isinstance(problem, InputError) else foreign_state(f"a damaged one ({problem!r})")
        told = self._recorder.ranks.gather((outcome, error))  # the other ranks wait: they have to be told
        for rank, (_, theirs) in enumerate(told):
            if theirs is not None:
                self._recorder.ring.forget()
                self._window.clear()
                raise error or InputError(
                    f"rank {rank}, {theirs.subject}",
                    expected=theirs.expected,
                    found=theirs.found,
                    remedy=theirs.remedy,
                )
        return told[0][0]

    def _load(self, state: Any) -> Outcome:
        states = listed_states(state)
        first, recorder = states[0], self._recorder
        if first["every"] is not None and first["every"] != self._schedule.interval and self._budget.stretches:
            self._observe_every(first["every"])
        outcome = recorder.load_state_dict([one["recorder"] for one in states], first["step"])
        self._calls, self._step, self._observed = first["calls"], first["step"], first["observed"]
        self._taken, self._snapshots, self._loads = first["taken"], first["snapshots"], self._loads + 1
        self._optimizer.load_state_dict(first["optimizer"])
        same_groups = first["recorder"]["groups"] == named_groups(recorder.inventory)
        self._window.load_state_dict(first["window"], same_groups=same_groups)
        # Of several ranks' states none holds all of a probe that waits for the next update.
        self._probes.load_state_dict(first["pending"] if isinstance(state, Mapping) else {})
        self._restart, self._resumed, self.failed = None, True, False
        return outcome

    def close(self) -> None:
        """Closes the trace's files; the monitor must not be used afterwards."""
        self._recorder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # inside ---------------------------------------------------------------------------------------------------------

    def _observe(
        self, metadata: Mapping[str, float], stepped: bool | None, problem: Exception | None
    ) -> EdgeReading | None:
        recorder, why = self._recorder, self._restart or (Outcome.FAILED if self.failed else None)
        # Should this observation fail, the next one finds these set and starts anew.
        resumed, self._resumed, self._restart, self.failed = self._resumed, False, None, False
        observation = recorder.observe(
            self._source,
            self._step,
            metadata,
            stepped=stepped,
            restart=(why, why.sentence) if why is not None else None,
            limit=self._window.largest_after_resume() if resumed else None,
            wish=self._budget.wish(),
            problem=problem,
        )
        if observation.outcome not in (Outcome.SKIPPED, Outcome.ROUNDED_AWAY):
            self._taken, self._snapshots = self._calls, self._snapshots + 1
            if observation.outcome != Outcome.OK:
                self._probes.clear()
                self._window.clear()
        row = observation.row
        if row is None:
            return None
        self._observed = self._calls
        if self._window.steps:
            self._probes.finish(recorder, self._window.steps[-1])
        self._window.add(row, list(recorder.groups.values()))
        if recorder.ring.filled < self._width:
            return None
        return self._window.reading(row, list(recorder.groups), lambda: recorder.sketch_errors(row))

    def _keep_budget(self, wish: int) -> None:
        """Says that observation takes more than its budget, and observes less often if the first rank wants that."""
        if not wish:
            return
        message, every = self._budget.granted(), self._schedule.interval
        if every is None or wish == 1:
            if not self._recorder.chronicle.silent:
                warn(f"step {self._step}: {message}")
            return
        self._observe_every(every * wish)
        message = f"{message}; {Outcome.STRETCHED.sentence} (every {every * wish} steps)"
        self._recorder.reopen(self._step, Outcome.STRETCHED, message)
        self._probes.clear()
        self._window.clear()

    def _observe_every(self, every: int) -> None:
        self._schedule = Schedule(every)
        self._window.every = every
        self._described["every"] = every
        self._recorder.describe({"monitor": self._described})
