"""What the verbs of the command line share: how they print, warn and fail."""

import json
import shutil
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from spectral_edge.errors import InputError

Json = Annotated[bool, Parameter(name="--json")]

COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
"""Of a progress bar."""

EXIT_FAILED = 1
EXIT_INPUT = 2
EXIT_UNFINISHED = 75
EXIT_INTERRUPTED = 130


def program() -> str:
    """How this program was called, so that advice can be typed as it stands."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{Path(sys.executable).name} -m spectral_edge"
    return called.name if shutil.which(called.name) else str(called)


def at_least(option: str, value: int, least: int, unit: str = "") -> None:
    """Refuses a number that is too small.

    Raises:
        InputError: if it is.
    """
    if value < least:
        expected = f"at least {least} {unit}".rstrip()
        raise InputError(option, expected=expected, found=str(value), remedy=f"use a larger {option}")


def above_zero(option: str, value: float | None) -> None:
    """Refuses a number that is not above 0; None, where the option was left out, is none.

    Raises:
        InputError: if it is.
    """
    if value is not None and not value > 0:
        raise InputError(option, expected="a number above 0", found=f"{value:g}", remedy=f"use a larger {option}")


@contextmanager
def terminated() -> Generator[None]:
    """SIGTERM ends what runs inside as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def fail(message: str, code: int) -> NoReturn:
    """Ends the program with a message on standard error."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(message, markup=False)
    sys.exit(code)


def show_warning(message: Warning | str, *_: Any) -> None:
    """A warning as one line; Python's own form shows a line of source."""
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)


def print_json(plain: Any) -> None:
    """Prints plain values as one JSON object."""
    print(json.dumps(plain, indent=1, allow_nan=False))
