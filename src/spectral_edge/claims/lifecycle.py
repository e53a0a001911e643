"""What claims about the lifecycle of a mode are judged on: seeds that were run when everything was fixed on others."""

from collections.abc import Mapping
from typing import Any

from spectral_edge.claims.evidence import Evidence

NEEDS = (
    "record theory/lifecycle_again (python examples/theory/lifecycle.py --again): 22 seeds that were run when "
    "everything had been fixed on six others"
)
BATCHES = {"mini-batch": "mini", "full batch": "full"}
"""Families of these claims, and where the record has them: the batches differ and the seeds do not, so that one of the
two says nothing about the other's that it does not share."""


def lifecycle(evidence: Evidence, family: str) -> Mapping[str, Any] | None:
    """The numbers of the fresh seeds for one way to draw batches; None where they are not recorded."""
    record = evidence.record("theory/lifecycle_again")
    return None if record is None else record[BATCHES[family]]
