"""Part `training`: what observing adds to real training steps, with caches as a step leaves them."""

import gc
from typing import Any

import numpy as np
import torch

import spectral_edge as se
from harness import MEMORY_SHARE, WINDOW, Options, available, clock, release, say
from methods import EXACT, EXACT_NARROW, READ, read, sketch_backends, sketch_name
from models import GPT, SIZES

TOKENS = {"0.4M": (24, 64), "5M": (4, 256), "50M": (1, 512)}
"""Sequences and their length: 1,536, 1,024 and 512 tokens a step."""
ROUNDS = {"0.4M": 40, "5M": 16, "50M": 9}


def run(options: Options) -> list[dict[str, Any]]:
    """Trains a GPT of each size on random tokens; after each step one of the methods observes, in turn.

    Args:
        options: what was asked for.
    """
    return [
        _measure(size, options) for size in options.chosen(("0.4M", "5M", "50M")) if size in TOKENS or options.quick
    ]


def _measure(size: str, options: Options) -> dict[str, Any]:
    shape, (sequences, length) = SIZES[size], TOKENS.get(size, (2, 16))
    release()
    model = GPT(shape, seed=options.seed).to(options.device)
    # The fused step is the fastest one that torch has, so that shares of it are the largest.
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    generator = torch.Generator().manual_seed(options.seed)

    def train() -> None:
        tokens = torch.randint(shape.vocabulary, (sequences, length + 1), generator=generator).to(options.device)
        optimizer.zero_grad(set_to_none=True)
        model.loss(tokens).backward()
        optimizer.step()

    train()
    chosen: dict[str, dict[str, Any]] = {
        sketch_name(backend): {"engine": "sketch", "backend": backend} for backend in sketch_backends(options.device)
    }
    chosen[EXACT] = {"engine": "exact", "horizon": WINDOW}
    chosen[EXACT_NARROW] = {"engine": "exact", "horizon": WINDOW, "ring_dtype": torch.bfloat16}
    room, skipped = MEMORY_SHARE * available(options.device), {}
    calls = {READ: read([parameter.detach() for parameter in model.parameters()])}
    monitors: dict[str, se.Monitor] = {}
    for name, given in chosen.items():
        needs = shape.parameters * {EXACT: 4 * (WINDOW + 1), EXACT_NARROW: 2 * WINDOW + 4}.get(name, 0)
        if needs > room:
            skipped[name] = f"needs {needs / 1e9:.1f} GB"
            continue
        room -= needs
        monitors[name] = se.Monitor(model, optimizer, window=WINDOW, every=1, **given)
    for _ in range(2 * WINDOW + 1):  # fill every ring
        train()
        for monitor in monitors.values():
            monitor.step()

    def observe(monitor: se.Monitor) -> None:
        reading = monitor.step()
        assert reading is not None, "the window is not full"
        assert reading.sigma is not None, "no singular values"

    calls |= {name: lambda monitor=monitor: observe(monitor) for name, monitor in monitors.items()}
    rounds = options.count(ROUNDS.get(size, 5))
    say(f"training: {size}, {rounds} rounds of {len(calls)} steps")
    timed = clock(options.device)
    steps: list[float] = []
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    gc.collect()
    for number in range(rounds):
        names = list(calls)
        start = number % len(names)
        for name in names[start:] + names[:start]:
            steps.append(timed(train))
            seconds[name].append(timed(calls[name]))
    step = float(np.median(steps))
    return {
        "size": size,
        "parameters": shape.parameters,
        "tokens": sequences * length,
        "rounds": rounds,
        "step_ms": 1e3 * step,
        "step_ms_quartiles": [1e3 * float(q) for q in np.quantile(steps, (0.25, 0.75))],
        "methods": {
            name: {
                "ms": 1e3 * float(np.median(values)),
                "ms_quartiles": [1e3 * float(q) for q in np.quantile(values, (0.25, 0.75))],
                "percent": 100 * float(np.median(values)) / step,
            }
            for name, values in seconds.items()
        },
        "skipped": skipped,
    }
