"""From parameters to lag rows: the only layer that touches torch tensors."""

from spectral_edge.observe.fold import BACKENDS, numba_available
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
    optimizer_facts,
)
from spectral_edge.observe.plan import CELLS, SketchPlan
from spectral_edge.observe.ring import ExactRing, Push
from spectral_edge.observe.schedule import Schedule
from spectral_edge.observe.sketch import SketchRing
from spectral_edge.observe.snapshots import SUFFIXES, Snapshot, snapshots

__all__ = [
    "BACKENDS",
    "CELLS",
    "SUFFIXES",
    "ExactRing",
    "ModuleSource",
    "NamedSource",
    "ParameterSource",
    "Push",
    "Schedule",
    "Selection",
    "Selector",
    "SketchPlan",
    "SketchRing",
    "Snapshot",
    "as_source",
    "layer_of",
    "matcher",
    "normalise",
    "numba_available",
    "optimizer_facts",
    "snapshots",
]
