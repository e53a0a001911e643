"""What is timed: our engines, and other ways to look at the same parameters."""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

import spectral_edge as se
from harness import WINDOW, Method
from spectral_edge.observe import BACKENDS, numba_available

READ = "one read"
EXACT = "exact, L = W"
EXACT_LONG = "exact, L = 2W"
EXACT_NARROW = "exact, L = W, bf16 ring"
SVD = "stack and svdvals"
GRAM = "recomputed Gram"
HISTOGRAM = "histogram"
WATCH = "W&B-watch-like"


def sketch_name(backend: str) -> str:
    """The sketch's name in tables."""
    return f"sketch, {backend}"


def sketch_backends(device: str) -> list[str]:
    """The backends that can reach a device here."""
    if torch.device(device).type == "cpu":
        return [*(["numba"] if numba_available() else []), "torch"]
    return [name for name in ("triton", "torch") if name in BACKENDS]


def read(tensors: list[Tensor]) -> Callable[[], object]:
    """One read: the dot product of each tensor with itself; two half-precision values are read as one float32."""
    flat = [tensor.detach().view(-1) for tensor in tensors]
    flat = [values.view(torch.float32) if values.element_size() == 2 else values for values in flat]

    def call() -> None:
        for values in flat:
            torch.dot(values, values)

    return call


def observation(
    tensors: dict[str, Tensor],
    move: Callable[[], None],
    *,
    window: int = WINDOW,
    note: Callable[[Any], None] | None = None,
    **options: Any,
) -> Callable[[], object]:
    """A whole observation of a monitor whose ring is full: `step()`, and the singular values taken from its reading.

    Args:
        tensors: the parameters.
        move: updates them.
        window: updates in a window.
        note: receives what the trace says of the engine.
        **options: of the monitor.
    """
    monitor = se.Monitor(tensors, window=window, every=1, **options)
    if note is not None:
        said = monitor.trace.segments[0].metadata["engine"]
        note({key: value for key, value in said.items() if isinstance(value, (str, int, type(None)))})

    def call() -> None:
        reading = monitor.step()
        assert reading is not None, "the window is not full"
        assert reading.sigma is not None, "no singular values"

    for _ in range(options.get("horizon", 2 * window)):
        move()
        monitor.step()
    move()
    call()
    return call


class Snapshots:
    """The last updates as flat rows, as scripts keep them.

    Args:
        tensors: the parameters.
        count: rows to keep.
    """

    def __init__(self, tensors: list[Tensor], count: int) -> None:
        self._tensors = tensors
        self._last = torch.empty(0)
        self._rows: deque[Tensor] = deque(maxlen=count)

    def fill(self, move: Callable[[], None]) -> None:
        """Takes as many updates as there are rows."""
        self._last = self._flat()
        while len(self._rows) < (self._rows.maxlen or 0):
            move()
            self._take()

    def _flat(self) -> Tensor:
        return torch.cat([tensor.detach().view(-1) for tensor in self._tensors])

    def _take(self) -> None:
        now = self._flat()
        self._rows.append(now - self._last)
        self._last = now

    def singular_values(self, window: int) -> Tensor:
        """Takes an update, stacks the last rows and decomposes them, all in float32."""
        self._take()
        return torch.linalg.svdvals(torch.stack(list(self._rows)[-window:]))

    def gram(self, window: int) -> Tensor:
        """Takes an update, stacks the last rows and takes the eigenvalues of their Gram matrix, all in float32."""
        self._take()
        rows = torch.stack(list(self._rows)[-window:])
        return torch.linalg.eigvalsh(rows @ rows.T).clamp(min=0).sqrt()


def histogram(tensors: list[Tensor]) -> Callable[[], object]:
    """A histogram of each tensor."""

    def call() -> None:
        for tensor in tensors:
            torch.histc(tensor, bins=64).tolist()

    return call


def watch(tensors: list[Tensor], gradients: list[Tensor]) -> Callable[[], object]:
    """What `wandb.watch(log="all")` computes: of each parameter and gradient a finite mask, range and histogram."""

    def call() -> None:
        for tensor in [*tensors, *gradients]:
            flat = tensor.view(-1)
            finite = torch.isfinite(flat)
            if not bool(finite.all()):
                flat = flat[finite]
            low, high = flat.min().item(), flat.max().item()
            torch.histc(flat, bins=64, min=low, max=high).tolist()
            np.linspace(low, high, 65).tolist()

    return call


def engines(
    tensors: dict[str, Tensor], move: Callable[[], None], device: str, described: dict[str, Any]
) -> dict[str, Method]:
    """Our engines as methods to time.

    Args:
        tensors: the parameters.
        move: updates them.
        device: where they are.
        described: receives what the trace says of each engine, its backend for instance, once it is built.
    """
    count = sum(tensor.numel() for tensor in tensors.values())
    width = next(iter(tensors.values())).element_size()

    def ours(name: str, needs: float, **options: Any) -> None:
        note = partial(described.__setitem__, name)
        found[name] = Method(needs, lambda: observation(tensors, move, note=note, **options))

    found: dict[str, Method] = {}
    for backend in sketch_backends(device):
        ours(sketch_name(backend), 1e8, engine="sketch", backend=backend)
    ours(EXACT, (WINDOW + 1) * count * width, engine="exact", horizon=WINDOW)
    ours(EXACT_NARROW, (2 * WINDOW + width) * count, engine="exact", horizon=WINDOW, ring_dtype=torch.bfloat16)
    ours(EXACT_LONG, (2 * WINDOW + 1) * count * width, engine="exact")
    return found


def others(tensors: dict[str, Tensor], move: Callable[[], None], *, slow_rounds: int) -> dict[str, Method]:
    """Other ways to look at the same parameters as methods to time; the parameters are float32.

    Args:
        tensors: the parameters.
        move: updates them.
        slow_rounds: rounds of those that decompose or multiply what they stack.
    """
    flat = list(tensors.values())
    size = 4 * sum(tensor.numel() for tensor in flat)

    def rows() -> Snapshots:
        snapshots = Snapshots(flat, WINDOW)
        snapshots.fill(move)
        return snapshots

    def svd() -> Callable[[], object]:
        snapshots = rows()
        return lambda: snapshots.singular_values(WINDOW)

    def gram() -> Callable[[], object]:
        snapshots = rows()
        return lambda: snapshots.gram(WINDOW)

    def watched() -> Callable[[], object]:
        return watch(flat, [1e-3 * torch.randn_like(tensor) for tensor in flat])

    return {
        SVD: Method((4 * WINDOW + 3) * size, svd, slow_rounds),
        GRAM: Method((2 * WINDOW + 3) * size, gram, slow_rounds),
        HISTOGRAM: Method(0, lambda: histogram(flat)),
        WATCH: Method(2 * size, watched),
    }
