"""S6: all layers show the same."""

import numpy as np

from spectral_edge.claims.claim import NOISE_ONLY, Claim, Criterion, Measured, Published
from spectral_edge.claims.evidence import Evidence, Run
from spectral_edge.claims.reading import LANGUAGE, beside_loss, beside_noise
from spectral_edge.evaluate.association import association

BAR = 0.82


def read(evidence: Evidence, run: Run, step: int) -> Measured:
    """The correlation with the loss in each half of a layer, as it stands and after a cubic."""
    del step
    groups = [name for name in run.trace.groups if name.startswith(("attention_", "feedforward_"))]
    if not groups:
        return Measured(run.name, None)
    plain = [_correlation(evidence, run, group, degree=None) for group in groups]
    detrended = [_correlation(evidence, run, group, degree=3) for group in groups]
    known = [r for r in plain if r is not None]
    passed = len(known) == len(groups) and abs(sum(np.sign(known))) == len(known) and min(map(abs, known)) >= BAR
    values = [r for r in detrended if r is not None]
    agree = abs(float(np.mean(values))) if len(values) == len(groups) else None
    told = {"least |r|": min(map(abs, known))} if len(known) == len(groups) else {}
    return Measured(run.name, agree, passed if len(known) == len(groups) else None, told)


def _correlation(evidence: Evidence, run: Run, group: str, *, degree: int | None) -> float | None:
    steps, ratios, losses = beside_loss(evidence, run, group=group)
    found = association(ratios[:, 1], losses, steps, degree=degree, draws=1)
    return None if found is None else found.r


CLAIM = Claim(
    id="S6",
    title="all layers agree",
    statement="The correlation of the gap ratio with the loss is the same in every layer.",
    published={"": Published("|r| > .82 in eight groups (one run)", "2603.15678")},
    criterion="|r| of sigma_2 / sigma_3 with the validation loss is at least .82 in every attention and feed-forward "
    "block, with one sign",
    corrected="the mean r over blocks after a cubic is removed, without its sign, against noise: two series with a "
    "trend in common correlate whatever they are",
    convention="W = 10, lag 0, blocks as recorded",
    controls=NOISE_ONLY,
    needs="studies optimizers (AdamW) and shift",
    would_change="detrended correlations of one sign in all blocks, above those of noise with the run's norms",
    families=LANGUAGE,
    units=beside_noise(read),
    unit="|mean r| over blocks",
    whose=Criterion.READING,
)
