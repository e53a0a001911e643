"""Every perturbation by the name that configurations use."""

from spectral_edge.experiments.faults import FAULTS
from spectral_edge.experiments.interventions import INTERVENTIONS
from spectral_edge.experiments.perturbation import Perturbation

KINDS: dict[str, type[Perturbation]] = {"sham": Perturbation, **FAULTS, **INTERVENTIONS}
