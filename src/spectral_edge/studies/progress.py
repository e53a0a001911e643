"""What is done, failed, running or left of a study, from what lies in its folder."""

import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from spectral_edge.errors import InputError
from spectral_edge.experiments import RunConfig, check_folder

PROGRESS, FAILURE, RESULT = "progress.json", "failure.txt", "result.json"

SILENT_AFTER = 600.0
"""Seconds without a word after which a run does not count as running, whatever process has its number now."""


@dataclass(frozen=True, slots=True)
class State:
    """Where one run stands.

    Attributes:
        name: of the run.
        role: in the study's design.
        status: "done", "failed", "running" or "left".
        step: steps taken.
        steps: steps to take, at most.
        seconds: time spent training so far.
        grok: step of the transition, by the sustained criterion at 95 %, where it happened.
        note: what went wrong, or which twin it waits for.
    """

    name: str
    role: str
    status: str
    step: int = 0
    steps: int = 0
    seconds: float = 0.0
    grok: int | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


class Recorded(NamedTuple):
    """What is asked of a finished run's result.

    Attributes:
        config: its whole configuration.
        steps: steps taken.
        seconds: time spent training.
        grok: step of the transition, where it happened.
    """

    config: dict[str, Any]
    steps: int
    seconds: float
    grok: int | None


def say(folder: Path, *, step: int, seconds: float) -> None:
    """Leaves word of a run's progress in this process; what cannot be written is not worth failing for."""
    told = {"step": step, "seconds": round(seconds, 1), "pid": os.getpid(), "machine": platform.node()}
    temporary = folder / (PROGRESS + ".tmp")
    try:
        temporary.write_text(json.dumps({**told, "at": time.time()}), encoding="utf-8")
        os.replace(temporary, folder / PROGRESS)
    except OSError:
        return


def state_of(folder: Path, name: str, role: str, config: RunConfig) -> State:
    """Where a run stands, from its folder.

    Args:
        folder: the run's.
        name: of the run.
        role: in the study's design.
        config: what it is to be; a result of other settings is a failure that names them.
    """
    steps = config.steps
    result = recorded(folder)
    if result is not None:
        other = "" if result.config == json.loads(json.dumps(config.to_dict())) else _refused(folder, config)
        if other:
            return State(name, role, "failed", result.steps, steps, result.seconds, None, other)
        return State(name, role, "done", result.steps, result.steps, result.seconds, result.grok)
    heard = read_json(folder / PROGRESS) or {}
    step, seconds = int(heard.get("step", 0)), float(heard.get("seconds", 0.0))
    if (folder / FAILURE).exists():
        text = (folder / FAILURE).read_text(encoding="utf-8").strip().splitlines()
        return State(name, role, "failed", step, steps, seconds, None, text[0] if text else "no message")
    return State(name, role, "running" if _lives(heard) else "left", step, steps, seconds)


def recorded(folder: Path) -> Recorded | None:
    """The result of a finished run, or None where there is none or it is torn; read once."""
    path = folder / RESULT
    try:
        found = path.stat()
    except OSError:
        return None
    return _recorded(path, found.st_mtime_ns, found.st_size)


@cache
def _recorded(path: Path, changed: int, size: int) -> Recorded | None:
    result = read_json(path)
    if not result or not {"config", "steps", "wall_seconds"} <= result.keys():
        return None
    grok = result.get("grok", {}).get("sustained_95")
    return Recorded(result["config"], result["steps"], result["wall_seconds"], grok)


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where there is none or it is torn."""
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return dict(found) if isinstance(found, dict) else None


def _refused(folder: Path, config: RunConfig) -> str:
    """Why a run of this configuration may not be what the folder holds; empty where it may."""
    try:
        check_folder(config, folder)
    except InputError as error:
        return str(error)
    return ""


def _lives(heard: Mapping[str, Any]) -> bool:
    """Whether the process that left word is still there; one on another machine is believed for a while."""
    if time.time() - float(heard.get("at", 0.0)) > SILENT_AFTER:
        return False
    if heard.get("machine") != platform.node():
        return True
    try:
        os.kill(int(heard["pid"]), 0)
    except PermissionError:
        return True
    except (OSError, KeyError):
        return False
    return True
