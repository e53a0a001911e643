"""Part `accuracy`: sketched singular values against exact ones, on real updates and on constructed worst cases.

The exact engine multiplies in float64; its singular values are the truth here. All figures are relative errors, except
k*, which is right or wrong.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import constructed
import spectral_edge as se
from harness import WINDOW, Options, say
from models import GPT, SIZES, MarkovText
from spectral_edge.experiments import configure

CELLS = (1_024, 4_096, 16_384, 65_536)
CLEAR = 1.05
"""From this sigma_1 / sigma_2 on, sigma_1 stands clear of the others; the same ratio parts any other two neighbours."""
GROUPINGS: dict[str, dict[str, str] | None] = {"one group": {"all": "*"}, "a group a layer": None}
SEEDS = 5
PAIRS = 12

QUICK_CELLS = (1_024, 65_536)

Snapshots = Sequence[dict[str, Tensor]]
Array = np.ndarray


def run(options: Options) -> dict[str, Any]:
    """All comparisons.

    Args:
        options: what was asked for.
    """
    return {
        "window": WINDOW,
        "clear_from": CLEAR,
        "real": _real(options),
        "constructed": _constructed(options),
        "flat": _flat(options),
    }


# comparing -----------------------------------------------------------------------------------------------------------


def sigmas(snapshots: Snapshots, groups: dict[str, str] | None, **options: Any) -> tuple[Array, Array]:
    """Singular values [n, W] of the windows that share no update, and the k* that each reading names [n], 0 for none.

    Args:
        snapshots: parameters in order, n W + 1 of them.
        groups: groups of the monitor.
        **options: of the monitor's engine.
    """
    tensors = {name: value.clone() for name, value in snapshots[0].items()}
    monitor = se.Monitor(tensors, window=WINDOW, every=1, horizon=WINDOW, groups=groups, **options)
    values: list[Array] = []
    named: list[int] = []
    for number, snapshot in enumerate(snapshots[1:], 1):
        for name, value in snapshot.items():
            tensors[name].copy_(value)
        reading = monitor.step()
        if number % WINDOW == 0:
            assert reading is not None, "an update was left out"
            assert reading.sigma is not None, "no singular values"
            values.append(np.asarray(reading.sigma))
            named.append(reading.k_star_raw or 0)
    return np.array(values), np.array(named)


def compare(snapshots: Snapshots, grouping: str, cells: int, seeds: Sequence[int]) -> dict[str, Array]:
    """Errors of sketches with each seed against the exact engine: one entry for each window and seed."""
    groups = GROUPINGS[grouping]
    truth, _ = sigmas(snapshots, groups, engine="exact")
    found: dict[str, list[Array]] = {}
    for seed in seeds:
        sketched, named = sigmas(snapshots, groups, engine="sketch", cells=cells, sketch_seed=seed)
        errors = np.abs(sketched / truth - 1)
        true, ours = truth[:, :-1] / truth[:, 1:], sketched[:, :-1] / sketched[:, 1:]
        true_g23, our_g23 = (s[:, 1] ** 2 - s[:, 2] ** 2 for s in (truth, sketched))
        values = {
            "sigma_1": errors[:, 0],
            "worst": errors.max(axis=1),
            "R": np.abs(ours.max(axis=1) / true.max(axis=1) - 1),
            "R_sketched": ours.max(axis=1),
            "g23": np.abs(our_g23 / true_g23 - 1),
            "kept": ours.argmax(axis=1) == true.argmax(axis=1),
            "named": named > 0,
            "named_right": (named > 0) & (named == 1 + true.argmax(axis=1)),
            "clear": true[:, 0] >= CLEAR,
            "apart": (true >= CLEAR).all(axis=1),
            "ratio_12": true[:, 0],
        }
        for name, value in values.items():
            found.setdefault(name, []).append(value)
    return {name: np.concatenate(value) for name, value in found.items()}


def _joined(parts: Sequence[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def summarise(found: dict[str, Array]) -> dict[str, Any]:
    """Medians and 95th percentiles: of all windows, of those where sigma_1 is clear, where it is not, where all are."""
    clear, apart = found["clear"], found["apart"]
    named = found["named"]
    return {
        "all": _errors(found, np.ones_like(clear)),
        "clear": _errors(found, clear),
        "close": _errors(found, ~clear),
        "clear_and_all_apart": _errors(found, clear & apart),
        "k_kept": float(found["kept"].mean()),
        "k_named": float(named.mean()),
        "k_named_right": float(found["named_right"][named].mean()) if named.any() else None,
    }


def _errors(found: dict[str, Array], where: Array) -> dict[str, Any] | None:
    if not where.any():
        return None
    named = ("sigma_1", "worst", "R", "g23")
    return {"pairs": int(where.sum())} | {
        name: [float(np.median(found[name][where])), float(np.quantile(found[name][where], 0.95))] for name in named
    }


# real updates --------------------------------------------------------------------------------------------------------


def _real(options: Options) -> list[dict[str, Any]]:
    seeds = range(1 if options.quick else SEEDS)
    sizes = QUICK_CELLS if options.quick else CELLS
    found: list[dict[str, Any]] = []
    for task, phases in (("modular addition", _arithmetic(options)), ("GPT on Markov text", _text(options))):
        parts: dict[tuple[str, int], list[dict[str, Array]]] = {}
        described: list[dict[str, Any]] = []
        size = 0
        for phase, snapshots in phases:
            size = sum(value.numel() for value in snapshots[0].values())
            say(f"accuracy: {task}, {phase}")
            for grouping in GROUPINGS:
                for cells in sizes:
                    parts.setdefault((grouping, cells), []).append(compare(snapshots, grouping, cells, seeds))
            newest = parts["one group", max(CELLS)][-1]
            described.append(
                {
                    "phase": phase,
                    "windows": (len(snapshots) - 1) // WINDOW,
                    "ratio_12": [float(q) for q in np.quantile(newest["ratio_12"], (0, 0.5, 1))],
                    "at_most_cells": summarise(newest),
                }
            )
        found.append(
            {
                "task": task,
                "parameters": size,
                "sketch_seeds": len(seeds),
                "phases": described,
                "summary": {
                    grouping: {cells: summarise(_joined(parts[grouping, cells])) for cells in sizes}
                    for grouping in GROUPINGS
                },
            }
        )
    return found


def _arithmetic(options: Options) -> Iterator[tuple[str, Snapshots]]:
    """A transformer learns to add modulo 97, through memorising and grokking."""
    size = "cpu" if options.quick else "reference"
    config = configure("arithmetic", size=size, seed=options.seed)
    task = config.task.build(seed=options.seed, weight_decay=config.weight_decay, device="cpu")
    plan = [(0, 1, 4), (400, 1, 4), (600, 24, 3), (1_500, 1, 4)]
    yield from _phases(task.model, task.train_step, [(0, 1, 1)] if options.quick else plan)


def _text(options: Options) -> Iterator[tuple[str, Snapshots]]:
    """A GPT learns a Markov chain."""
    shape = SIZES["toy" if options.quick else "5M"]
    model = GPT(shape, seed=options.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    text = MarkovText(shape.vocabulary, seed=options.seed)
    length = min(128, shape.context)

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        model.loss(text.batch(4, length + 1)).backward()
        optimizer.step()

    yield from _phases(model, train, [(0, 1, 1)] if options.quick else [(0, 1, 3), (150, 1, 3), (200, 5, 3)])


def _phases(model: nn.Module, train: Any, plan: Sequence[tuple[int, int, int]]) -> Iterator[tuple[str, Snapshots]]:
    """Snapshots of phases: from a step on, every so many steps, as many windows."""
    step = 0
    for start, every, windows in plan:
        while step < start:
            train()
            step += 1
        snapshots = [_copy(model)]
        for _ in range(windows * WINDOW):
            for _ in range(every):
                train()
                step += 1
            snapshots.append(_copy(model))
        often = "every step" if every == 1 else f"every {every} steps"
        yield f"steps {start:,} to {step:,}, {often}", snapshots


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


# constructed updates -------------------------------------------------------------------------------------------------


def _pairs(
    options: Options, direction: constructed.Direction | None, first: int
) -> dict[str, dict[int, dict[str, Array]]]:
    """Errors over window-seed pairs, by grouping and cells."""
    shapes = constructed.layout(options.quick)
    sizes = QUICK_CELLS if options.quick else CELLS
    parts: dict[str, dict[int, list[dict[str, Array]]]] = {name: {cells: [] for cells in sizes} for name in GROUPINGS}
    for pair in range(1 if options.quick else PAIRS):
        snapshots = constructed.window(shapes, direction, seed=1000 * options.seed + first + pair)
        for grouping, by_cells in parts.items():
            for cells, found in by_cells.items():
                found.append(compare(snapshots, grouping, cells, [first + pair]))
    return {name: {cells: _joined(found) for cells, found in by_cells.items()} for name, by_cells in parts.items()}


def _constructed(options: Options) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, (name, direction) in enumerate(constructed.SETS.items()):
        say(f"accuracy: {name}")
        found[name] = {
            grouping: {cells: summarise(errors) for cells, errors in by_cells.items()}
            for grouping, by_cells in _pairs(options, direction, 100 * (1 + number)).items()
        }
    size = constructed.total(constructed.layout(options.quick))
    return {"parameters": size, "pairs": 1 if options.quick else PAIRS, "sets": found}


def _flat(options: Options) -> dict[str, Any]:
    """The spread of equal singular values: independent updates, whose true ratios are all close to 1."""
    say("accuracy: flat spectrum")
    return {
        grouping: {
            cells: {
                "pairs": len(errors["worst"]),
                "worst": [float(np.median(errors["worst"])), float(np.quantile(errors["worst"], 0.95))],
                "R": [float(np.median(errors["R_sketched"])), float(np.quantile(errors["R_sketched"], 0.95))],
                "k_named": float(errors["named"].mean()),
            }
            for cells, errors in by_cells.items()
        }
        for grouping, by_cells in _pairs(options, None, 0).items()
    }
