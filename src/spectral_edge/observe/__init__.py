"""From parameters to lag rows: the only layer that touches torch tensors."""

from spectral_edge.observe.engine import ENGINES, EXACT_BELOW, Engine, exact_engine, use_sketch
from spectral_edge.observe.fold import BACKENDS, numba_available
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
from spectral_edge.observe.ring import ExactRing, Push
from spectral_edge.observe.schedule import Schedule
from spectral_edge.observe.sketch import SketchRing
from spectral_edge.observe.snapshots import SUFFIXES, Snapshot, snapshots

__all__ = [
    "BACKENDS",
    "CELLS",
    "ENGINES",
    "EXACT_BELOW",
    "SUFFIXES",
    "Engine",
    "ExactRing",
    "ModuleSource",
    "NamedSource",
    "OptimizerWatch",
    "ParameterSource",
    "Push",
    "Schedule",
    "Selection",
    "Selector",
    "SketchPlan",
    "SketchRing",
    "Snapshot",
    "as_source",
    "exact_engine",
    "layer_of",
    "matcher",
    "normalise",
    "numba_available",
    "snapshots",
    "use_sketch",
]
