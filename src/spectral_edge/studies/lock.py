"""One process at a time: on a study's folder, and on a run's.

The operating system holds the lock and lets go of it when the process ends, however it ends, so that a lock that was
left behind is taken over at once. The process's number in the file is for people.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from spectral_edge.errors import InputError, unwritable

try:
    import fcntl
except ImportError:  # Windows has no such locks: nothing is refused there
    fcntl = None

LOCK = ".lock"


def try_lock(folder: Path) -> TextIO | None:
    """The lock of a folder, which exists; None where a living process has it."""
    path = folder / LOCK
    while True:
        file = path.open("a+", encoding="utf-8")
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                return None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                file.truncate(0)
                file.write(f"{os.getpid()}\n")
                file.flush()
                return file
        file.close()  # its last owner removed it in between


def unlock(file: TextIO) -> None:
    """Lets go of a lock and removes its file."""
    with suppress(OSError):
        os.unlink(file.name)
    file.close()


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """Makes a study's folder where it is missing, and holds its lock.

    Raises:
        InputError: where the folder cannot be written, or a living process has it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = try_lock(folder)
    except OSError as error:
        raise unwritable(f"study folder {folder}", error, remedy="choose another --out") from error
    if file is None:
        raise InputError(
            f"study folder {folder}",
            expected="a folder that no other process works on",
            found=f"process {(folder / LOCK).read_text(encoding='utf-8').strip() or 'unknown'} at work",
            remedy="wait for it, end it, or choose another folder",
        )
    try:
        yield
    finally:
        unlock(file)
