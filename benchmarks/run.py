"""The benchmarks: one command, records in results/benchmarks, one page in docs.

    python benchmarks/run.py [PART ...] [--sizes 5M 50M] [--rounds N] [--quick] [--full] [--device cpu]

Parts are observe, training, memory, growth, accuracy and scan, all by default; `page` alone only writes
docs/performance.md from the records that there are. `--quick` runs everything at toy sizes and writes to
runs/benchmarks-quick, so that records of real runs stay. With `--device cuda` times are CUDA events; that has not been
tried on a GPU yet.
"""

import os
import sys

if __name__ == "__main__":
    for library in ("OMP", "MKL", "OPENBLAS", "NUMBA"):  # before any of them is loaded
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    from command import main

    sys.exit(main(__doc__))
