"""Where runs are worked off: processes of this machine, or a cluster through submitit."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

from spectral_edge.errors import InputError, MissingExtraError, RunError

EXECUTORS = ("processes", "local", "slurm")
"""Processes of this machine; submitit's executor of this machine; submitit on SLURM."""

_PRELOADED = ["spectral_edge.experiments", "spectral_edge.observe.kernels", "torch._dynamo"]
"""What every run would import, the last as it makes its optimizer: some seconds, once instead of every time."""

_UNFINISHED = 75
"""How a process ends whose work is to be taken up again."""


class Job(Protocol):
    """One piece of work under way; submitit's jobs are such."""

    def done(self) -> bool:
        """Whether it ended, well or not."""
        ...

    def result(self) -> bool:
        """Whether the work is finished; raises where its process died."""
        ...


class Pool(Protocol):
    """Takes pieces of work and starts them at once; whoever hands them in keeps to its room."""

    @property
    def room(self) -> int:
        """How many pieces may be under way."""
        ...

    def submit(self, function: Callable[..., bool], *arguments: Any) -> Job:
        """Starts a piece of work: a function that says whether it finished."""
        ...

    def kill(self) -> None:
        """Ends what is under way at once."""
        ...


def open_pool(
    kind: str, *, workers: int, threads: int, logs: Path, hours: float, partition: str | None, gpus: int = 0
) -> Pool:
    """A pool of a kind.

    Args:
        kind: one of `EXECUTORS`.
        workers: runs at a time.
        threads: threads of torch in each.
        logs: folder of submitit's own files.
        hours: time limit of a job of submitit; a run that it cuts off is saved before, and goes on in another job.
        partition: of SLURM.
        gpus: how many of them a job of submitit needs.

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
    try:
        executor: Any = submitit.AutoExecutor(folder=str(logs / "%j"), cluster=kind)
    except RuntimeError as error:
        raise InputError(
            "--executor", expected="a machine with SLURM", found=str(error), remedy="start it on one, or use processes"
        ) from error
    needed = {"timeout_min": round(60 * hours), "cpus_per_task": threads, "gpus_per_node": gpus}
    executor.update_parameters(name="spectral-edge", **needed)
    if partition is not None:
        executor.update_parameters(slurm_partition=partition)
    return _Submitit(executor, workers, threads)


class _Processes:
    """A process for each piece of work, so that one that is killed takes none with it.

    They are forked from a server that has imported torch already, where the system can, and begin at once.
    """

    def __init__(self, workers: int, threads: int) -> None:
        self.room = workers
        self._threads = threads
        forks = "forkserver" in multiprocessing.get_all_start_methods()
        self._context: Any = multiprocessing.get_context("forkserver" if forks else "spawn")
        if forks:
            self._context.set_forkserver_preload(_PRELOADED)
        self._jobs: list[_Process] = []

    def submit(self, function: Callable[..., bool], *arguments: Any) -> Job:
        process = self._context.Process(target=_alone, args=(self._threads, function, *arguments))
        with _ctrl_c_ignored():
            process.start()
        self._jobs = [job for job in self._jobs if not job.done()]
        self._jobs.append(_Process(process))
        return self._jobs[-1]

    def kill(self) -> None:
        for job in self._jobs:
            job.kill()


class _Process:
    """A process as a job."""

    def __init__(self, process: BaseProcess) -> None:
        self._process = process

    def done(self) -> bool:
        return not self._process.is_alive()

    def result(self) -> bool:
        code = self._process.exitcode
        if code in (0, _UNFINISHED):
            return code == 0
        by = "ended by code" if code is None or code > 0 else "killed by signal"
        raise RunError(
            "process of a run",
            expected="one that ends by itself",
            found=f"one {by} {abs(code or 0)}",
            remedy="start the study again: it goes on at the last checkpoint",
        )

    def kill(self) -> None:
        self._process.kill()


class _Submitit:
    """A submitit executor as a pool."""

    def __init__(self, executor: Any, workers: int, threads: int) -> None:
        self.room = workers
        self._executor = executor
        self._threads = threads
        self._jobs: list[Any] = []

    def submit(self, function: Callable[..., bool], *arguments: Any) -> Job:
        self._jobs.append(self._executor.submit(_with_threads, self._threads, function, *arguments))
        return self._jobs[-1]

    def kill(self) -> None:
        for job in self._jobs:
            if not job.done():
                job.cancel()


@contextmanager
def _ctrl_c_ignored():  # noqa: ANN202
    """A process that is started here ignores Ctrl-C from its first instant on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _alone(threads: int, function: Callable[..., bool], *arguments: Any) -> None:
    """The main function of a process: a terminal's Ctrl-C does not reach it, the study asks it to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    sys.exit(0 if _with_threads(threads, function, *arguments) else _UNFINISHED)


def _with_threads(threads: int, function: Callable[..., bool], *arguments: Any) -> bool:
    import torch

    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    return function(*arguments)
