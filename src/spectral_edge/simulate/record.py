"""Results of simulations as plain values, and their record beside what made them."""

import argparse
import json
import math
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """A result as JSON knows it: dataclasses become objects, arrays lists, what is not finite null."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def save(path: Path, *, command: str, settings: Mapping[str, Any], numbers: Mapping[str, Any]) -> None:
    """Records numbers with the command, the settings and the versions that gave them.

    Args:
        path: the JSON file; missing folders are made.
        command: what gives the numbers again, from the repository's root.
        settings: of the run, seeds included.
        numbers: what came out.
    """
    versions = {name: version(name) for name in ("spectral-edge", "numpy", "scipy", "torch")}
    made = {
        "command": command,
        "settings": plain(settings),
        "numbers": plain(numbers),
        "versions": {"python": platform.python_version(), **versions},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(made, indent=1, allow_nan=False) + "\n", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Options:
    """What every script that makes a figure of the documentation accepts.

    Attributes:
        quick: seconds-long, for tests; its numbers are not to be quoted.
        again: on other seeds, recorded beside the first.
        out: folder of the picture.
        results: folder of the numbers.
        command: what was typed, from the repository's root.
    """

    quick: bool
    again: bool
    out: Path
    results: Path
    command: str


def script_options(
    description: str, name: str, *, results: str = "results/theory", again: str | None = None
) -> Options:
    """Parses the options of a script.

    Args:
        description: what it shows.
        name: of the script, as typed from the repository's root.
        results: default folder of the numbers.
        again: help of the option --again; None leaves it out.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a seconds-long version, not to be quoted")
    if again is not None:
        parser.add_argument("--again", action="store_true", help=again)
    parser.add_argument("--out", type=Path, default=Path("docs/images/theory"), help="folder of the picture")
    parser.add_argument("--results", type=Path, default=Path(results), help="folder of the numbers")
    found = parser.parse_args()
    found.out.mkdir(parents=True, exist_ok=True)
    typed = [argument for argument in sys.argv[1:] if argument in ("--quick", "--again")]
    return Options(
        found.quick, again is not None and found.again, found.out, found.results, shlex.join(["python", name, *typed])
    )
