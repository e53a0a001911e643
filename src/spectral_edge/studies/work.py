"""Works a study off: every run in a folder of its own, resumable at any instant, and a manifest of what made what."""

import json
import os
import platform
import subprocess
import time
import traceback
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from spectral_edge.errors import InputError
from spectral_edge.experiments import Progress, RunConfig, run
from spectral_edge.studies.plan import Planned, Study
from spectral_edge.studies.pool import Job, Pool, busy
from spectral_edge.studies.progress import FAILURE, State, read_json, say, state_of

MANIFEST = "study.json"
_SAY_EVERY, _LOOK_EVERY = 2.0, 0.5
"""Seconds between two words of a run, and between two looks at the pool."""


def work(study: Study, out: Path, pool: Pool, *, command: str, on_change: Callable[[list[State]], None]) -> list[State]:
    """Runs what is left of a study.

    A run that was interrupted goes on at its last checkpoint, one that failed is tried again, one that is done is not
    repeated. A run whose twin failed is left out.

    Args:
        study: what to run.
        out: the study's folder.
        pool: where to run it.
        command: what was typed, for the manifest.
        on_change: called now and then with where every run stands.

    Returns:
        Where every run stands in the end.

    Raises:
        InputError: if the folder holds another study, or a run of other settings.
        KeyboardInterrupt: on Ctrl-C, after the runs under way were asked to save themselves.
    """
    write_manifest(study, out, command)
    waiting, jobs = list(study.runs), dict[str, Job]()
    try:
        while waiting or jobs:
            for planned in list(waiting):
                ready, config = _resolve(study, planned, out)
                if not ready:
                    continue
                waiting.remove(planned)
                folder = out / planned.name
                if config is not None and state_of(folder, planned.name, planned.role, config.steps).status != "done":
                    folder.mkdir(parents=True, exist_ok=True)
                    (folder / FAILURE).unlink(missing_ok=True)
                    jobs[planned.name] = pool.submit(_train, config, folder)
            on_change(states(study, out))
            for name in [name for name, job in jobs.items() if job.done()]:
                _settle(jobs.pop(name), out / name)
            if jobs:
                time.sleep(_LOOK_EVERY)
    except BaseException:
        pool.stop()
        raise
    pool.close()
    found = states(study, out)
    on_change(found)
    return found


def states(study: Study, out: Path) -> list[State]:
    """Where every run of a study stands."""
    found: list[State] = []
    for planned in study.runs:
        _, config = _resolve(study, planned, out)
        steps = (config or planned.config).steps
        state = state_of(out / planned.name, planned.name, planned.role, steps)
        if planned.twin is not None and state.status == "left" and config is None:
            state = State(planned.name, planned.role, "left", 0, steps, 0.0, None, f"waits for {planned.twin}")
        found.append(state)
    return found


def write_manifest(study: Study, out: Path, command: str) -> None:
    """Says which code and versions made a study, and with which configuration each run is made.

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
        planned.name: {"role": planned.role, "twin": planned.twin, "config": planned.config.to_dict()}
        for planned in study.runs
    }
    sittings = (known or {}).get("sittings", [])
    sittings.append({"started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "command": command, **code()})
    manifest = {
        "study": study.name,
        "question": study.question,
        "sittings": sittings,
        "runs": {**(known or {}).get("runs", {}), **plan},
    }
    out.mkdir(parents=True, exist_ok=True)
    temporary = out / (MANIFEST + ".tmp")
    temporary.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, out / MANIFEST)


def code() -> dict[str, str]:
    """Versions of what computes, and the commit where the code lies in a repository."""
    found = {name: version(name) for name in ("spectral-edge", "torch", "numpy")}
    found["python"] = platform.python_version()
    here = Path(__file__).parent
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return found
    return {**found, "commit": told.stdout.strip()}


def _resolve(study: Study, planned: Planned, out: Path) -> tuple[bool, RunConfig | None]:
    """Whether it is known what to do about a run, and its configuration; None where its twin failed."""
    if planned.twin is None:
        return True, planned.config
    twin = next(other for other in study.runs if other.name == planned.twin)
    result = read_json(out / twin.name / "result.json")
    if result is not None:
        return True, planned.resolved(result["steps"])
    return (out / twin.name / FAILURE).exists(), None


def _train(config: RunConfig, folder: Path) -> None:
    """Trains one run in a process of a pool."""
    heard, begun = 0.0, time.time()

    def shown(progress: Progress) -> None:
        nonlocal heard
        if time.time() - heard > _SAY_EVERY:
            heard = time.time()
            say(folder, step=progress.step, seconds=heard - begun)

    busy.set()
    try:
        run(config, folder, on_progress=shown)
    finally:
        busy.clear()


def _settle(job: Job, folder: Path) -> None:
    """Keeps what went wrong with a run."""
    try:
        job.result()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a worker that died, a run that failed: the others go on
        lines = [f"{type(error).__name__}: {error}", "", *traceback.format_exception(error)]
        (folder / FAILURE).write_text("\n".join(lines), encoding="utf-8")
