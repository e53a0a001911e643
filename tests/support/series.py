"""Checkpoint series for tests, written in every format that a scan reads."""

import json

import numpy as np
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file

STEPS = tuple(range(100, 1500, 100))


def states(count=14, seed=0, dtype=torch.float32):
    """A random walk of a small model with names that tell layers."""
    rng = np.random.default_rng(seed)
    shapes = {"embed.weight": (11, 6), "layers.0.weight": (6, 6), "layers.0.bias": (6,), "layers.1.weight": (5, 6)}
    now = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    found = []
    for _ in range(count):
        now = {name: value + 0.1 * rng.standard_normal(value.shape) for name, value in now.items()}
        found.append({name: torch.from_numpy(value).to(dtype) for name, value in now.items()})
    return found


def safetensors(folder, step, state):
    folder.mkdir(exist_ok=True)
    save_file(state, folder / f"step-{step}.safetensors")


def torch_file(folder, step, state):
    folder.mkdir(exist_ok=True)
    torch.save({"model": state, "optimizer": {"exp_avg": torch.ones(9)}}, folder / f"step-{step}.pt")


def old_torch_file(folder, step, state):
    folder.mkdir(exist_ok=True)
    torch.save(state, folder / f"step-{step}.pth", _use_new_zipfile_serialization=False)


def trainer(folder, step, state):
    """As the Hugging Face Trainer leaves a run, with what it keeps beside the weights."""
    inner = folder / f"checkpoint-{step}"
    inner.mkdir(parents=True)
    save_file({**state, "rotary.inv_freq": torch.ones(3)}, inner / "model.safetensors", {"format": "pt"})
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        torch.save({"w": torch.ones(4)}, inner / name)
    (inner / "trainer_state.json").write_text("{}")
    save_file(state, folder / "model.safetensors")  # what training ended with


def sharded(folder, step, state, kind="safetensors", index=True):
    inner = folder / f"checkpoint-{step}"
    inner.mkdir(parents=True)
    stem = "model" if kind == "safetensors" else "pytorch_model"
    names = list(state)
    parts = {f"{stem}-0000{i + 1}-of-00002.{kind}": names[i::2] for i in range(2)}
    for file, members in parts.items():
        held = {name: state[name] for name in members}
        save_file(held, inner / file) if kind == "safetensors" else torch.save(held, inner / file)
    if index:
        plain = {"metadata": {}, "weight_map": {n: file for file, members in parts.items() for n in members}}
        (inner / f"{stem}.{kind}.index.json").write_text(json.dumps(plain))


def sharded_bin(folder, step, state):
    sharded(folder, step, state, "bin")


def parts_without_index(folder, step, state):
    sharded(folder, step, state, index=False)


def distributed(folder, step, state):
    save(state, folder / f"step-{step}")


def nested_distributed(folder, step, state):
    plain = {"app": {"model": state, "optim": {"state": {"embed.weight": {"exp_avg": torch.ones(11, 6)}}}}, "step": 3}
    save(plain, folder / f"step-{step}")


def trainer_fsdp(folder, step, state):
    inner = folder / f"checkpoint-{step}"
    save({"model": state}, inner / "pytorch_model_fsdp_0")
    save({"optim": {"x": torch.ones(3)}}, inner / "optimizer_0")


def save(plain, folder):
    folder.mkdir(parents=True)
    dcp.save(plain, checkpoint_id=folder, no_dist=True)


FORMATS = (
    safetensors,
    torch_file,
    old_torch_file,
    trainer,
    sharded,
    sharded_bin,
    parts_without_index,
    distributed,
    nested_distributed,
    trainer_fsdp,
)


def write(folder, kind, series, steps=STEPS):
    for step, state in zip(steps, series, strict=False):
        kind(folder, step, state)
    return folder
