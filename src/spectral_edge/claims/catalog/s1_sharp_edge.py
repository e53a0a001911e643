"""S1: the edge between signal and noise is sharp."""

import numpy as np

from spectral_edge.claims.claim import SPREAD_NOISE, Claim, Criterion, Measured, Published
from spectral_edge.claims.evidence import GROKKING, Evidence, Run
from spectral_edge.claims.reading import LANGUAGE, WINDOW, beside_noise, finite, middle, up_to

BAR = 100.0


def read(evidence: Evidence, run: Run, step: int) -> Measured:
    """How much wider the smaller half of the eigenvalues is spread than the same number of those of isotropic noise."""
    lower = up_to(evidence, run, "sigma", step)[:, WINDOW // 2 :] ** 2
    mean = lower.mean(axis=1)
    spread = np.where(mean > 0, lower.std(axis=1) / np.where(mean > 0, mean, 1.0), np.nan)
    dispersion = finite(middle(spread / np.sqrt(WINDOW / run.parameters)))
    return Measured(run.name, dispersion, None if dispersion is None else dispersion > BAR)


CLAIM = Claim(
    id="S1",
    title="the edge between signal and noise is sharp",
    statement="The eigenvalues of a window are spread far beyond what the Marchenko-Pastur law gives to noise.",
    published={"": Published("229 to 576 times Marchenko-Pastur", "2603.15678; language models only")},
    criterion="the relative spread of the smaller half of the eigenvalues is more than 100 times (W / P)^(1/2)",
    corrected="the same number beside that of noise with the run's own norms, memory and number of directions: norms "
    "that differ spread the eigenvalues, and so does noise of few dimensions",
    convention="W = 10 full windows up to the transition, or to the end of a language run; the definition of the "
    "published number is not given, this is our reading",
    controls=SPREAD_NOISE,
    needs="study grokking; studies optimizers and shift",
    would_change="a spread above that of noise with the run's norms, memory and number of directions",
    families=(*GROKKING, *LANGUAGE),
    units=beside_noise(read, controls=SPREAD_NOISE),
    unit="spread over Marchenko-Pastur",
    whose=Criterion.READING,
    note="A spread beyond isotropic noise shows that noise is not isotropic; it shows no edge. On the runs of Dyck the "
    "claim was confirmed against the first three kinds of noise; the fourth was added then, see the rules.",
)
