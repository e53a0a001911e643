"""Studies: grids of runs that decide a question, worked off by a pool and resumable at any instant."""

from spectral_edge.studies.plan import Planned, Study
from spectral_edge.studies.pool import EXECUTORS, open_pool
from spectral_edge.studies.progress import State
from spectral_edge.studies.work import states, work, write_manifest

__all__ = ["EXECUTORS", "Planned", "State", "Study", "open_pool", "states", "work", "write_manifest"]
