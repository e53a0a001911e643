"""A small watched training that is killed again and again; run as a process of its own by test_kill_resume.

Usage: python killable.py FOLDER STEPS KILLS. The process imports torch once and forks every life from there. Each life
resumes from the newest checkpoint and appends the readings that it was given to readings.jsonl. Some lives are killed
from outside after a random time, others kill themselves in the middle of a write. The last life runs to the end.
"""

import json
import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path

import torch

import spectral_edge as se

torch.set_num_threads(1)
EVERY, CHECKPOINT, WINDOW = 2, 5, 4


def build():
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    return model, torch.optim.AdamW(model.parameters(), lr=1e-2)


def life(folder: Path, steps: int, *, out: str, torn_write: int | None = None, pause: float = 0.0) -> None:
    model, optimizer = build()
    monitor = se.Monitor(model, optimizer, window=WINDOW, every=EVERY, out=folder / out)
    checkpoint = folder / f"{out}.pt"
    start = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        monitor.load_state_dict(state["monitor"])
        start = state["step"]
    if torn_write is not None:
        _tear(torn_write)
    with (folder / f"{out}.readings.jsonl").open("a") as readings:
        for step in range(start + 1, steps + 1):
            x = torch.randn(16, 6)
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x), x.argmax(1) % 3)
            loss.backward()
            optimizer.step()
            reading = monitor.step(loss=loss)
            if step % EVERY == 0:
                monitor.log(step_seen=float(step))
                monitor.probe(theta="parameters")
            if reading is not None:
                readings.write(
                    json.dumps([reading.step, reading.sigma.tobytes().hex(), repr(reading.gap_ratio)]) + "\n"
                )
                readings.flush()
            if step % CHECKPOINT == 0 or step == steps:
                state = {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": step,
                    "random": torch.get_rng_state(),
                    "monitor": monitor.state_dict(),
                }
                torch.save(state, checkpoint.with_suffix(".tmp"))
                os.replace(checkpoint.with_suffix(".tmp"), checkpoint)
            time.sleep(pause)
    monitor.close()


def _tear(writes: int) -> None:
    """After so many writes, writes half a record and dies."""
    real, count = os.pwrite, 0

    def pwrite(descriptor, data, position):
        nonlocal count
        count += 1
        if count == writes:
            real(descriptor, bytes(data)[: max(1, len(data) // 2)], position)
            os.kill(os.getpid(), signal.SIGKILL)
        return real(descriptor, data, position)

    os.pwrite = pwrite


def fork(**options) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            warnings.simplefilter("ignore")
            life(**options)
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    return pid


def main() -> None:
    folder, steps, kills = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    rng = random.Random(0)
    life(folder=folder, steps=2 * CHECKPOINT, out="warm")  # what every life needs is loaded once, kernels among it
    assert os.waitpid(fork(folder=folder, steps=steps, out="whole"), 0)[1] == 0
    killed = torn = 0
    while killed + torn < kills:
        if rng.random() < 0.5:
            pid = fork(folder=folder, steps=steps, out="killed", torn_write=rng.randint(1, 60))
            torn += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        else:
            pid = fork(folder=folder, steps=steps, out="killed", pause=0.002)
            time.sleep(rng.uniform(0.005, 0.15))
            os.kill(pid, signal.SIGKILL)
            killed += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    assert os.waitpid(fork(folder=folder, steps=steps, out="killed"), 0)[1] == 0
    print(json.dumps({"killed": killed, "torn": torn}))


if __name__ == "__main__":
    main()
