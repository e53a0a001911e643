"""What needs the directions themselves: curvature, loss, lifecycle and interventions along the modes of a live run."""

from spectral_edge.modes.gradients import gradient, hvp
from spectral_edge.modes.undisturbed import Cost, Meter, undisturbed
from spectral_edge.modes.vectors import Loss, Vector, added, displaced, dot, named, norm, random_like, scaled
from spectral_edge.modes.window import Modes, form_modes, newest_update

__all__ = [
    "Cost",
    "Loss",
    "Meter",
    "Modes",
    "Vector",
    "added",
    "displaced",
    "dot",
    "form_modes",
    "gradient",
    "hvp",
    "named",
    "newest_update",
    "norm",
    "random_like",
    "scaled",
    "undisturbed",
]
