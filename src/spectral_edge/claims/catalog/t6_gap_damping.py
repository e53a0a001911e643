"""T6: the gap is damped."""

import numpy as np

from spectral_edge.claims.claim import GROKKING_CONTROLS, Claim, Measured, Published
from spectral_edge.claims.evidence import GROKKING, Evidence, Run
from spectral_edge.claims.reading import finite, up_to, yoked_units
from spectral_edge.theory.damping import damping_test_pub


def read(evidence: Evidence, run: Run, step: int) -> Measured:
    """Minus the correlation of the gap with its centred difference."""
    gap = up_to(evidence, run, "gap_sigma", step)
    r = finite(float(damping_test_pub(gap[np.isfinite(gap)])))
    return Measured(run.name, None if r is None else -r, None if r is None else r < 0, {} if r is None else {"r": r})


CLAIM = Claim(
    id="T6",
    title="the gap is damped",
    statement="The gap obeys a flow with a damping term: it shrinks the faster, the larger it is.",
    published={
        "": Published("r about 0, R^2 about 0: the prediction that failed, as it seems", "scripts of 2603.28964")
    },
    criterion="the correlation of g with its centred difference is negative",
    corrected="minus that correlation, run against control. For a stationary process that looks the same backwards it "
    "is 0, damped or not, and a gap that falls once, as that of shrinking updates does, makes it negative: it cannot "
    "speak for damping. Forecasts of the gap term by term are in docs/theory.",
    convention="raw k*, W = 10 full windows up to the transition",
    controls=GROKKING_CONTROLS,
    needs="study grokking, study same-decay",
    would_change="forecasts of the gap, out of sample, that are better with the damping term than AR(1)",
    families=GROKKING,
    units=yoked_units(read),
    unit="-corr(g, dg/dt)",
)
