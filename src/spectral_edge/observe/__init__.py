"""From parameters to lag rows: the only layer that touches torch tensors."""

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
from spectral_edge.observe.ring import ExactRing, Push
from spectral_edge.observe.schedule import Schedule
from spectral_edge.observe.snapshots import SUFFIXES, Snapshot, snapshots

__all__ = [
    "SUFFIXES",
    "ExactRing",
    "ModuleSource",
    "NamedSource",
    "ParameterSource",
    "Push",
    "Schedule",
    "Selection",
    "Selector",
    "Snapshot",
    "as_source",
    "layer_of",
    "matcher",
    "normalise",
    "optimizer_facts",
    "snapshots",
]
