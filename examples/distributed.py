"""Watch a model that several processes train together.

    torchrun --nproc-per-node 2 examples/distributed.py [ddp|fsdp]

Every rank constructs its monitor and makes the same calls; readings are the same on all ranks, and the first records.
On GPUs change the backend to "nccl" and move the model: the monitor needs no change.
"""

import os
import sys

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.nn import functional

import spectral_edge as se


def main(kind: str) -> None:
    """Trains a small network under data parallelism or fully sharded."""
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.GELU(), torch.nn.Linear(64, 4))
    if kind == "fsdp":
        fully_shard(model)
    else:
        model = torch.nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(1 + rank)  # each rank has its own data
    with se.Monitor(model, optimizer, window=5, every=2, out="runs/distributed") as monitor:
        for _ in range(40):
            x = torch.randn(32, 16, generator=generator)
            loss = functional.cross_entropy(model(x), x[:, :4].argmax(dim=1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            reading = monitor.step(loss=loss)
    if rank == 0 and reading is not None:
        print(f"{dist.get_world_size()} ranks, {kind}: {reading}")
    dist.destroy_process_group()


if __name__ == "__main__":
    if "RANK" not in os.environ:
        print("start it with: torchrun --nproc-per-node 2 examples/distributed.py")
    else:
        main(sys.argv[1] if len(sys.argv) > 1 else "ddp")
