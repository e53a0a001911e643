"""The ledger: published predictions as executable claims, judged on what is recorded."""

from spectral_edge.claims.claim import (
    GROKKING_CONTROLS,
    NO_DECAY,
    SAME_DECAY,
    SURROGATES,
    Claim,
    Criterion,
    Measured,
    Published,
    Unit,
)
from spectral_edge.claims.evidence import Evidence, Run
from spectral_edge.claims.ledger import RECORD, Entry, Ledger, Recorded, Spread, load_claims, recorded_lines
from spectral_edge.claims.rules import Judgement, Verdict, judge

__all__ = [
    "GROKKING_CONTROLS",
    "NO_DECAY",
    "RECORD",
    "SAME_DECAY",
    "SURROGATES",
    "Claim",
    "Criterion",
    "Entry",
    "Evidence",
    "Judgement",
    "Ledger",
    "Measured",
    "Published",
    "Recorded",
    "Run",
    "Spread",
    "Unit",
    "Verdict",
    "judge",
    "load_claims",
    "recorded_lines",
]
