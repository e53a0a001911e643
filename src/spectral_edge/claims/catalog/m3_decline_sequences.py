"""M3: g23 declines before grokking, Dyck and SCAN."""

from dataclasses import replace

from spectral_edge.claims.catalog.m1_decline_arithmetic import CLAIM as ARITHMETIC
from spectral_edge.claims.claim import Published

CLAIM = replace(
    ARITHMETIC,
    id="M3",
    title="g23 declines before grokking (Dyck, SCAN)",
    published={
        "dyck": Published("3 of 3: 48-, 47- and 4.5-fold", "2603.28964 v1 and its scripts", 3, 3),
        "scan": Published("3 of 3: 50-, 31- and 50-fold", "2603.28964 v1 and its scripts", 3, 3),
    },
    convention="W = 10 full windows (published: 3 for Dyck and 5 for SCAN, growing from two updates) of updates of 50 "
    "steps (SCAN 25), attention matrices; step: first test accuracy of 0.95 (Dyck 0.98, "
    "three times running, which its published folds are not read at)",
    families=("dyck", "scan"),
)
