"""X7: the gap predicts the loss."""

import numpy as np

from spectral_edge.claims.claim import NOISE_ONLY, Claim, Criterion, Measured, Published
from spectral_edge.claims.evidence import Evidence, Run
from spectral_edge.claims.reading import LANGUAGE, WINDOW, beside_loss, beside_noise
from spectral_edge.evaluate.granger import granger

LEVEL = 0.05


def read(evidence: Evidence, run: Run, step: int) -> Measured:
    """The published test on overlapping windows as the criterion, the share explained without overlap as the scalar."""
    del step
    steps, ratios, loss = beside_loss(evidence, run)
    if len(steps) < 3 * WINDOW:
        return Measured(run.name, None)
    rank, rate = (beside_loss(evidence, run, name)[1] for name in ("effective_rank", "learning_rate"))
    x = np.stack([ratios[:, 1], rank], axis=1)
    published = granger(loss, x, covariates=rate)
    apart = granger(loss, x, covariates=rate, lags=[1], stride=WINDOW)
    told = {} if published is None else {"share of residuals removed, overlapping windows": published.partial_r2}
    passed = None if published is None else published.p <= LEVEL
    return Measured(run.name, None if apart is None else apart.partial_r2, passed, told)


CLAIM = Claim(
    id="X7",
    title="the gap Granger-causes the loss",
    statement="Edge strength and spectral dimension together predict the validation loss beyond its own past.",
    published={"": Published("89.5 % explained with two regressors (GPT-2)", "2603.15678")},
    criterion="lags of sigma_2 / sigma_3 and of the effective rank add to the loss's own lags and the learning rate, "
    "p <= .05, on overlapping windows as published",
    corrected="the share of the residuals that they remove on windows that share no update: overlap alone makes the "
    "test fire",
    convention="W = 10, the whole model, one or two lags by AIC; effective rank in place of the published k95",
    controls=NOISE_ONLY,
    needs="studies optimizers (AdamW) and shift",
    would_change="shares above those of noise with the run's own norms",
    families=LANGUAGE,
    units=beside_noise(read),
    unit="share of residuals removed, windows apart",
    whose=Criterion.READING,
)
