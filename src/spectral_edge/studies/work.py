"""Works a study off: every run in a folder of its own, resumable at any instant, and a manifest of what made what.

A finished run leaves `result.json` and a compact `trace/`; what it needed to be resumed is removed. `study.json` is the
manifest.
"""

import json
import multiprocessing
import os
import platform
import signal
import subprocess
import time
import traceback
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from threading import Event
from types import FrameType
from typing import Any

from spectral_edge.errors import InputError, SpectralEdgeWarning
from spectral_edge.experiments import Progress, RunConfig, run
from spectral_edge.experiments.folder import TRACE
from spectral_edge.studies.lock import locked, try_lock, unlock
from spectral_edge.studies.plan import Planned, Study
from spectral_edge.studies.pool import Job, Pool
from spectral_edge.studies.progress import FAILURE, PROGRESS, State, read_json, recorded, say, state_of
from spectral_edge.trace import compact

MANIFEST, STOP = "study.json", ".stop"
_SAY_EVERY, _LOOK_EVERY = 1.0, 1.0
"""Seconds between two words of a run, and between two looks at the pool."""


def work(
    study: Study,
    out: Path,
    pool: Pool,
    *,
    command: str,
    on_change: Callable[[list[State]], None],
    minutes: float | None = None,
) -> list[State]:
    """Runs what is left of a study.

    A run that was interrupted goes on at its last checkpoint, one that failed is tried again, one that is done is not
    repeated. A run whose twin failed is left out.

    Args:
        study: what to run.
        out: the study's folder.
        pool: where to run it.
        command: what was typed, for the manifest.
        on_change: called now and then with where every run stands.
        minutes: start nothing and have what is under way save itself after so long; None for no end.

    Returns:
        Where every run stands in the end.

    Raises:
        InputError: if the folder holds another study or cannot be written, or another process works on it.
        KeyboardInterrupt: on Ctrl-C, after the runs under way saved themselves; a second one ends them at once.
    """
    with locked(out):
        (out / STOP).unlink(missing_ok=True)
        write_manifest(study, out, command)
        sitting = _Sitting(study, out, pool)
        try:
            sitting.work(on_change, ends=None if minutes is None else time.monotonic() + 60 * minutes)
        except BaseException:
            sitting.save()
            raise
        finally:
            (out / STOP).unlink(missing_ok=True)
        found = states(study, out)
        on_change(found)
        return found


def states(study: Study, out: Path) -> list[State]:
    """Where every run of a study stands."""
    return [state for _, _, state in _survey(study, out)]


class _Sitting:
    """One go at a study: what waits to be started and what is under way."""

    def __init__(self, study: Study, out: Path, pool: Pool) -> None:
        self._study, self._out, self._pool = study, out, pool
        self._waiting = {planned.name for planned in study.runs}
        self._jobs: dict[str, Job] = {}

    def work(self, on_change: Callable[[list[State]], None], *, ends: float | None) -> None:
        """Starts and follows runs until none is left, or until it is time to end."""
        while self._waiting or self._jobs:
            if ends is not None and time.monotonic() >= ends:
                self.save()
                return
            found = _survey(self._study, self._out)
            for planned, config, state in found:
                if planned.name in self._waiting:
                    self._start(planned, config, state)
            on_change([state for _, _, state in found])
            self._settle()
            if self._jobs:
                time.sleep(_LOOK_EVERY)

    def save(self) -> None:
        """Has what is under way save itself and end; what does not is ended when this is interrupted."""
        (self._out / STOP).touch()
        try:
            while self._jobs:
                self._settle()
                time.sleep(_LOOK_EVERY / 10)
        except BaseException:
            self._pool.kill()
            raise

    def _start(self, planned: Planned, config: RunConfig | None, state: State) -> None:
        folder, name = self._out / planned.name, planned.name
        if config is None:
            if planned.twin not in self._waiting and planned.twin not in self._jobs:
                self._waiting.discard(name)  # its twin failed
        elif recorded(folder) is not None:
            self._waiting.discard(name)
            if state.status == "done":
                _tidy(folder)  # a kill may have come between result and tidying
        elif len(self._jobs) < self._pool.room:
            self._waiting.discard(name)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / FAILURE).unlink(missing_ok=True)
            self._jobs[name] = self._pool.submit(train, config, folder)

    def _settle(self) -> None:
        """Takes note of what ended."""
        for name in [name for name, job in self._jobs.items() if job.done()]:
            folder = self._out / name
            try:
                if not self._jobs.pop(name).result() and not (self._out / STOP).exists():
                    self._waiting.add(name)  # its time on the cluster was up
            except Exception as error:  # its process died: the others go on
                _failed(folder, error)
            if recorded(folder) is not None:
                _note_finished(self._out, name)


