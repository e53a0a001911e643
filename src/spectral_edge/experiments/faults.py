"""What goes wrong in real training, as perturbations: each begins at a known step, abruptly or growing."""

from spectral_edge.experiments.perturbation import Perturbation

FAULTS: dict[str, type[Perturbation]] = {}
