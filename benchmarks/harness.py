"""What the parts have in common: options, the clock, rounds in which methods take turns, the machine, the records."""

import ctypes
import gc
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).parents[1]

MEMORY_SHARE = 0.7
"""Share of the available memory that one sitting may take; other jobs run beside it."""

WINDOW = 10
"""Updates in a window wherever nothing else is said."""


@dataclass(frozen=True)
class Options:
    """What the command was asked for.

    Attributes:
        sizes: names of `models.SIZES`; None takes each part's own.
        rounds: rounds of each size; None takes the part's own, which are fewer where a round is long.
        quick: toy sizes that prove nothing but that the suite runs.
        full: the long versions of parts that have one.
        device: where parameters live, "cpu" or a CUDA device.
        seed: of parameters, updates and data.
        scratch: folder for files that are deleted again; None takes the system's.
        out: folder that receives results/benchmarks and docs/performance.md.
    """

    sizes: tuple[str, ...] | None = None
    rounds: int | None = None
    quick: bool = False
    full: bool = False
    device: str = "cpu"
    seed: int = 0
    scratch: Path | None = None
    out: Path = ROOT

    def chosen(self, own: tuple[str, ...], quick: tuple[str, ...] = ("toy",)) -> tuple[str, ...]:
        """The sizes to run, those of the part where none were named."""
        return self.sizes or (quick if self.quick else own)

    def count(self, own: int, quick: int = 2) -> int:
        """The rounds to run, those of the part where no number was named."""
        return self.rounds or (quick if self.quick else own)


@dataclass(frozen=True)
class Method:
    """Something that is timed.

    Attributes:
        needs: bytes that it holds, temporaries included.
        build: makes it ready, warm, and gives the call to time.
        most: rounds that it takes part in; None for all.
    """

    needs: float
    build: Callable[[], Callable[[], object]]
    most: int | None = None


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def clock(device: str) -> Callable[[Callable[[], object]], float]:
    """What times a call in seconds: this thread's CPU time, or CUDA events between two synchronisations."""
    if torch.device(device).type == "cpu":

        def on_cpu(call: Callable[[], object]) -> float:
            begun = time.thread_time()
            call()
            return time.thread_time() - begun

        return on_cpu

    def on_cuda(call: Callable[[], object]) -> float:
        torch.cuda.synchronize()
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        call()
        last.record()
        torch.cuda.synchronize()
        return first.elapsed_time(last) / 1e3

    return on_cuda


def take_turns(
    methods: Mapping[str, Method], move: Callable[[], None], rounds: int, device: str
) -> dict[str, list[float]]:
    """Seconds of each method, round by round; before each call the parameters move, and the first of a round changes.

    Args:
        methods: by name.
        move: the in-place update that precedes each call.
        rounds: how many.
        device: of the parameters.
    """
    timed = clock(device)
    calls = {name: method.build() for name, method in methods.items()}
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    names = list(methods)
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds):
            start = number % len(names)
            for name in names[start:] + names[:start]:
                most = methods[name].most
                if most is None or number < most:
                    move()
                    seconds[name].append(timed(calls[name]))
    finally:
        gc.enable()
    return seconds


def summary(seconds: list[float], base: list[float] | None = None) -> dict[str, Any]:
    """Median and quartiles of times, and of their ratios to another method's times of the same rounds."""
    found: dict[str, Any] = {
        "rounds": len(seconds),
        "ms": 1e3 * float(np.median(seconds)),
        "ms_quartiles": [1e3 * float(q) for q in np.quantile(seconds, (0.25, 0.75))],
    }
    if base is not None:
        ratios = np.array(seconds) / np.array(base[: len(seconds)])
        found["reads"] = float(np.median(ratios))
        found["reads_quartiles"] = [float(q) for q in np.quantile(ratios, (0.25, 0.75))]
    return found


def sittings(methods: Mapping[str, Method], room: float) -> tuple[list[dict[str, Method]], dict[str, str]]:
    """Methods in groups that fit into memory together, and the reason for each that fits into none.

    Args:
        methods: by name.
        room: bytes that one group may take.
    """
    groups: list[dict[str, Method]] = []
    skipped: dict[str, str] = {}
    for name, method in sorted(methods.items(), key=lambda item: -item[1].needs):
        if method.needs > room:
            skipped[name] = f"needs about {method.needs / 1e9:.1f} GB, {max(room, 0) / 1e9:.1f} GB to spare"
            continue
        for group in groups:
            if sum(other.needs for other in group.values()) + method.needs <= room:
                group[name] = method
                break
        else:
            groups.append({name: method})
    return groups, skipped


def available(device: str = "cpu") -> int:
    """Bytes of memory that could be taken now."""
    if torch.device(device).type != "cpu":
        return torch.cuda.mem_get_info(torch.device(device))[0]
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable"):
            return 1024 * int(line.split()[1])
    return 0


def release() -> None:
    """Gives freed memory back to the system, so that it is not counted twice."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return


def machine(device: str = "cpu") -> dict[str, Any]:
    """What the figures depend on besides the code."""
    found: dict[str, Any] = {
        "processor": _processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "numba": _version("numba"),
        "threads": torch.get_num_threads(),
        "device": device,
    }
    if torch.device(device).type == "cuda":
        found["accelerator"] = torch.cuda.get_device_name(torch.device(device))
    return found


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in info.read_text().split("\n\n")[0].splitlines() if ":" in line)
    named = {key.strip(): value.strip() for key, value in fields.items()}
    family = ", ".join(f"{key.split()[-1]} {named[key]}" for key in ("cpu family", "model") if key in named)
    return f"{named.get('model name', platform.machine())}" + (f" ({family})" if family else "")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def results_folder(options: Options) -> Path:
    """Where the records are."""
    return options.out / "results" / "benchmarks"


def record(name: str, command: str, options: Options, part: Callable[[Options], Any]) -> None:
    """Runs a part and writes its record.

    Args:
        name: of the part.
        command: that repeats it.
        options: what was asked for.
        part: its function.
    """
    load = os.getloadavg()[0]
    begun, spent = time.perf_counter(), time.process_time()
    results = part(options)
    content = {
        "part": name,
        "command": command,
        "date": date.today().isoformat(),
        "seed": options.seed,
        "rounds": options.rounds or "each size's own, see the results",
        "quick": options.quick,
        "machine": machine(options.device),
        "load_before_and_after": [round(load, 2), round(os.getloadavg()[0], 2)],
        "wall_s": round(time.perf_counter() - begun, 1),
        "cpu_s": round(time.process_time() - spent, 1),
        "results": results,
    }
    path = results_folder(options) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_rounded(content), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    say(f"{name}: {content['wall_s']:.0f} s")


def _rounded(value: Any) -> Any:
    """Plain values with five digits; NaN and infinity become None."""
    if isinstance(value, Mapping):
        return {str(key): _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.5g}") if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def load(options: Options) -> dict[str, dict[str, Any]]:
    """All records that there are, by part."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in results_folder(options).glob("*.json")}