def _survey(study: Study, out: Path) -> list[tuple[Planned, RunConfig | None, State]]:
    """Every run, its configuration and where it stands; no configuration where its twin has not ended."""
    found: list[tuple[Planned, RunConfig | None, State]] = []
    known: dict[str, State] = {}
    for planned in study.runs:
        folder, twin = out / planned.name, known.get(planned.twin or "")
        config = planned.config if twin is None else planned.resolved(twin.step) if twin.status == "done" else None
        if config is not None:
            state = state_of(folder, planned.name, planned.role, config)
        elif (result := recorded(folder)) is not None:
            # Its twin is gone and will be made anew: it may still be right.
            config_then = replace(planned.config, steps=result.config.get("steps", 1))
            state = state_of(folder, planned.name, planned.role, config_then)
        else:
            note = f"waits for {planned.twin}"
            state = State(planned.name, planned.role, "left", 0, planned.config.steps, 0.0, None, note)
        known[planned.name] = state
        found.append((planned, config, state))
    return found


def write_manifest(study: Study, out: Path, command: str) -> None:
    """Says which code and versions made a study, and with which configuration each run is made.

    It lists the whole study, also where only some runs of it are worked off, and recorded runs of an earlier plan. Of a
    run with a twin it says the most steps; how many it takes is known once the twin has ended.

    Raises:
        InputError: if the folder holds another study.
    """
    known = read_json(out / MANIFEST)
    if known is not None and known.get("study") != study.name:
        raise InputError(
            f"folder {out}",
            expected=f"study {study.name}",
            found=f"study {known.get('study')}",
            remedy="choose another --out",
        )
    plan = {
        planned.name: {
            "role": planned.role,
            "twin": planned.twin,
            "half": planned.half,
            "config": planned.config.to_dict(),
        }
        for planned in study.whole or study.runs
    }
    known_runs = (known or {}).get("runs", {})
    earlier = {name: run for name, run in known_runs.items() if name not in plan and recorded(out / name) is not None}
    sittings = (known or {}).get("sittings", [])
    sittings.append({"started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "command": command, **code()})
    manifest = {
        "study": study.name,
        "question": study.question,
        "sittings": sittings,
        "runs": {**plan, **earlier},
    }
    _write(out / MANIFEST, manifest)


def code() -> dict[str, str]:
    """Versions of what computes, and the commit where the code lies in a repository that holds it."""
    found = {name: version(name) for name in ("spectral-edge", "torch", "numpy")}
    found["python"] = platform.python_version()
    try:
        _git("ls-files", "--error-unmatch", Path(__file__).name)
        return {**found, "commit": _git("describe", "--always", "--dirty")}
    except (OSError, subprocess.SubprocessError):
        return found


def train(config: RunConfig, folder: Path) -> bool:
    """Trains one run of a study, in a process of its own.

    It saves itself and ends when the study asks for it, when the study is gone, and when the system asks its process
    to end.

    Args:
        config: the run.
        folder: its folder, which exists, in that of the study.

    Returns:
        Whether nothing is left to do: it finished, or failed and its folder says why.
    """
    heard, begun = 0.0, time.monotonic()
    before = float((read_json(folder / PROGRESS) or {}).get("seconds", 0.0))

    def ends() -> bool:
        parent = multiprocessing.parent_process()
        return (folder.parent / STOP).exists() or (parent is not None and not parent.is_alive())

    def shown(progress: Progress) -> None:
        nonlocal heard
        if asked.is_set():
            raise KeyboardInterrupt
        now = time.monotonic()
        if now - heard > _SAY_EVERY:
            heard = now
            say(folder, step=progress.step, seconds=before + now - begun)
            if ends():
                raise KeyboardInterrupt

    with _listening() as asked, warnings.catch_warnings():
        warnings.simplefilter("ignore", SpectralEdgeWarning)  # the trace notes what they say
        # The process of a study that was killed may still be saving this run.
        while (lock := try_lock(folder)) is None:
            if asked.is_set() or ends():
                return False
            time.sleep(_LOOK_EVERY)
        try:
            run(config, folder, on_progress=shown)
            _tidy(folder)
        except KeyboardInterrupt:
            return False
        except Exception as error:
            _failed(folder, error)
        finally:
            unlock(lock)
    return True


@contextmanager
def _listening() -> Generator[Event]:
    """An event that is set when the system asks this process to end; by the second signal submitit tells the time."""
    asked = Event()

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR2") if hasattr(signal, name)]
    previous = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _failed(folder: Path, error: Exception) -> None:
    """Keeps what went wrong with a run."""
    lines = [f"{type(error).__name__}: {error}", "", *traceback.format_exception(error)]
    (folder / FAILURE).write_text("\n".join(lines), encoding="utf-8")


def _tidy(folder: Path) -> None:
    """Removes what a finished run needs no more, and halves its trace."""
    for path in (*folder.glob("checkpoint.pt*"), *folder.glob(f"{PROGRESS}*"), folder / FAILURE):
        path.unlink(missing_ok=True)
    compact(folder / TRACE)


def _note_finished(out: Path, name: str) -> None:
    """Adds a run to those that this sitting finished."""
    manifest = read_json(out / MANIFEST)
    if manifest is not None:
        manifest["sittings"][-1].setdefault("finished", []).append(name)
        _write(out / MANIFEST, manifest)


def _write(path: Path, plain: Any) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def _git(*arguments: str) -> str:
    place = Path(__file__).parent
    told = subprocess.run(["git", *arguments], cwd=place, capture_output=True, text=True, timeout=10, check=True)
    return told.stdout.strip()
