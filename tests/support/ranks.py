"""Runs a function in several processes that form a gloo group, and brings back what it returned."""

import os
import tempfile
import traceback
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

PRELOADED = [
    "pytest",
    "numba",
    "torch._dynamo",
    "torch.distributed.fsdp",
    "torch.distributed.tensor.parallel",
    "spectral_edge",
    "tests.support.ranks",
]
"""Imported once, in the process that ranks are forked from: that takes longer than most of what they do."""


def run_ranks(size, function, *arguments, timeout=60):
    """What `function(rank, size, *arguments)` returned on each rank, or the exception that ended it.

    A rank that vanished without a word gives None.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        context = mp.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        processes = [
            context.Process(target=_work, args=(rank, size, folder, function, arguments)) for rank in range(size)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(timeout)
        hung = [rank for rank, process in enumerate(processes) if process.is_alive()]
        for process in processes:
            process.kill()
        assert not hung, f"ranks {hung} hang"
        return [
            torch.load(path, weights_only=False) if (path := folder / f"{rank}.pt").exists() else None
            for rank in range(size)
        ]


def results(size, function, *arguments):
    """The same; an exception on any rank fails the test."""
    found = run_ranks(size, function, *arguments)
    for rank, result in enumerate(found):
        assert not isinstance(result, Failure), f"rank {rank}:\n{result.text}"
        assert result is not None, f"rank {rank} vanished"
    return found


class Failure:
    """An exception on a rank."""

    def __init__(self, error):
        self.kind = type(error).__name__
        self.message = str(error)
        self.text = "".join(traceback.format_exception(error))


def _work(rank, size, folder, function, arguments):
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    store = dist.FileStore(str(folder / "store"), size)
    dist.init_process_group("gloo", rank=rank, world_size=size, store=store, timeout=timedelta(seconds=60))
    try:
        result = function(rank, size, *arguments)
    except BaseException as error:
        result = Failure(error)
    torch.save(result, folder / f"{rank}.tmp")
    (folder / f"{rank}.tmp").rename(folder / f"{rank}.pt")
    if not isinstance(result, Failure):
        with suppress(RuntimeError):  # another rank may have ended
            dist.barrier()
    os._exit(0)  # what other ranks still wait for must not keep this one
