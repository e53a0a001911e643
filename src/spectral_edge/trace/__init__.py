"""The append-only store of lag rows, probe rows, metrics and metadata."""

from spectral_edge.trace.compaction import compact
from spectral_edge.trace.reader import (
    Segment,
    generations,
    metrics,
    notes,
    position_before,
    position_on_disk,
    probes,
    read_folder,
    read_memory,
)
from spectral_edge.trace.writer import Position, SegmentHeader, SegmentWriter, TraceWriter, write_json

__all__ = [
    "Position",
    "Segment",
    "SegmentHeader",
    "SegmentWriter",
    "TraceWriter",
    "compact",
    "generations",
    "metrics",
    "notes",
    "position_before",
    "position_on_disk",
    "probes",
    "read_folder",
    "read_memory",
    "write_json",
]
