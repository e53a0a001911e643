"""Where runs are worked off: processes of this machine, or a cluster through submitit."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from spectral_edge.errors import InputError, MissingExtraError

busy = threading.Event()
"""Whether this process trains a run."""

EXECUTORS = ("processes", "local", "slurm")
"""Processes of this machine; submitit's executor of this machine; submitit on SLURM."""


class Job(Protocol):
    """One piece of work under way; futures of the standard library and submitit's jobs both are."""

    def done(self) -> bool:
        """Whether it ended, well or not."""
        ...

    def result(self) -> Any:
        """What it gave; raises what went wrong."""
        ...

    def cancel(self) -> Any:
        """Asks it not to start, or to stop."""
        ...


class Pool(Protocol):
    """Takes pieces of work."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Job:
        """Starts a piece of work when there is room."""
        ...

    def stop(self) -> None:
        """Asks what is under way to save itself and end, starts nothing more, and waits for that."""
        ...

    def close(self) -> None:
        """Ends the pool when all is done."""
        ...


def open_pool(kind: str, *, workers: int, threads: int, logs: Path, hours: float, partition: str | None) -> Pool:
    """A pool of a kind.

    Args:
        kind: one of `EXECUTORS`.
        workers: runs at a time; on SLURM the scheduler decides and this bounds the array.
        threads: threads of torch in each.
        logs: folder of submitit's own files.
        hours: time limit of a job on SLURM; a run that is cut off goes on when the study is started again.
        partition: of SLURM.

    Raises:
        InputError: for an unknown kind.
        MissingExtraError: without submitit, where it is asked for.
    """
    if kind == "processes":
        return _Processes(workers, threads)
    if kind not in EXECUTORS:
        raise InputError("--executor", expected=f"one of {', '.join(EXECUTORS)}", found=kind, remedy="choose one")
    try:
        import submitit  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingExtraError("submitit", extra="cluster", purpose=f"the executor {kind}") from error
    executor: Any = submitit.AutoExecutor(folder=str(logs / "%j"), cluster=kind)
    executor.update_parameters(
        timeout_min=round(60 * hours), cpus_per_task=threads, slurm_array_parallelism=workers, name="spectral-edge"
    )
    if partition is not None:
        executor.update_parameters(slurm_partition=partition)
    return _Submitit(executor, threads, workers if kind == "local" else None)


class _Processes:
    """Processes of this machine, in process groups of their own: a terminal's Ctrl-C reaches them through `stop` only.

    Otherwise it would come twice, and the second one ends a run without saving it.
    """

    def __init__(self, workers: int, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_alone, initargs=(threads,))

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Job:
        return self._executor.submit(function, *arguments)

    def stop(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            if process.pid is not None:
                os.kill(process.pid, signal.SIGINT)
        self._executor.shutdown(wait=True)

    def close(self) -> None:
        self._executor.shutdown()


class _Submitit:
    """A submitit executor as a pool. Its executor of this machine starts all at once, so the pool holds jobs back."""

    def __init__(self, executor: Any, threads: int, room: int | None) -> None:
        self._executor = executor
        self._threads = threads
        self._room = room
        self._jobs: list[_Held] = []

    def submit(self, function: Callable[..., Any], *arguments: Any) -> "Job":
        job = _Held(self, lambda: self._executor.submit(_with_threads, self._threads, function, *arguments))
        self._jobs.append(job)
        self.start()
        return job

    def start(self) -> None:
        """Starts as many jobs as there is room for."""
        running = sum(job.started and not job.finished() for job in self._jobs)
        for job in self._jobs:
            if self._room is not None and running >= self._room:
                return
            if not job.started and not job.cancelled:
                job.start()
                running += 1

    def stop(self) -> None:
        for job in self._jobs:
            if not job.finished():
                job.cancel()

    def close(self) -> None:
        for job in self._jobs:
            if job.started:
                job.wait()


class _Held:
    """A submitit job that starts when there is room."""

    def __init__(self, pool: _Submitit, submit: Callable[[], Any]) -> None:
        self._pool = pool
        self._submit = submit
        self._job: Any = None
        self.cancelled = False

    @property
    def started(self) -> bool:
        return self._job is not None

    def start(self) -> None:
        self._job = self._submit()

    def finished(self) -> bool:
        return self.cancelled or (self._job is not None and bool(self._job.done()))

    def done(self) -> bool:
        self._pool.start()
        return self.finished()

    def result(self) -> Any:
        return self._job.result()

    def wait(self) -> None:
        self._job.wait()

    def cancel(self) -> None:
        self.cancelled = True
        if self._job is not None:
            self._job.cancel()


def _alone(threads: int) -> None:
    os.setpgid(0, 0)
    _prepare(threads)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """Ends this worker once the study is gone: the next one must not meet a second trainer of the same run."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGINT)  # a run under way finishes its step and saves itself
    while busy.is_set():
        time.sleep(0.2)
    os._exit(1)


def _prepare(threads: int) -> None:
    import torch

    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)


def _with_threads(threads: int, function: Callable[..., Any], *arguments: Any) -> Any:
    _prepare(threads)
    return function(*arguments)
