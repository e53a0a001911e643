"""Save a few checkpoints of a training run, scan them, and print k* and coherence of every window.

python examples/scan_checkpoints.py          # checkpoints go to a temporary folder
"""

import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

import spectral_edge as se

EVERY, CHECKPOINTS = 10, 24


def train_and_save(folder: Path) -> None:
    """Trains a small classifier and saves `step-N.safetensors` every few steps."""
    torch.manual_seed(0)
    inputs = torch.randn(512, 16)
    labels = (inputs @ torch.randn(16, 4)).argmax(dim=1)
    model = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(EVERY * CHECKPOINTS):
        if step % EVERY == 0:
            save_file(model.state_dict(), folder / f"step-{step}.safetensors")
        batch = torch.randint(len(inputs), (64,))
        loss = functional.cross_entropy(model(inputs[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def main() -> None:
    """Train, scan, print."""
    with tempfile.TemporaryDirectory() as folder:
        train_and_save(Path(folder))
        # AdamW's beta1 tells the null how much the optimizer alone makes neighbouring updates alike.
        trace = se.scan(folder, horizon=20, momentum=0.9)
    series = trace.edge(window=10)
    print("step  k* raw  k* clear  coherence      p")
    for row, step in enumerate(series.step):
        raw, clear = (series[name][row] for name in ("k_star_raw", "k_star_clear"))
        shown = "-" if clear != clear else f"{clear:.0f}"
        print(f"{step:4d}  {raw:6.0f}  {shown:>8}  {series['coherence'][row]:+9.3f}  {series['coherence_p'][row]:.3f}")


if __name__ == "__main__":
    main()
