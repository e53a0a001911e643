"""Part `scan`: a folder of checkpoints on disk, against reading all of its bytes."""

import inspect
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import spectral_edge as se
from harness import MEMORY_SHARE, Options, available, release, say
from memory import reset_peak, resident
from models import SIZES, Mover, parameters

HORIZON = 20
_BUFFER = 1 << 23
_CHILD = "import json, sys, scan; print(json.dumps(scan.child(**json.loads(sys.argv[1]))))"


def run(options: Options) -> dict[str, Any]:
    """Writes checkpoints of a random walk, reads them plainly, scans them in a fresh process, reads them again.

    Before each pass the system is asked to forget what it holds of the files, so that all passes read the disk.

    Args:
        options: what was asked for.
    """
    size = options.chosen(("124M",), quick=("toy2",))[-1]
    shape, count = SIZES[size], 50 if options.full else 5
    if options.quick:
        count = 3
    place = options.scratch or Path(tempfile.gettempdir())
    needed, free = 4 * shape.parameters * count, shutil.disk_usage(place).free
    found: dict[str, Any] = {"size": size, "parameters": shape.parameters, "checkpoints": count, "horizon": HORIZON}
    if needed > 0.8 * free:
        return {**found, "skipped": f"needs {needed / 1e9:.0f} GB of disk, {free / 1e9:.0f} GB are free"}
    takes_engine = "engine" in inspect.signature(se.scan).parameters
    held = 4 * shape.parameters * (2 if takes_engine else HORIZON + 2)
    if held > MEMORY_SHARE * available():
        return {**found, "skipped": f"needs {held / 1e9:.1f} GB of memory"}
    folder = Path(tempfile.mkdtemp(prefix="spectral-edge-scan-", dir=place))
    try:
        _write(folder, shape, count, options.seed)
        release()
        say(f"scan: {count} checkpoints of {size}")
        reads = [_read(folder)]
        _forget(folder)
        given = {"engine": "sketch"} if takes_engine else {}
        output = subprocess.run(
            [sys.executable, "-c", _CHILD, json.dumps({"folder": str(folder), "given": given})],
            cwd=Path(__file__).parent,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        scanned = json.loads(output.splitlines()[-1])
        reads.append(_read(folder))
    finally:
        shutil.rmtree(folder)
    size_gb = 4e-9 * shape.parameters * count
    wall = sum(one["wall_s"] for one in reads) / len(reads)
    return {
        **found,
        "gigabytes": size_gb,
        "engine": "sketch" if takes_engine else "exact, since scan() takes no engine",
        "reads": reads,
        "scan": scanned,
        "read_gb_per_s": size_gb / wall,
        "times_reading": scanned["wall_s"] / wall,
        "times_fastest_reading": scanned["wall_s"] / min(one["wall_s"] for one in reads),
    }


def child(*, folder: str, given: dict[str, Any]) -> dict[str, Any]:
    """What a fresh process measures of a scan, after a small one that loads and compiles whatever is needed once."""
    torch.set_num_threads(1)
    se.scan([{"0.weight": torch.randn(600)} for _ in range(3)], horizon=HORIZON, **given)
    release()
    reset, before = reset_peak(), resident("VmRSS")
    begun, spent = time.perf_counter(), time.process_time()
    trace = se.scan(folder, horizon=HORIZON, **given)
    wall, cpu = time.perf_counter() - begun, time.process_time() - spent
    peak = resident("VmHWM")
    return {
        "wall_s": wall,
        "cpu_s": cpu,
        "rows": len(trace.steps),
        "extra_peak_mb": 1e-6 * (peak - before),
        "process_peak_mb": 1e-6 * peak,
        "peak_was_reset": reset,
    }


def _write(folder: Path, shape: Any, count: int, seed: int) -> None:
    tensors = parameters(shape, dtype=torch.float32, device="cpu", seed=seed)
    move = Mover(list(tensors.values()), seed=seed, noise=True)
    for step in range(count):
        save_file(tensors, folder / f"checkpoint-{100 * step}.safetensors")
        move()


def _forget(folder: Path) -> None:
    """Asks the system to write the files out and to drop them from its cache."""
    for path in folder.iterdir():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


def _read(folder: Path) -> dict[str, float]:
    """Wall and CPU time of reading every byte into one buffer, from the disk."""
    _forget(folder)
    buffer = memoryview(bytearray(_BUFFER))
    begun, spent = time.perf_counter(), time.process_time()
    for path in sorted(folder.iterdir()):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return {"wall_s": time.perf_counter() - begun, "cpu_s": time.process_time() - spent}
