"""What is done, failed or left of a study, from what lies in its folder."""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PROGRESS, FAILURE = "progress.json", "failure.txt"

SILENT_AFTER = 120.0
"""Seconds without a word after which a run that has not ended counts as left: its process is gone."""


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
        note: what went wrong, or that its twin has not ended.
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


def say(folder: Path, **values: Any) -> None:
    """Leaves word of a run's progress; what cannot be written is not worth failing for."""
    temporary = folder / (PROGRESS + ".tmp")
    try:
        temporary.write_text(json.dumps({**values, "at": time.time()}), encoding="utf-8")
        os.replace(temporary, folder / PROGRESS)
    except OSError:
        return


def state_of(folder: Path, name: str, role: str, steps: int) -> State:
    """Where a run stands, from its folder."""
    result = read_json(folder / "result.json")
    if result is not None:
        grok = result.get("grok", {}).get("sustained_95")
        return State(name, role, "done", result["steps"], result["steps"], result["wall_seconds"], grok)
    heard = read_json(folder / PROGRESS) or {}
    step, seconds = int(heard.get("step", 0)), float(heard.get("seconds", 0.0))
    if (folder / FAILURE).exists():
        text = (folder / FAILURE).read_text(encoding="utf-8").strip().splitlines()
        return State(name, role, "failed", step, steps, seconds, None, text[0] if text else "no message")
    running = time.time() - float(heard.get("at", 0.0)) < SILENT_AFTER
    return State(name, role, "running" if running else "left", step, steps, seconds)


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where there is none or it is torn."""
    try:
        found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return dict(found)
