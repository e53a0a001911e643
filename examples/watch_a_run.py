"""Watch a small classifier train and print its last reading.

python examples/watch_a_run.py               # keeps the trace in memory and writes nothing
python examples/watch_a_run.py runs/tiny     # keeps it in a folder, for spectral-edge report runs/tiny
"""

import sys

import torch
from torch import nn
from torch.nn import functional

import spectral_edge as se

STEPS = 400


def main(out: str | None = None) -> None:
    """Train on synthetic data, watched."""
    torch.manual_seed(0)
    inputs = torch.randn(512, 16)
    labels = (inputs @ torch.randn(16, 4)).argmax(dim=1)
    model = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    reading = None
    with se.Monitor(model, optimizer, window=10, every=10, out=out) as monitor:
        for _ in range(STEPS):
            batch = torch.randint(len(inputs), (64,))
            loss = functional.cross_entropy(model(inputs[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            reading = monitor.step(loss=loss) or reading

    assert reading is not None
    print(f"step {reading.step}, loss {reading.loss:.3f}, update norm {reading.update_norm:.3g}")
    print(f"k* raw {reading.k_star_raw}, weighted {reading.k_star_weighted}, gap ratio {reading.gap_ratio:.3f}")
    print(f"largest normalised ratio {max(reading.cosine_ratios):.3f}, band up to {reading.band_max:.3f}")
    if reading.k_star_clear is None:
        print(f"no clear k*: {reading.reason('k_star_clear').sentence}")
    print(f"coherence {reading.coherence:+.3f}, p {reading.coherence_p:.3g}")
    for name, group in reading.groups.items():
        print(f"layer {name}: coherence {group.coherence:+.3f}, update norm {group.update_norm:.3g}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
