"""What a study costs: from the runs that are recorded in its folder where there are some like it, else from a table."""

import json
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

from spectral_edge.experiments import RunConfig, TaskConfig
from spectral_edge.studies.plan import Study
from spectral_edge.studies.progress import State, recorded

SECONDS_PER_STEP: dict[tuple[str, str], float] = {
    ("arithmetic", "cpu"): 0.019,
    ("arithmetic", "middle"): 0.03,
    ("arithmetic", "reference"): 0.048,
    ("dual", "cpu"): 0.045,
    ("dual", "reference"): 0.052,
    ("tri", "cpu"): 0.045,
    ("tri", "reference"): 0.052,
    ("dyck", "cpu"): 0.02,
    ("dyck", "reference"): 0.05,
    ("scan", "cpu"): 0.034,
    ("stories", "cpu"): 0.12,
    ("shift", "cpu"): 0.083,
    ("patterns", "cpu"): 0.012,
    ("patterns", "small"): 0.005,
    ("patterns", "large"): 0.022,
}
"""Seconds a step by family and size, watched and evaluated as in the studies, on one thread of an idle machine."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What is left of one run.

    Attributes:
        steps: steps that it will have taken in the end: those that recorded runs of other seeds took, else at most.
        at_most: whether the stop rule may end it earlier.
        seconds: seconds of one core that are left; None where nothing is known of its family and size.
        measured: whether that follows from runs in the folder rather than from the table.
    """

    steps: int
    at_most: bool
    seconds: float | None
    measured: bool


def costs(study: Study, out: Path, found: list[State]) -> dict[str, Cost]:
    """What is left of every run of a study.

    Args:
        study: the runs.
        out: the study's folder.
        found: where they stand.

    Returns:
        The name of each run to its cost; nothing is left of one that is done.
    """
    speeds, lengths = _recorded(out)
    known: dict[str, Cost] = {}
    for planned, state in zip(study.runs, found, strict=True):
        config, at_most = planned.config, planned.config.stop_after is not None
        if planned.twin in known:
            twin = known[planned.twin]
            config, at_most = planned.resolved(twin.steps), twin.at_most
        steps, plain = config.steps, config.to_dict()
        if state.status == "done":
            steps, at_most = state.step, False
        elif planned.twin is None and (taken := lengths.get(_kind(plain))):
            steps, at_most = round(median(taken)), False
        speed = speeds.get((config.family, config.size, _width(plain)))
        rate = median(speed) if speed else _from_table(config)
        left = 0 if state.status == "done" else max(0, steps - state.step)
        seconds = 0.0 if not left else None if rate is None else rate * left
        known[planned.name] = Cost(steps, at_most, seconds, measured=bool(speed))
    return known


def _recorded(out: Path) -> tuple[dict[Any, list[float]], dict[str, list[int]]]:
    """Seconds a step by family, size and width, and steps by kind, of all runs that a folder holds."""
    speeds: dict[Any, list[float]] = defaultdict(list)
    lengths: dict[str, list[int]] = defaultdict(list)
    for path in out.glob("*/result.json"):
        result = recorded(path.parent)
        if result is not None:
            config = result.config
            speeds[config["family"], config["size"], _width(config)].append(result.seconds / result.steps)
            lengths[_kind(config)].append(result.steps)
    return speeds, lengths


def _kind(config: dict[str, Any]) -> str:
    """What runs share that differ in their seed alone."""
    return json.dumps({name: value for name, value in config.items() if name != "seed"}, sort_keys=True)


def _width(config: dict[str, Any]) -> tuple[int, int]:
    """Width and depth of the network, by which runs of one size may still differ."""
    return config["task"].get("d_model", 1), config["task"].get("layers", 1)


def _from_table(config: RunConfig) -> float | None:
    """The table's seconds, less in proportion to width and depth where these are reduced from the size's own."""
    known = SECONDS_PER_STEP.get((config.family, config.size))
    if known is None:
        return None
    return known * prod(_width(config.to_dict())) / prod(_usual_width(type(config.task), config.size))


@lru_cache
def _usual_width(kind: type[TaskConfig], size: str) -> tuple[int, int]:
    return _width(kind.preset(size).to_dict())
