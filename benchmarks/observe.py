"""Part `observe`: what one whole observation costs, as a multiple of one read of the parameters."""

from typing import Any

import torch

from harness import MEMORY_SHARE as SHARE
from harness import Method, Options, available, release, say, sittings, summary, take_turns
from methods import EXACT, EXACT_LONG, EXACT_NARROW, GRAM, READ, SVD, engines, others, read
from models import SIZES, Mover, parameters

ROUNDS = {"0.4M": 31, "5M": 15, "50M": 9, "124M": 7, "1B": 5}
SLOW_ROUNDS = {"0.4M": 9, "5M": 5}
SLOW_UP_TO = 60_000_000
"""Parameters up to which what is stacked is decomposed: beyond, it takes minutes and over 20 GB."""
OTHERS_UP_TO = 500_000_000
"""Parameters up to which anything but our engines is run: histograms grow as the parameters do."""


def run(options: Options) -> list[dict[str, Any]]:
    """Times all methods at each size; one entry for each size and dtype.

    Args:
        options: what was asked for.
    """
    cases: list[tuple[str, torch.dtype]] = []
    for size in options.chosen(("0.4M", "5M", "50M", "124M", "1B")):
        big = SIZES[size].parameters > 5e8
        cases += [(size, torch.bfloat16)] if big or options.quick else []
        cases += [(size, torch.float32)]
    return [_measure(size, dtype, options) for size, dtype in cases]


def _measure(size: str, dtype: torch.dtype, options: Options) -> dict[str, Any]:
    shape = SIZES[size]
    own = 4e9 if shape.parameters > 5e8 and dtype == torch.float32 else shape.parameters * dtype.itemsize * 2
    entry: dict[str, Any] = {
        "size": size,
        "parameters": shape.parameters,
        "tensors": len(shape.tensors()),
        "dtype": str(dtype).removeprefix("torch."),
        "engines": {},
        "methods": {},
        "skipped": {},
    }
    release()
    if own > SHARE * available(options.device):
        entry["skipped"]["everything"] = f"the parameters need {own / 1e9:.1f} GB"
        return entry
    tensors = parameters(shape, dtype=dtype, device=options.device, seed=options.seed)
    flat = list(tensors.values())
    move = Mover(flat, seed=options.seed)
    rounds = options.count(ROUNDS.get(size, 9))
    methods = engines(tensors, move, options.device, entry["engines"])
    if dtype == torch.float32:
        slow = others(tensors, move, slow_rounds=min(rounds, SLOW_ROUNDS.get(size, 3)))
        if shape.parameters > SLOW_UP_TO:
            beyond = [SVD, GRAM] if shape.parameters <= OTHERS_UP_TO else list(slow)
            for name in beyond:
                del slow[name]
            entry["skipped"][" and ".join(beyond)] = "takes too long"
        methods |= slow
    else:
        for name in (EXACT, EXACT_LONG, EXACT_NARROW):
            methods.pop(name)  # bf16 rows are a tenth of what float32 ones show
    groups, skipped = sittings(methods, SHARE * available(options.device))
    entry["skipped"] |= skipped
    for number, group in enumerate(groups, 1):
        say(f"observe: {size} {entry['dtype']}, {rounds} rounds, sitting {number} of {len(groups)}: {', '.join(group)}")
        entry["methods"] |= _sit(group, flat, move, rounds, options, first=number == 1)
        release()
    entry["methods"] = {name: entry["methods"][name] for name in (READ, *methods) if name in entry["methods"]}
    return entry


def _sit(
    group: dict[str, Method], flat: list[torch.Tensor], move: Mover, rounds: int, options: Options, *, first: bool
) -> dict[str, Any]:
    """Ratios of some methods to the read of the same round."""
    seconds = take_turns({READ: Method(0, lambda: read(flat)), **group}, move, rounds, options.device)
    base = seconds.pop(READ)
    found = {READ: summary(base, base)} if first else {}
    return found | {name: summary(values, base) for name, values in seconds.items()}
