"""The folder of a run: checkpoint and result, both replaced in one step, and the check that they belong together.

`checkpoint.pt` is the newest state, `result.json` the summary of a finished run, `trace/` the monitor's trace.
"""

import errno
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch

from spectral_edge.errors import InputError

CHECKPOINT, RESULT, TRACE = "checkpoint.pt", "result.json", "trace"
_LISTS = re.compile(r"\[\n([^\[\]{}\"]*)\n *\]")
"""Lists of numbers in a JSON text with a line for each."""

# A checkpoint is read without running code from it: tensors, plain types and NumPy's arrays and scalars, whose two
# constructors NumPy names only through what it pickles.
_READABLE: list[Any] = [
    bytes,
    np.ndarray,
    np.dtype,
    np.empty(0).__reduce__()[0],
    np.float64(0).__reduce__()[0],
    *{type(np.dtype(code)) for code in (*np.typecodes["AllInteger"], *np.typecodes["Float"], "?", "U")},
]


class RunFolder:
    """Where a run is kept.

    Args:
        path: the folder; it need not exist yet.
        config: the run's configuration as plain types; what was recorded under another one is refused.
    """

    def __init__(self, path: Path, *, config: Mapping[str, Any]) -> None:
        self.path = path
        # As JSON reads it back, so that it can be compared with what was recorded.
        self._config: dict[str, Any] = json.loads(json.dumps(config))

    @property
    def trace(self) -> Path:
        """Where the monitor writes."""
        return self.path / TRACE

    def refuse_used(self) -> None:
        """Raise `InputError` where a run was already recorded."""
        for name in (RESULT, CHECKPOINT):
            if (self.path / name).exists():
                raise InputError(
                    f"run folder {self.path}",
                    expected="a folder without a run, because resume is off",
                    found=name,
                    remedy="choose another folder, or resume",
                )

    def check_writable(self) -> None:
        """Raise `InputError` where the folder cannot be made or written; it is not made yet."""
        nearest = next(path for path in (self.path, *self.path.absolute().parents) if path.exists())
        try:
            with tempfile.TemporaryDirectory(dir=nearest):
                pass
        except OSError as error:
            raise InputError(
                f"run folder {self.path}",
                expected="a folder that can be written",
                found=f"{error.strerror or error} at {nearest}",
                remedy="choose another folder",
            ) from error

    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint; a kill at any instant leaves the old or the new one.

        Raises:
            OSError: where it cannot be written; the old one is still there then.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        _replace(self.path / CHECKPOINT, lambda file: torch.save({"config": self._config, **state}, file))

    def load_checkpoint(self, *, device: str) -> dict[str, Any] | None:
        """The newest checkpoint, or None where there is none.

        Args:
            device: where its tensors go; the task moves what belongs elsewhere.

        Raises:
            InputError: where it cannot be read or was written under another configuration.
        """
        path = self.path / CHECKPOINT
        if not path.exists():
            return None
        try:
            with torch.serialization.safe_globals(_READABLE):
                state = cast("dict[str, Any]", torch.load(path, map_location=device, weights_only=True))
            recorded = state["config"]
        except Exception as error:
            raise InputError(
                f"checkpoint {path}",
                expected="a checkpoint of this library",
                found=f"a file that cannot be read ({type(error).__name__})",
                remedy="remove the run folder and start again",
            ) from error
        self._check(recorded)
        return state

    def save_result(self, result: Mapping[str, Any]) -> None:
        """Replace the result.

        Raises:
            OSError: where it cannot be written.
        """
        # A line for each number would make up half of the file.
        text = json.dumps(result, indent=2, allow_nan=False)
        text = _LISTS.sub(lambda found: f"[{' '.join(found[1].split())}]", text)
        _replace(self.path / RESULT, lambda file: file.write(f"{text}\n".encode()))

    def load_result(self) -> dict[str, Any] | None:
        """The recorded result, or None where the run has not finished.

        Raises:
            InputError: where it cannot be read or was written under another configuration.
        """
        path = self.path / RESULT
        if not path.exists():
            return None
        try:
            result = cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))
            recorded = result["config"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"result {path}",
                expected="a result of this library",
                found="a file that cannot be read",
                remedy="remove it; the run then goes on at its checkpoint, or is trained again where it has none",
            ) from error
        self._check(recorded)
        return result

    def _check(self, recorded: Mapping[str, Any]) -> None:
        different = _differences(recorded, self._config)
        if different:
            raise InputError(
                f"run folder {self.path}",
                expected=", ".join(f"{name}={old!r}" for name, (old, _) in different.items()),
                found=", ".join(f"{name}={new!r}" for name, (_, new) in different.items()),
                remedy="choose another folder, or the configuration that this one was made with",
            )


def _replace(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes beside the file and takes its place; what cannot be written whole leaves nothing."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch tells of a full disk by the latter
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        number, words = (error.errno, error.strerror) if isinstance(error, OSError) else (errno.EIO, None)
        raise OSError(number, words or "it could not be written whole; is the disk full?", str(path)) from error


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted names of the settings that differ, with both values; a missing one counts as None."""
    different: dict[str, tuple[Any, Any]] = {}
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            different |= _differences(
                cast("Mapping[str, Any]", before), cast("Mapping[str, Any]", after), f"{prefix}{name}."
            )
        elif before != after:
            different[prefix + name] = (before, after)
    return different
