"""What is done to a run to learn what it depends on, each beside its control."""

from spectral_edge.experiments.perturbation import Perturbation

INTERVENTIONS: dict[str, type[Perturbation]] = {}
