"""What `run.py` does, once the number of threads is settled."""

import argparse
import shlex
import traceback
from pathlib import Path

import torch

import accuracy
import growth
import harness
import memory
import observe
import page
import scan
import training
from models import SIZES

PARTS = {
    "observe": observe.run,
    "training": training.run,
    "memory": memory.run,
    "growth": growth.run,
    "accuracy": accuracy.run,
    "scan": scan.run,
}


def main(description: str | None) -> str | None:
    """Runs the parts that were asked for, one after the other, and writes the page; says which parts failed."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}, page; all by default")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), help="by default each part's own")
    parser.add_argument("--rounds", type=int, help="of each size; by default each size's own")
    parser.add_argument("--quick", action="store_true", help="toy sizes, to see that everything runs")
    parser.add_argument("--full", action="store_true", help="fifty checkpoints to scan instead of five")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scratch", type=Path, help="folder for checkpoints to scan, deleted afterwards")
    parser.add_argument("--out", type=Path, help="folder that receives results/ and docs/")
    given = parser.parse_args()
    unknown = sorted({*given.parts} - {*PARTS, "page"})
    if unknown:
        parser.error(f"no part {unknown[0]}; there are {', '.join(PARTS)} and page")
    torch.set_num_threads(1)
    out = given.out or (harness.ROOT / "runs" / "benchmarks-quick" if given.quick else harness.ROOT)
    options = harness.Options(
        sizes=tuple(given.sizes) if given.sizes else None,
        rounds=given.rounds,
        quick=given.quick,
        full=given.full,
        device=given.device,
        seed=given.seed,
        scratch=given.scratch,
        out=out,
    )
    failed: list[str] = []
    for name in given.parts or PARTS:
        if name in PARTS:
            try:
                harness.record(name, _command(name, given), options, PARTS[name])
            except Exception:  # the other parts and the page are worth having all the same
                traceback.print_exc()
                failed.append(name)
    path = out / "docs" / "performance.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page.page(harness.load(options)), encoding="utf-8")
    harness.say(f"wrote {path.name}")
    return f"failed: {', '.join(failed)}" if failed else None


def _command(name: str, given: argparse.Namespace) -> str:
    """The command that repeats one part; folders are left out, since they change no number."""
    words = ["python", "benchmarks/run.py", name]
    if given.sizes:
        words += ["--sizes", *given.sizes]
    if given.rounds:
        words += ["--rounds", str(given.rounds)]
    words += [f"--{flag}" for flag in ("quick", "full") if getattr(given, flag)]
    if given.device != "cpu":
        words += ["--device", given.device]
    if given.seed:
        words += ["--seed", str(given.seed)]
    return shlex.join(words)
