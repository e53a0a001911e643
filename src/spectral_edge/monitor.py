"""Watch a live run: observe the parameters between steps, record lag rows, give readings."""

import functools
import inspect
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import torch
from torch import Tensor, nn

from spectral_edge.analysis import Trace
from spectral_edge.errors import InputError, Outcome, warn
from spectral_edge.live import LiveWindow
from spectral_edge.measure import WindowOptions, known_memory, prepare_band
from spectral_edge.observe import (
    CELLS,
    OptimizerWatch,
    ParameterSource,
    Schedule,
    Selection,
    Selector,
    as_source,
    normalise,
)
from spectral_edge.recording import HALF, Recorder, RecorderOptions, run_metadata
from spectral_edge.records import EdgeReading, UpdateRow

Vector = Mapping[str, Tensor | None] | Sequence[Tensor | None] | str
"""A vector of parameter space: by name, in the order of the watched tensors, or "parameters"; None is zero."""

P = ParamSpec("P")
R = TypeVar("R")
MOST_MUST_MOVE = 0.5
"""Below this `moved_fraction`, half-precision weights are said to round their updates away."""


def _never_raises(
    method: Callable[Concatenate["Monitor", P], R],
) -> Callable[Concatenate["Monitor", P], R | None]:
    """Turns an exception inside the training loop into one warning; the run goes on unwatched at that point."""
    signature = inspect.signature(method)

    @functools.wraps(method)
    def guarded(monitor: "Monitor", *args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return method(monitor, *args, **kwargs)
        except Exception as error:
            if isinstance(error, TypeError):
                signature.bind(monitor, *args, **kwargs)  # a misspelt argument is said at once, as Python does
            monitor.failed = monitor.failed or method.__name__ == "step"
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(where.filename).name}:{where.lineno}"
            text = f"Monitor.{method.__name__} failed and was left out: {error} ({place})"
            warn(text)
            return None

    return guarded


