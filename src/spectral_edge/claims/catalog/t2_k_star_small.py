"""T2: k* is small."""

import numpy as np

from spectral_edge.claims.claim import NOISE_ONLY, Claim, Criterion, Measured, Published
from spectral_edge.claims.evidence import GROKKING, Evidence, Run
from spectral_edge.claims.reading import LANGUAGE, beside_noise, share, up_to

SMALL = 3


def read(evidence: Evidence, run: Run, step: int) -> Measured:
    """How often the raw k* is at most 3 as the criterion, how often outside the band too as the scalar."""
    raw = up_to(evidence, run, "k_star_raw", step)
    clear = up_to(evidence, run, "k_star_clear", step)
    small = share(raw[np.isfinite(raw)] <= SMALL)
    known = np.isfinite(raw)
    one = share(raw[known] == 1)
    told = {} if one is None else {"share with k* = 1": one}
    return Measured(run.name, share((clear <= SMALL)[known]), None if small is None else small > 0.5, told)


CLAIM = Claim(
    id="T2",
    title="k* is small",
    statement="The maximal gap sits at a small position: k* = argmax sigma_j / sigma_{j+1} is 1, 2 or 3.",
    published={
        "": Published("1 in 77.8 % of windows", "2603.28964 and project page"),
        "stories": Published("2 (51M)", "2603.28964 and project page", 1, 1),
        "shift": Published("3 (124M)", "2603.28964 and project page", 1, 1),
    },
    criterion="the raw k* is at most 3 in more than half of the windows",
    corrected="the share of windows whose largest ratio leaves the band of structureless updates and sits at 1, 2 or 3",
    convention="raw k*, W = 10 full windows up to the transition, or to the end of a language run",
    controls=NOISE_ONLY,
    needs="study grokking; studies optimizers and shift",
    would_change="windows outside the band at small positions in runs and not in noise",
    families=(*GROKKING, *LANGUAGE),
    units=beside_noise(read),
    unit="share of windows clear at k* <= 3",
    whose=Criterion.READING,
    note="On the published example spectrum the raw k* is 9, not 2; the weighted one is 2 by 0.1 %, the restricted "
    "one 2.",
)
