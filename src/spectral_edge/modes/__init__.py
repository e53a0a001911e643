"""What needs the directions themselves: curvature, loss, lifecycle and interventions along the modes of a live run."""

from spectral_edge.modes.ablation import Ablation, ablate
from spectral_edge.modes.commutator import CommutatorDefect, commutator_defect, commutator_defect_pub
from spectral_edge.modes.curvature import ModeCurvature, adiabatic_relax, mode_curvature
from spectral_edge.modes.gradients import gradient, hvp
from spectral_edge.modes.interventions import (
    ARMS,
    Act,
    Intervention,
    random_direction,
    row_space_direction,
)
from spectral_edge.modes.lanczos import TopEigenvalues, top_eigenvalues
from spectral_edge.modes.lifecycle import DecayAccumulator, decay_trapezoid
from spectral_edge.modes.loss_path import LossPath
from spectral_edge.modes.ntk import TangentKernel, tangent_kernel
from spectral_edge.modes.preconditioner import Preconditioner, preconditioner
from spectral_edge.modes.trial import Arm, ArmResult, Training, run_arms
from spectral_edge.modes.undisturbed import Cost, Meter, undisturbed
from spectral_edge.modes.vectors import Loss, Vector, added, displaced, dot, named, norm, random_like, scaled
from spectral_edge.modes.window import Modes, form_modes, newest_update

__all__ = [
    "ARMS",
    "Ablation",
    "Act",
    "Arm",
    "ArmResult",
    "CommutatorDefect",
    "Cost",
    "DecayAccumulator",
    "Intervention",
    "Loss",
    "LossPath",
    "Meter",
    "ModeCurvature",
    "Modes",
    "Preconditioner",
    "TangentKernel",
    "TopEigenvalues",
    "Training",
    "Vector",
    "ablate",
    "added",
    "adiabatic_relax",
    "commutator_defect",
    "commutator_defect_pub",
    "decay_trapezoid",
    "displaced",
    "dot",
    "form_modes",
    "gradient",
    "hvp",
    "mode_curvature",
    "named",
    "newest_update",
    "norm",
    "preconditioner",
    "random_direction",
    "random_like",
    "row_space_direction",
    "run_arms",
    "scaled",
    "tangent_kernel",
    "top_eigenvalues",
    "undisturbed",
]
