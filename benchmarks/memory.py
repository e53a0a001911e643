"""Part `memory`: what a monitor adds to the peak of resident memory, each case in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

import spectral_edge as se
from harness import MEMORY_SHARE, WINDOW, Options, available, release, say
from methods import sketch_backends
from models import SIZES, Mover, parameters

OBSERVATIONS = 25
_CHILD = "import json, sys, memory; print(json.dumps(memory.child(**json.loads(sys.argv[1]))))"


def run(options: Options) -> list[dict[str, Any]]:
    """Measures each case in a fresh process; those that do not fit are listed with the reason.

    Args:
        options: what was asked for.
    """
    if torch.device(options.device).type != "cpu":
        return []
    sizes = options.chosen(("5M", "50M", "124M", "1B"), quick=("toy2",))
    cases: list[dict[str, Any]] = []
    for size in sizes:
        dtype = "bfloat16" if SIZES[size].parameters > 5e8 else "float32"
        for backend in sketch_backends("cpu"):
            cases.append({"size": size, "dtype": dtype, "engine": "sketch", "horizon": 20, "backend": backend})
        cases.append({"size": size, "dtype": dtype, "engine": "exact", "horizon": WINDOW})
        cases.append({"size": size, "dtype": dtype, "engine": "exact", "horizon": 2 * WINDOW})
    found: list[dict[str, Any]] = []
    for case in cases[:1] if options.quick else cases:
        width = getattr(torch, case["dtype"]).itemsize
        rows = 0 if case["engine"] == "sketch" else case["horizon"] + 1
        needs = SIZES[case["size"]].parameters * width * (1 + rows) + 5e8
        release()
        room = MEMORY_SHARE * available()
        if needs > room:
            found.append({**case, "skipped": f"needs {needs / 1e9:.1f} GB, {room / 1e9:.1f} GB to spare"})
            continue
        say(f"memory: {case}")
        output = subprocess.run(
            [sys.executable, "-c", _CHILD, json.dumps({**case, "seed": options.seed})],
            cwd=Path(__file__).parent,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        found.append({**case, "parameters": SIZES[case["size"]].parameters, **json.loads(output.splitlines()[-1])})
    return found


def child(*, size: str, dtype: str, engine: str, horizon: int, seed: int, **options: Any) -> dict[str, Any]:
    """What a fresh process measures of one case.

    A monitor of some other values comes first and is dropped, so that code which is loaded or compiled once is not
    counted as the state of an engine; what that takes is reported by itself.
    """
    torch.set_num_threads(1)
    kind = getattr(torch, dtype)
    release()
    bare = resident("VmRSS")
    few = {f"{layer}.weight": torch.randn(300_000).to(kind) for layer in range(2)}
    _watch(few, engine=engine, horizon=horizon, **options)
    del few
    release()
    loaded, first_peak = resident("VmRSS"), resident("VmHWM")
    tensors = parameters(SIZES[size], dtype=kind, device="cpu", seed=seed)
    release()
    reset = reset_peak()
    before = resident("VmRSS")
    monitor = _watch(tensors, engine=engine, horizon=horizon, **options)
    peak, after = resident("VmHWM"), resident("VmRSS")
    assert monitor.observed
    return {
        "code_mb": (loaded - bare) / 1e6,
        "before_mb": before / 1e6,
        "extra_peak_mb": (peak - before) / 1e6,
        "extra_after_mb": (after - before) / 1e6,
        "process_peak_mb": max(peak, first_peak) / 1e6,
        "peak_was_reset": reset,
        "observations": OBSERVATIONS,
    }


def _watch(tensors: dict[str, torch.Tensor], **options: Any) -> se.Monitor:
    monitor = se.Monitor(tensors, window=WINDOW, every=1, **options)
    move = Mover(list(tensors.values()), seed=0, noise=False)
    for _ in range(OBSERVATIONS):
        move()
        reading = monitor.step()
    assert reading is not None
    assert reading.sigma is not None
    return monitor


def resident(field: str) -> int:
    """Bytes of resident memory: VmRSS now, VmHWM at the peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return 1024 * int(line.split()[1])
    return 0


def reset_peak() -> bool:
    """Sets the recorded peak to what is resident now; not every system lets a process do that."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return resident("VmHWM") <= 1.001 * resident("VmRSS")
