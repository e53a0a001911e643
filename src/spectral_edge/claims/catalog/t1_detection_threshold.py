"""T1: the detection threshold is vacuous."""

import numpy as np

from spectral_edge.claims.claim import NOISE_ONLY, Claim, Measured, Published
from spectral_edge.claims.evidence import GROKKING, Evidence, Run
from spectral_edge.claims.reading import LANGUAGE, beside_noise, finite, middle, up_to
from spectral_edge.theory.detection import detection_ratio_pub

BAR = 5.0


def read(evidence: Evidence, run: Run, step: int) -> Measured:
    """The published ratio in every window: its least as the criterion, its median as the scalar."""
    watched = run.parameters
    ratios = detection_ratio_pub(up_to(evidence, run, "sigma", step), parameters=watched)
    known = ratios[np.isfinite(ratios)]
    told = {"least sigma_W / d_crit": known.min()} if len(known) else {}
    return Measured(run.name, finite(middle(ratios)), bool(known.min() > BAR) if len(known) else None, told)


CLAIM = Claim(
    id="T1",
    title="the detection threshold is vacuous",
    statement="sigma_W is far above the detection threshold d_crit = nu (P (W-1))^(1/4), so every mode is signal.",
    published={
        "": Published("20 to 300 times d_crit (language models)", "2603.28964 v1 and its scripts"),
        **{family: Published("20 to 300 times d_crit", "2603.28964 v1 and its scripts", 1, 1) for family in LANGUAGE},
    },
    criterion="sigma_W / d_crit exceeds 5 in every window, nu^2 P being the mean of the smaller half of the "
    "eigenvalues",
    corrected="the median of the same ratio over the run's windows, beside that of noise: for pure noise the ratio is "
    "(P / (W-1))^(1/4), whatever the run does.",
    convention="W = 10 full windows up to the transition, or to the end of a language run; P counts the watched "
    "parameters",
    controls=NOISE_ONLY,
    needs="study grokking; studies optimizers and shift",
    would_change="a ratio that exceeds that of noise with the run's own norms; no run can make the published "
    "criterion discriminate",
    families=(*GROKKING, *LANGUAGE),
    units=beside_noise(read),
    unit="sigma_W / d_crit",
)
