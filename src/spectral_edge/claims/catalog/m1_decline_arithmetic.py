"""M1: g23 declines before grokking, modular arithmetic."""

from math import log

from spectral_edge.claims.claim import GROKKING_CONTROLS, Claim, Measured, Published
from spectral_edge.claims.evidence import Evidence, Run
from spectral_edge.claims.reading import transition, yoked_units


def read(evidence: Evidence, run: Run, step: int) -> Measured:
    """The published decline as the criterion, that of the normalised gap as the scalar."""
    found = transition(evidence, run, step)
    normalized = found.g23_normalized
    folds = {} if found.g23 is None else {"fold of g23": found.g23.fold}
    return Measured(run.name, None if normalized is None else log(normalized.fold), found.declined, folds)


CLAIM = Claim(
    id="M1",
    title="g23 declines before grokking (arithmetic)",
    statement="Before every transition under weight decay, g23 = lambda_2 - lambda_3 falls from its peak by more than "
    "1.5-fold.",
    published={
        "arithmetic": Published("12 of 12, 15- to 110-fold", "2603.28964 v1, 2604.06256", 12, 12),
        "dual": Published("3 of 3", "2603.28964 v1 and its scripts", 3, 3),
        "tri": Published("3 of 3", "2603.28964 v1 and its scripts", 3, 3),
    },
    criterion="the largest g23 of the full windows before the transition over g23 at it exceeds 1.5",
    corrected="ln of the same fall of g23 / tr G: a peak divided by a later value is above 1 by construction, and g23 "
    "follows the squared norm of the updates, which decay makes smaller whatever happens.",
    convention="W = 10 full windows of updates of 50 steps (published: 100, in controls up to 500), attention "
    "matrices; step: first test accuracy of 0.95",
    controls=GROKKING_CONTROLS,
    needs="study grokking, study same-decay",
    would_change="falls of g23 / tr G that exceed those of the twins, of runs with the same decay that do not grok, "
    "and of noise with the run's own norms, in 12 of 12 pairs or nearly so",
    families=("arithmetic", "dual", "tri"),
    units=yoked_units(read),
    unit="ln fall of g23 / tr G",
)
