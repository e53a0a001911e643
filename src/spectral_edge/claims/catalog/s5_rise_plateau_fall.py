"""S5: the gap rises, stays and collapses."""

import numpy as np

from spectral_edge.claims.claim import NOISE_ONLY, Claim, Measured, Published
from spectral_edge.claims.evidence import Evidence, Run
from spectral_edge.claims.reading import LANGUAGE, WINDOW, beside_noise, edge
from spectral_edge.evaluate.phases import phases

BAR = 1.2


def read(evidence: Evidence, run: Run, step: int) -> Measured:
    """A collapse below 1.2 as the criterion, how much better three pieces fit than one as the scalar."""
    del step
    series = edge(evidence, run)
    ratio = series["ratios"][:, 1]
    known = np.isfinite(ratio)
    if not known.any():
        return Measured(run.name, None)
    peak = int(np.nanargmax(ratio))
    below = ratio[peak + 1 :] < BAR
    passed = bool(ratio[peak] > BAR and below.any())
    told = {"collapse at": series.step[peak + 1 :][below][0]} if passed else {}
    found = phases(ratio[known], series.step[known], stride=WINDOW, draws=1)
    if found is None:
        return Measured(run.name, None, passed, told)
    return Measured(run.name, found.statistic if found.rise_plateau_fall else 0.0, passed, told)


CLAIM = Claim(
    id="S5",
    title="rise, plateau, collapse",
    statement="The gap ratio rises, stays on a plateau and collapses.",
    published={
        "": Published("collapse at 7,500 +- 300 in 4 seeds of the stories", "2603.15678"),
        "stories": Published("collapse at 7,500 +- 300 in 4 seeds", "2603.15678", 4, 4),
    },
    criterion="sigma_2 / sigma_3 peaks above 1.20 and is below it in a later window",
    corrected="twice the gain in log likelihood of a line with two knots over a straight one, both with AR(1) errors, "
    "on windows that share no update; 0 where the course is not rise, plateau and fall",
    convention="W = 10, the whole model",
    controls=NOISE_ONLY,
    needs="studies optimizers (AdamW) and shift",
    would_change="gains above those of noise with the run's own norms",
    families=LANGUAGE,
    units=beside_noise(read),
    unit="gain in log likelihood",
    note="At these sizes a run has some 13 to 19 windows that share no update, few for six parameters.",
)
