"""Draw the tables of the regimes that ship with the package.

python tools/make_regime_table.py                # writes src/spectral_edge/measure/regime_table.npz
python tools/make_regime_table.py --draws 500 --out /tmp/quick.npz

Takes about fifteen minutes on one core at the shipped number of draws; the same seed gives the same table.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from spectral_edge.measure.nulls import NO_MEMORY, Memory
from spectral_edge.measure.nulls.table import key
from spectral_edge.measure.regime_table import draw_regime_table, pack

INTERVALS = (1.0, 2.0, 5.0, 10.0, 20.0, 25.0, 50.0, 100.0, 200.0)
MEMORIES = {
    10: [NO_MEMORY, *(Memory(0.9, s) for s in INTERVALS), *(Memory(0.95, s) for s in (1.0, 10.0, 50.0, 100.0))],
    5: [NO_MEMORY, Memory(0.9, 1.0), Memory(0.9, 10.0), Memory(0.9, 50.0), Memory(0.9, 100.0)],
    20: [NO_MEMORY, Memory(0.9, 1.0), Memory(0.9, 10.0), Memory(0.9, 100.0)],
    3: [NO_MEMORY, Memory(0.9, 1.0), Memory(0.9, 10.0), Memory(0.9, 50.0), Memory(0.9, 100.0)],
    4: [NO_MEMORY],
    8: [NO_MEMORY],
    12: [NO_MEMORY],
    15: [NO_MEMORY],
}
"""What ships, by window length: the same windows and memories as the band's tables."""

LONG = 15
"""From this window on half as many draws, which take longest."""


def main() -> None:
    """Draw, write and report the size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=4_000, help="pairs of windows a node")
    parser.add_argument("--out", type=Path, default=Path("src/spectral_edge/measure/regime_table.npz"))
    chosen = parser.parse_args()
    tables = {}
    for size, memories in MEMORIES.items():
        for memory in memories:
            begun = time.perf_counter()
            draws = chosen.draws if size < LONG else chosen.draws // 2
            tables[key(size, memory)] = draw_regime_table(size, memory, draws=draws)
            print(f"{key(size, memory)}: {time.perf_counter() - begun:.0f} s", flush=True)
    np.savez_compressed(chosen.out, **pack(tables))
    print(f"{chosen.out}: {chosen.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
