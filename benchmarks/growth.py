"""Part `growth`: how times grow with the window W, here, and with the size P, from the record of part `observe`."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from harness import Method, Options, release, say, take_turns
from methods import EXACT, GRAM, READ, SVD, Snapshots, observation, read, sketch_backends, sketch_name
from models import SIZES, Mover, parameters

FROM = 5_000_000
"""Parameters from which the exponent in P is fitted: below, fixed costs show."""
WINDOWS = (5, 10, 20, 50)


def run(options: Options) -> dict[str, Any]:
    """Times each method at several windows, all in turn; L = W for our engines.

    Args:
        options: what was asked for.
    """
    import torch

    size = options.chosen(("5M",))[0]
    windows = WINDOWS[:2] if options.quick else WINDOWS
    rounds = options.count(5)
    release()
    tensors = parameters(SIZES[size], dtype=torch.float32, device=options.device, seed=options.seed)
    flat = list(tensors.values())
    move = Mover(flat, seed=options.seed)
    backend = sketch_backends(options.device)[0]
    kept = Snapshots(flat, max(windows))
    kept.fill(move)
    methods: dict[str, Method] = {READ: Method(0, lambda: read(flat))}
    for window in windows:
        for name, build in _at(window, tensors, move, kept, backend).items():
            methods[f"{name} @ {window}"] = Method(0, build)
    say(f"growth: {size}, W = {windows}, {rounds} rounds")
    seconds = take_turns(methods, move, rounds, options.device)
    times: dict[str, dict[int, float]] = {}
    for key, values in seconds.items():
        name, _, window = key.partition(" @ ")
        if window:
            times.setdefault(name, {})[int(window)] = 1e3 * float(np.median(values))
    return {
        "size": size,
        "parameters": SIZES[size].parameters,
        "rounds": rounds,
        "ms": times,
        "exponents": {name: slope(by_window) for name, by_window in times.items()},
    }


def _at(
    window: int, tensors: dict[str, Any], move: Callable[[], None], kept: Snapshots, backend: str
) -> dict[str, Callable[[], Callable[[], object]]]:
    same = {"window": window, "horizon": window}
    return {
        sketch_name(backend): lambda: observation(tensors, move, engine="sketch", backend=backend, **same),
        EXACT: lambda: observation(tensors, move, engine="exact", **same),
        SVD: lambda: lambda: kept.singular_values(window),
        GRAM: lambda: lambda: kept.gram(window),
    }


def slope(times: Mapping[Any, float]) -> float | None:
    """Exponent of a power law by least squares on logarithms; None from one point."""
    if len(times) < 2:
        return None
    x, y = np.log([float(key) for key in times]), np.log(list(times.values()))
    return float(np.polyfit(x, y, 1)[0])


def over_sizes(observed: list[dict[str, Any]]) -> dict[str, tuple[float, int]]:
    """Exponents in P of each method of part `observe`, with the number of sizes behind them."""
    times: dict[str, dict[int, float]] = {}
    for entry in observed:
        if entry["dtype"] == "float32" and entry["parameters"] >= FROM:
            for name, found in entry["methods"].items():
                times.setdefault(name, {})[entry["parameters"]] = found["ms"]
    found = {name: (slope(by_size), len(by_size)) for name, by_size in times.items()}
    return {name: (exponent, count) for name, (exponent, count) in found.items() if exponent is not None}
