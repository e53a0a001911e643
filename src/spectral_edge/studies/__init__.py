"""Studies: grids of runs that decide a question, worked off by a pool and resumable at any instant."""

from spectral_edge.studies.catalog import STUDIES
from spectral_edge.studies.cost import Cost, costs
from spectral_edge.studies.plan import Planned, Study
from spectral_edge.studies.pool import EXECUTORS, open_pool
from spectral_edge.studies.progress import State
from spectral_edge.studies.recorded import RecordedRun, RecordedStudy, recorded_studies
from spectral_edge.studies.work import states, work

__all__ = [
    "EXECUTORS",
    "STUDIES",
    "Cost",
    "Planned",
    "RecordedRun",
    "RecordedStudy",
    "State",
    "Study",
    "costs",
    "open_pool",
    "recorded_studies",
    "states",
    "work",
]