class Monitor:
    """Watches the updates of a network's parameters; also a context manager.

    It reads parameters between steps. It hooks nothing into the model, draws no random number and keeps no graph. Once
    it is constructed, nothing but a misspelt argument raises in the training loop.

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
            exact below sixteen parameters a cell.
        cells: size of a sketch; a singular value is off by about 1 / sqrt(2 cells).
        sketch_seed: of a sketch's signs; the model's own random state is never touched.
        backend: of a sketch: "numba" (extra `fast`), "torch", or "auto", the faster one that is there.
        k_star: the convention that feeds gaps and adiabatic parameters.
        null: what `band_*` and `k_star_clear` compare with.
        store: record lag rows for each of "tensors", or only for "groups".
        ring_dtype: dtype of the kept updates, for instance torch.bfloat16; the parameters' own by default.
        ring_device: where updates are kept, for instance "cpu"; with the parameters by default.
        metadata: anything worth keeping with the trace: config, seed, command; plain JSON values.

    Attributes:
        failed: whether the last observation failed, so that the next restarts the window.

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
        described = {
            "window": window,
            "every": interval,
            "k_star": k_star,
            "null": null,
            "momentum": momentum,
            "optimizer": self._optimizer.name,
        }
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
        )
        self._source = as_source(model)
        with torch.no_grad():
            self._recorder = Recorder(self._source, options)
        self._window = LiveWindow(measured, horizon=horizon, momentum=momentum, every=interval)
        memory = known_memory(momentum, (), every=interval)
        if null == "band" and memory is not None:
            prepare_band(window, memory)
        self._calls = 0
        self._step = 0
        self._observed = -1
        self._pending: dict[str, list[Tensor]] = {}
        self._said_rounding = False
        self.failed = False

    # the training loop's calls ------------------------------------------------------------------------------------

    @_never_raises
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
        self._optimizer.note_clip(clip_factor, grad_norm, max_grad_norm)
        if self._calls and label == self._step:
            return None  # the same step again, as in gradient accumulation
        if self._calls and label < self._step:
            self._turn_back(label)
        self._calls += 1
        self._step = label
        if self.failed:
            self.failed = False
            self._restart(Outcome.FAILED)
        if not self._schedule.due(self._calls if self._schedule.interval else label):
            return None
        return self._observe(loss, tokens, data_position)

    @_never_raises
    def clip_grad_norm_(self, max_norm: float) -> Tensor | None:
        """Clips the gradients of all trainable parameters with torch.nn.utils.clip_grad_norm_ and logs the factor.

        Args:
            max_norm: the norm to clip to.

        Returns:
            The norm before clipping.
        """
        norm = nn.utils.clip_grad_norm_([tensor for _, tensor in self._source.named_tensors()], max_norm)
        self._optimizer.measured(norm, max_norm)
        return norm

    @_never_raises
    def log(self, **metrics: float) -> None:
        """Files whatever the user evaluates under the current step, for instance `log(test_accuracy=0.97)`."""
        self._recorder.segment.add_metrics(self._step, metrics)

    @_never_raises
    @torch.no_grad()
    def probe(self, **vectors: Vector) -> None:
        """Records vectors of parameter space at the present observation by their inner products.

        Call it after the `step()` that observed, before the parameters change. Each vector is stored as its norm, its
        products with the other vectors of the step, with the updates in the ring, and with the next update once that
        exists; the vectors themselves are kept until then.

        Args:
            **vectors: by name: a mapping from parameter names to tensors, a sequence in the order of the watched
                tensors, or "parameters" for the parameters themselves. None and missing names count as zero.
        """
        if not self.observed:
            warn(f"step {self._step}: a probe was left out, since this step was not observed")
            return
        recorder = self._recorder
        for name, vector in vectors.items():
            embedded = self._embed(vector)
            square = recorder.by_entry(recorder.ring.inner(embedded, embedded))
            lags = recorder.by_entry(recorder.ring.products(embedded))
            recorder.segment.add_probe(self._step, name, square, lags)
            for other, known in self._pending.items():
                product = recorder.by_entry(recorder.ring.inner(embedded, known))
                recorder.segment.add_product(self._step, name, other, product)
            self._pending[name] = embedded

    @property
    def observed(self) -> bool:
        """Whether the last `step()` recorded an update, so that a probe can be taken now."""
        return self._observed == self._calls and self._recorder.ring.filled > 0

    # reading it back ------------------------------------------------------------------------------------------------

    @property
    def trace(self) -> Trace:
        """Everything recorded so far."""
        return Trace(self._recorder.segments())

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs so that a resumed run gives the same readings: numbers, names and tensors only."""
        return {
            "version": 1,
            "calls": self._calls,
            "step": self._step,
            "observed": self._observed,
            "optimizer": self._optimizer.state_dict(),
            "window": self._window.state_dict(),
            "pending": {name: [piece.clone() for piece in pieces] for name, pieces in self._pending.items()},
            "recorder": self._recorder.state_dict(),
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> Outcome:
        """Continues from `state_dict()`; the trace continues too, or branches if it had grown beyond it.

        Returns:
            `Outcome.RESUMED`, or `Outcome.REWOUND` if the trace held later records.

        Raises:
            InputError: if the state belongs to other parameters or another horizon.
        """
        if not isinstance(state, Mapping) or "recorder" not in state:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError(
                "monitor state",
                expected="what Monitor.state_dict() returned",
                found=type(state).__name__ if not isinstance(state, Mapping) else f"entries {list(state)[:3]}",  # pyright: ignore[reportUnnecessaryIsInstance]
                remedy="pass the monitor's part of the checkpoint",
            )
        outcome = self._recorder.load_state_dict(state["recorder"], state["step"])
        self._calls, self._step, self._observed = state["calls"], state["step"], state["observed"]
        self._optimizer.load_state_dict(state["optimizer"])
        groups = {name: list(members) for name, members in self._recorder.inventory.groups.items()}
        self._window.load_state_dict(state["window"], same_groups=groups == state["recorder"]["groups"])
        self._pending = {name: list(pieces) for name, pieces in state["pending"].items()}
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
        self, loss: float | Tensor | None, tokens: float | None, data_position: float | None
    ) -> EdgeReading | None:
        given = {"loss": loss, "tokens": tokens, "data_position": data_position}
        metadata, stepped = self._optimizer.collect(self._step, given)
        outcome, row = self._recorder.observe(self._source, self._step, metadata, stepped=stepped)
        if outcome in (Outcome.PARAMETERS_CHANGED, Outcome.NON_FINITE):
            self._pending = {}
            self._window.clear()
        if row is None:
            return None
        self._observed = self._calls
        self._finish_probes()
        self._say_rounding(row)
        groups = self._recorder.groups
        self._window.add(row, list(groups.values()))
        if self._recorder.ring.filled < self._width:
            return None
        return self._window.reading(row, list(groups), self._recorder.sketch_errors(row))

    def _finish_probes(self) -> None:
        """Now that d_{t+1} exists, completes the probes of the observation before."""
        recorder = self._recorder
        for name, pieces in self._pending.items():
            product = recorder.by_entry(recorder.ring.inner(pieces))
            recorder.segment.add_product(self._window.newest_step, name, None, product)
        self._pending = {}

    def _embed(self, vector: Vector) -> list[Tensor]:
        """A vector of parameter space as the engine keeps it."""
        if isinstance(vector, str):
            if vector != "parameters":
                raise InputError(
                    "probe",
                    expected='tensors or "parameters"',
                    found=repr(vector),
                    remedy="pass a mapping from parameter names to tensors",
                )
            return self._recorder.ring.snapshot()
        infos = self._recorder.inventory.tensors
        if isinstance(vector, Mapping):
            given = {normalise(name): tensor for name, tensor in vector.items()}
            pieces = [given.get(info.name) for info in infos]
        else:
            pieces = list(vector)
        shapes = [None if piece is None else piece.numel() for piece in pieces]
        if len(pieces) != len(infos) or any(n is not None and n != i.numel for n, i in zip(shapes, infos, strict=True)):
            raise InputError(
                "probe",
                expected=f"{len(infos)} tensors shaped as the watched ones",
                found=str(shapes[:5]),
                remedy="pass a mapping from parameter names to tensors",
            )
        return self._recorder.ring.embed(pieces)

    def _turn_back(self, label: int) -> None:
        """A step number that does not increase: the run went back without telling the monitor."""
        self._recorder.branch()
        self._step = label
        self._restart(Outcome.REWOUND)

    def _restart(self, outcome: Outcome) -> None:
        self._recorder.restart(self._source, self._step, outcome, outcome.sentence)
        self._pending = {}
        self._window.clear()

    def _say_rounding(self, row: UpdateRow) -> None:
        half = any(tensor.dtype in HALF for tensor in self._recorder.inventory.tensors)
        fraction = row.metadata["moved_fraction"]
        if half and fraction < MOST_MUST_MOVE and not self._said_rounding:
            self._said_rounding = True
            message = (
                f"only {fraction:.1%} of the watched half-precision weights changed: the others' updates round away; "
                "watch float32 master weights"
            )
            self._recorder.note(row.step, Outcome.ROUNDED_AWAY, message, aloud=True)
