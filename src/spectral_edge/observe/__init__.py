"""From parameters to lag rows: the only layer that touches torch tensors."""

from spectral_edge.observe.engine import ENGINES, EXACT_BELOW, Choice, Engine, choose_engine, exact_engine
from spectral_edge.observe.fold import BACKENDS, backend_for, numba_available
from spectral_edge.observe.layout import Layout, Selected
from spectral_edge.observe.optimizer import OptimizerWatch
from spectral_edge.observe.parameters import (
    ModuleSource,
    NamedSource,
    ParameterSource,
    Selection,
    Selector,
    as_source,
    layer_of,
    matcher,
    normalise,
)
from spectral_edge.observe.plan import CELLS, SketchPlan
from spectral_edge.observe.ranks import ALONE, Ranks, join
from spectral_edge.observe.replicas import Drift, ReplicaCheck
from spectral_edge.observe.ring import RESTART, SAMPLE, VOID, VOTES, ExactRing, Held, Push
from spectral_edge.observe.schedule import Schedule
from spectral_edge.observe.shards import Shard, as_shard
from spectral_edge.observe.sketch import SketchRing
from spectral_edge.observe.snapshots import (
    SUFFIXES,
    HubClient,
    SeriesOptions,
    Snapshot,
    Steps,
    UnreadableError,
    snapshots,
)

__all__ = [
    "ALONE",
    "BACKENDS",
    "CELLS",
    "ENGINES",
    "EXACT_BELOW",
    "RESTART",
    "SAMPLE",
    "SUFFIXES",
    "VOID",
    "VOTES",
    "Choice",
    "Drift",
    "Engine",
    "ExactRing",
    "Held",
    "HubClient",
    "Layout",
    "ModuleSource",
    "NamedSource",
    "OptimizerWatch",
    "ParameterSource",
    "Push",
    "Ranks",
    "ReplicaCheck",
    "Schedule",
    "Selected",
    "Selection",
    "Selector",
    "SeriesOptions",
    "Shard",
    "SketchPlan",
    "SketchRing",
    "Snapshot",
    "Steps",
    "UnreadableError",
    "as_shard",
    "as_source",
    "backend_for",
    "choose_engine",
    "exact_engine",
    "join",
    "layer_of",
    "matcher",
    "normalise",
    "numba_available",
    "snapshots",
]
