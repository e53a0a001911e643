"""What an observation costs, against one read of the parameters in the same run.

    python benchmarks/observe.py [--sizes 400000 5000000 50000000] [--rounds 7]

Every method is timed in turn, round by round, on one thread in thread CPU time; a cell is the median of its ratios to
the read of the same round. Writes results/benchmarks/observe.json and docs/performance.md.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import spectral_edge as se
from spectral_edge.observe import numba_available

ROOT = Path(__file__).parents[1]
WINDOW = 10
NAIVE_UP_TO = 6_000_000
"""Stacking W snapshots and an SVD take minutes and much memory beyond this."""


def shaped(size: int) -> dict[str, torch.Tensor]:
    """A transformer-like list of tensors: ten layers of twelve."""
    generator = torch.Generator().manual_seed(0)
    count = size // 120
    return {f"layers.{layer}.w{k}": torch.randn(count, generator=generator) for layer in range(10) for k in range(12)}


def methods(size: int) -> dict[str, tuple[Callable[[], object], int | None]]:
    """What is timed, by name, with the bytes that it keeps."""
    tensors = shaped(size)
    flat = list(tensors.values())
    noise = [1e-3 * torch.randn_like(tensor) for tensor in flat]

    def train() -> None:
        torch._foreach_add_(flat, noise)

    def read() -> None:
        for tensor in flat:
            torch.dot(tensor, tensor)

    found: dict[str, tuple[Callable[[], object], int | None]] = {"one read": (read, 0)}
    options: dict[str, dict[str, object]] = {
        "exact, L = W": {"engine": "exact", "horizon": WINDOW},
        "exact, L = 2W": {"engine": "exact"},
        "exact, L = W, bf16 ring": {"engine": "exact", "horizon": WINDOW, "ring_dtype": torch.bfloat16},
        "sketch, torch": {"engine": "sketch", "backend": "torch"},
    }
    if numba_available():
        options["sketch, numba"] = {"engine": "sketch", "backend": "numba"}
    for name, chosen in options.items():
        monitor = se.Monitor(tensors, window=WINDOW, every=1, **chosen)  # pyright: ignore[reportArgumentType]
        for _ in range(2 * WINDOW):
            train()
            monitor.step()

        def observe(monitor: se.Monitor = monitor) -> None:
            reading = monitor.step()
            assert reading is not None
            assert reading.sigma is not None

        state = monitor.state_dict()["recorder"]["ring"]
        kept = [value for bank in state.get("banks", [state]) for value in bank.values()]
        size_kept = sum(t.numel() * t.element_size() for t in kept if isinstance(t, torch.Tensor))
        found[name] = (observe, size_kept)
    if size <= NAIVE_UP_TO:
        rows = [torch.cat([1e-3 * torch.randn_like(tensor) for tensor in flat]) for _ in range(WINDOW)]
        found["stack and svdvals"] = (lambda: torch.linalg.svdvals(torch.stack(rows)), 4 * size * WINDOW)
    return {"": (train, None), **found}


def measure(size: int, rounds: int) -> dict[str, dict[str, float]]:
    """Medians of milliseconds and of ratios to one read, by method."""
    timed = methods(size)
    train = timed.pop("")[0]
    times: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds):
        for name, (call, _) in timed.items():
            train()  # a new update, and caches as a training step leaves them
            begun = time.thread_time()
            call()
            times[name].append(time.thread_time() - begun)
    reads = np.array(times["one read"])
    return {
        name: {
            "ms": float(1e3 * np.median(values)),
            "reads": float(np.median(np.array(values) / reads)),
            "kept_mb": float((timed[name][1] or 0) / 1e6),
        }
        for name, values in times.items()
    }


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[400_000, 5_000_000, 50_000_000])
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {size: measure(size, arguments.rounds) for size in arguments.sizes}
    machine = {
        "processor": platform.machine(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "threads": 1,
        "rounds": arguments.rounds,
    }
    names = list(dict.fromkeys(name for result in results.values() for name in result))
    lines = [
        "| observation | " + " | ".join(f"P = {size:,}" for size in results) + " | kept at the largest |",
        "| --- |" + " ---: |" * (len(results) + 1),
    ]
    largest = results[max(results)]
    for name in names:
        cells = [
            f"{r[name]['reads']:.1f} ({r[name]['ms']:.1f} ms)" if name in r else "not run" for r in results.values()
        ]
        kept = f"{largest[name]['kept_mb']:,.0f} MB" if name in largest else ""
        lines.append(f"| {name} | {' | '.join(cells)} | {kept} |")
    table = "\n".join(lines)
    print(table)
    folder = ROOT / "results" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    record = {"command": "python benchmarks/observe.py", "machine": machine, "results": results}
    (folder / "observe.json").write_text(json.dumps(record, indent=1) + "\n")
    (ROOT / "docs" / "performance.md").write_text(_PAGE.format(table=table, **machine))


_PAGE = """# Performance

What one whole observation costs (read the parameters, form the row, record it in memory, give a reading with its
singular values), as a multiple of one read of the parameters (`torch.dot(x, x)` over the tensors) in the same run.
Window W = 10; 120 float32 tensors in ten layers; {threads} thread, thread CPU time, median of {rounds} rounds in which
all methods take turns. "Kept" is what the engine holds between observations.

{table}

Made by `python benchmarks/observe.py` with Python {python} and torch {torch} on a two-core {processor} machine that
runs other jobs too: trust ratios to a few tenths. The record is `results/benchmarks/observe.json`. The exact engine
multiplies in float64, stack and `svdvals` in float32, so the first is the more accurate of the two.

At small sizes fixed costs dominate the sketch, which is why `engine="auto"` takes the exact engine below 1,048,576
parameters. The costs fall on observation steps only: divide by `every` for the share of each training step.
"""

if __name__ == "__main__":
    main()
