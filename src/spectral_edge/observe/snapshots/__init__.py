"""Parameter snapshots from files, folders, hubs, arrays and state dicts, in step order."""

from spectral_edge.observe.snapshots.hub import HubClient
from spectral_edge.observe.snapshots.snapshot import Snapshot, UnreadableError
from spectral_edge.observe.snapshots.sources import SUFFIXES, SeriesOptions, Steps, is_hub, snapshots

__all__ = [
    "SUFFIXES",
    "HubClient",
    "SeriesOptions",
    "Snapshot",
    "Steps",
    "UnreadableError",
    "is_hub",
    "snapshots",
]
