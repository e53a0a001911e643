"""Probe rows: vectors of parameter space in terms of their inner products with the updates around them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from spectral_edge.errors import InputError
from spectral_edge.observe import Held, OptimizerWatch, ParameterSource, as_shard, normalise
from spectral_edge.recording.recorder import Recorder

Vector = Mapping[str, Any] | Sequence[Any] | str
"""A vector of parameter space: by name, in the order of the watched tensors, or a name of `NAMED`; None is zero."""

NAMED = ("parameters", "gradient", "decay")
"""Vectors that a probe knows by itself: the parameters, their gradients as `backward()` left them, and the step of
decoupled weight decay at the present learning rate, -lr * wd * theta, by parameter group."""


class ProbeDesk:
    """Records probes, and completes them when the next update exists.

    Args:
        source: where parameters and gradients are.
        optimizer: where learning rates and weight decays are.
    """

    def __init__(self, source: ParameterSource, optimizer: OptimizerWatch) -> None:
        self._source = source
        self._optimizer = optimizer
        self._pending: dict[str, list[Tensor]] = {}

    def record(self, recorder: Recorder, step: int, vectors: Mapping[str, Vector]) -> None:
        """Records vectors at the present observation; to be called by all ranks.

        Raises:
            InputError: if a vector is not shaped as the watched parameters, here or on another rank.
        """
        ring = recorder.ring
        held: dict[str, Held | None] = {}
        problem = None
        try:
            held = {name: None if _is(v, "parameters") else self._held(recorder, v) for name, v in vectors.items()}
        except Exception as error:  # to be raised once the other ranks, which wait, have been told
            problem = error
        size = recorder.ranks.size
        failed, count, square = recorder.ranks.sum(np.array([problem is not None, len(held), len(held) ** 2], float))
        if problem is not None:
            raise problem
        if failed or (count, square) != (size * len(held), size * len(held) ** 2):
            raise InputError(
                "probe",
                expected="the same vectors on every rank",
                found="a rank that could not give them" if failed else "other numbers of them",
                remedy="see its warning; call probe() on every rank with the same names",
            )
        for name, vector in held.items():
            embedded = ring.snapshot() if vector is None else ring.embed(vector)
            square = recorder.by_entry(ring.inner(embedded, embedded))
            lags = recorder.by_entry(ring.products(embedded))
            recorder.chronicle.segment.add_probe(step, name, square, lags)
            for other, known in self._pending.items():
                product = recorder.by_entry(ring.inner(embedded, known))
                recorder.chronicle.segment.add_product(step, name, other, product)
            self._pending[name] = embedded

    def finish(self, recorder: Recorder, step: int) -> None:
        """Now that d_{t+1} exists, completes the probes of the observation before, which was at `step`."""
        for name, pieces in self._pending.items():
            product = recorder.by_entry(recorder.ring.inner(pieces))
            recorder.chronicle.segment.add_product(step, name, None, product)
        self._pending = {}

    def clear(self) -> None:
        """Forgets what has not been completed, after a restart."""
        self._pending = {}

    def state_dict(self) -> dict[str, list[Tensor]]:
        """A copy of what has not been completed."""
        return {name: [piece.clone() for piece in pieces] for name, pieces in self._pending.items()}

    def load_state_dict(self, state: Mapping[str, Sequence[Tensor]]) -> None:
        """The inverse of `state_dict`."""
        self._pending = {name: list(pieces) for name, pieces in state.items()}

    def _held(self, recorder: Recorder, vector: Vector) -> Held:
        """What is counted here of a vector, for each tensor of the inventory."""
        if isinstance(vector, str):
            if vector not in NAMED:
                raise InputError(
                    "probe",
                    expected=f"tensors or one of {', '.join(NAMED)}",
                    found=repr(vector),
                    remedy="pass a mapping from parameter names to tensors",
                )
            vector = self._known(vector)
        names = [held.info.name for held in recorder.layout.held]
        if isinstance(vector, Mapping):
            given = {normalise(name): tensor for name, tensor in vector.items()}
            self._recognise(given, names)
            pieces = [given.get(name) for name in names]
        else:
            pieces = list(vector)
        # Embeddings may have sparse gradients.
        pieces = [piece.to_dense() if isinstance(piece, Tensor) and piece.is_sparse else piece for piece in pieces]
        shards = [None if piece is None else as_shard("probe", piece) for piece in pieces]
        wanted = [held.length for held in recorder.layout.held]
        found = [None if shard is None else shard.length for shard in shards]
        if len(found) != len(wanted) or any(n is not None and n != w for n, w in zip(found, wanted, strict=True)):
            raise InputError(
                "probe",
                expected=f"{len(wanted)} tensors shaped as the watched ones",
                found=f"sizes {found[:5]} for {wanted[:5]}" if len(found) == len(wanted) else f"{len(found)} tensors",
                remedy="pass a mapping from parameter names to tensors",
            )
        return recorder.layout.vectors(shards)

    def _recognise(self, given: Mapping[str, Any], names: Sequence[str]) -> None:
        """Refuses names of no parameter: a misspelt one would read as zero."""
        unknown = {name for name, piece in given.items() if piece is not None} - set(names)
        if unknown:  # asked last, as it walks through the model
            unknown -= {name for name, _ in self._source.named_tensors()}
        if unknown:
            raise InputError(
                "probe",
                expected=f"names of the model's trainable parameters, such as {names[0]}" if names else "no tensors",
                found=", ".join(sorted(unknown)[:3]),
                remedy="use the names of model.named_parameters(); trace.segments[-1].inventory lists the watched ones",
            )

    def _known(self, name: str) -> dict[str, Any]:
        made: Callable[[Any], Any]
        if name == "gradient":
            made = lambda tensor: getattr(tensor, "grad", None)  # noqa: E731
        else:
            factors = self._optimizer.decay_factors()
            made = lambda tensor: -factors[id(tensor)] * tensor.detach() if factors.get(id(tensor)) else None  # noqa: E731
        return {key: made(tensor) for key, tensor in self._source.named_tensors()}


def _is(vector: Vector, name: str) -> bool:
    return isinstance(vector, str) and vector == name
