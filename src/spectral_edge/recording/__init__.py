"""From snapshots to recorded rows: what a live monitor and a scan of checkpoints have in common."""

from spectral_edge.recording.chronicle import Chronicle, Contents
from spectral_edge.recording.options import RecorderOptions, run_metadata
from spectral_edge.recording.probing import ProbeDesk, Vector
from spectral_edge.recording.recorder import Observation, Recorder
from spectral_edge.recording.restoring import foreign_state, listed_states, named_groups

__all__ = [
    "Chronicle",
    "Contents",
    "Observation",
    "ProbeDesk",
    "Recorder",
    "RecorderOptions",
    "Vector",
    "foreign_state",
    "listed_states",
    "named_groups",
    "run_metadata",
]
