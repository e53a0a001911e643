"""Exceptions that say what was expected, what was found and what to do, and the outcomes of an observation.

Nothing here is raised inside a training loop: a monitor turns trouble into an `Outcome` and a warning.
"""

import inspect
import warnings
from enum import IntEnum
from pathlib import Path
from typing import Any


class SpectralEdgeError(Exception):
    """Base of every error that the library raises.

    Args:
        subject: what the error is about, for instance a file or an argument.
        expected: what would have been accepted.
        found: what was there.
        remedy: what the user can do.
    """

    def __init__(self, subject: str, *, expected: str, found: str, remedy: str) -> None:
        self.subject, self.expected, self.found, self.remedy = subject, expected, found, remedy
        super().__init__(f"{subject}: expected {expected}, got {found}; {remedy}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), str(self), dict(self.__dict__))


def _restore(kind: type[SpectralEdgeError], message: str, fields: dict[str, Any]) -> SpectralEdgeError:
    """An error as another process raised it; the keywords of its class may differ from class to class."""
    error = kind.__new__(kind, message)
    error.__dict__.update(fields)
    return error


class InputError(SpectralEdgeError, ValueError):
    """An argument, a source or a snapshot that cannot be used."""


def unwritable(folder: str, error: OSError, *, remedy: str) -> InputError:
    """What is said of a folder that cannot be made or written."""
    return InputError(
        folder, expected="a folder that can be written", found=error.strerror or str(error), remedy=remedy
    )


class TraceError(SpectralEdgeError):
    """A trace that cannot be read, or that does not hold what was asked of it."""


class RunError(SpectralEdgeError):
    """A run that ended without a result."""


class MissingExtraError(SpectralEdgeError, ImportError):
    """An optional package that is not installed.

    Args:
        package: the module that could not be imported.
        extra: the extra of this package that installs it.
        purpose: what it is needed for.
    """

    def __init__(self, package: str, *, extra: str, purpose: str) -> None:
        super().__init__(
            purpose,
            expected=f"the package {package}",
            found="none installed",
            remedy=f"install it with: pip install 'spectral-edge[{extra}]'",
        )


class SpectralEdgeWarning(UserWarning):
    """Every warning that the library gives during a run."""


def warn(message: str) -> None:
    """Warns at the line of the user's code that led here, past this library and PyTorch's decorators."""
    level, frame = 2, inspect.currentframe()
    frame = frame and frame.f_back
    while frame is not None and _inside(frame.f_code.co_filename):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, SpectralEdgeWarning, stacklevel=level)


def _inside(filename: str) -> bool:
    return filename.startswith(str(Path(__file__).parent)) or filename.endswith("_contextlib.py")


class Outcome(IntEnum):
    """What became of an observation, or why a quantity is undefined; `sentence` says it in words."""

    OK = 0
    # observations
    SKIPPED = 1
    ROUNDED_AWAY = 2
    NON_FINITE = 3
    PARAMETERS_CHANGED = 4
    HOLE = 5
    REWOUND = 6
    RESUMED = 7
    WRITE_FAILED = 8
    FAILED = 9
    NOT_RESTORED = 10
    REPLICAS_DRIFTED = 11
    STRETCHED = 12
    # undefined quantities
    WINDOW_NOT_FULL = 20
    HORIZON_TOO_SHORT = 21
    HISTORY_TOO_SHORT = 22
    WINDOW_TOO_SMALL = 23
    ZERO_UPDATES = 24
    RANK_DEFICIENT = 25
    NO_GAP = 26
    TIED = 27
    INSIDE_BAND = 28
    NO_LEARNING_RATE = 29
    NOT_RECORDED = 30
    # defined, with a reservation
    UNINFORMATIVE = 40
    MEMORY_ASSUMED = 41

    def __str__(self) -> str:
        return self.name

    @property
    def sentence(self) -> str:
        """One sentence that a user can act on."""
        return _SENTENCES[self]


_SENTENCES: dict[Outcome, str] = {
    Outcome.OK: "Recorded.",
    Outcome.SKIPPED: "No watched parameter moved, as the optimizer did not step; the row is kept out of the window.",
    Outcome.ROUNDED_AWAY: "The optimizer stepped but no watched parameter moved: the updates are zero or round away "
    "in the parameters' dtype; watch float32 master weights.",
    Outcome.NON_FINITE: "A watched parameter is NaN or infinite; the window restarts at the next finite snapshot.",
    Outcome.PARAMETERS_CHANGED: "The set of watched parameters changed: a new segment starts and the window restarts.",
    Outcome.HOLE: "The interval is over 1.5 times the median: nothing is differenced across it, the window restarts.",
    Outcome.REWOUND: "An earlier checkpoint was loaded; a new generation starts there, the old branch stays readable.",
    Outcome.RESUMED: "The run continues from its newest checkpoint.",
    Outcome.WRITE_FAILED: "The trace could not be written; rows are kept in memory and tried again.",
    Outcome.FAILED: "An observation failed, so an update was missed; the window restarts.",
    Outcome.NOT_RESTORED: "The first update after resuming is over twenty times any before it: weights or optimizer "
    "state were not restored; the row is left out and the window restarts.",
    Outcome.REPLICAS_DRIFTED: "Ranks that should hold equal parameters do not; their gradients are not averaged, or "
    "one of them resumed from another checkpoint.",
    Outcome.STRETCHED: "Observation exceeded its budget, so it happens less often from here on; the window restarts.",
    Outcome.WINDOW_NOT_FULL: "Fewer updates than the window needs have been seen since the last restart.",
    Outcome.HORIZON_TOO_SHORT: "The recorded horizon is shorter than this window, stride and lag need.",
    Outcome.HISTORY_TOO_SHORT: "Fewer updates than this lag needs have been seen since the last restart.",
    Outcome.WINDOW_TOO_SMALL: "The window has too few rows for this quantity.",
    Outcome.ZERO_UPDATES: "An update in the window is exactly zero, so it has no direction.",
    Outcome.RANK_DEFICIENT: "The window's rank is below two, so it has no ratio of consecutive singular values.",
    Outcome.NO_GAP: "The gap at k* is zero to rounding, so nothing can be divided by it.",
    Outcome.TIED: "Another position's ratio lies within two standard errors of measurement of the largest.",
    Outcome.INSIDE_BAND: "The largest ratio lies inside the null band, so no position is singled out.",
    Outcome.NO_LEARNING_RATE: "No learning rate was logged with the row.",
    Outcome.NOT_RECORDED: "The trace does not hold what this quantity needs.",
    Outcome.UNINFORMATIVE: "With fewer than four rows k* has two positions or one to choose from: it says nothing.",
    Outcome.MEMORY_ASSUMED: "The optimizer's memory is unknown: the band assumes updates without memory.",
}
