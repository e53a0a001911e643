"""A profiler for training dynamics: the spectrum of a network's recent parameter updates, against its null.

import spectral_edge as se

monitor = se.Monitor(model, optimizer, window=10, every=10, out="runs/mine")
for batch in loader:
    loss = train_step(batch)
    reading = monitor.step(loss=loss)
se.open_trace("runs/mine").report("report.html")
"""

from importlib.metadata import version

from spectral_edge.analysis import EdgeSeries, Trace, open_trace
from spectral_edge.errors import (
    InputError,
    MissingExtraError,
    Outcome,
    RunError,
    SpectralEdgeError,
    SpectralEdgeWarning,
    TraceError,
)
from spectral_edge.monitor import Monitor
from spectral_edge.observe import ParameterSource, Shard
from spectral_edge.quantities import QUANTITIES, Quantity
from spectral_edge.records import EdgeReading, Event
from spectral_edge.scan import ScanProgress, scan

__version__ = version("spectral-edge")

__all__ = [
    "QUANTITIES",
    "EdgeReading",
    "EdgeSeries",
    "Event",
    "InputError",
    "MissingExtraError",
    "Monitor",
    "Outcome",
    "ParameterSource",
    "Quantity",
    "RunError",
    "ScanProgress",
    "Shard",
    "SpectralEdgeError",
    "SpectralEdgeWarning",
    "Trace",
    "TraceError",
    "open_trace",
    "scan",
]
