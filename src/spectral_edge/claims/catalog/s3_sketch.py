"""S3: a sketch of ten times the window keeps the ratio."""

import zlib

import numpy as np

from spectral_edge.claims.claim import NOISE_ONLY, Claim, Criterion, Measured, Published
from spectral_edge.claims.evidence import GROKKING, Evidence, Run
from spectral_edge.claims.reading import LANGUAGE, WINDOW, beside_noise
from spectral_edge.evaluate.sketch_error import SketchError, sketch_errors
from spectral_edge.measure import grams, window_ends

DIMENSION, BAR, POSITION = 10 * WINDOW, 0.074, 2
DRAWS = 50


def read(evidence: Evidence, run: Run, step: int) -> Measured:
    """The error of sigma_2 / sigma_3 over windows apart."""
    error = evidence.kept(run, "sketch", lambda run: _errors(run, step), step)
    if error is None or error.ratio is None:
        return Measured(run.name, None)
    told = {"relative error, %": 100 * error.ratio}
    if error.gap_median is not None:
        told["of R - 1, %"] = 100 * error.gap_median
    return Measured(run.name, -error.ratio, error.ratio <= BAR, told)


def _errors(run: Run, step: int) -> SketchError | None:
    rows = run.trace.lag_rows(run.watched)
    ends = window_ends(len(rows), stride=WINDOW)
    full = ends[(ends >= WINDOW - 1) & (run.trace.steps[ends] <= step)]
    windows = grams(rows, full, size=WINDOW, stride=1)
    windows = windows[np.isfinite(windows).all(axis=(1, 2))]
    seed = zlib.crc32(f"{run.path} sketch".encode())
    found = sketch_errors(windows, [DIMENSION], draws=DRAWS, seed=seed, position=POSITION) if len(windows) else ()
    return found[0] if found else None


CLAIM = Claim(
    id="S3",
    title="a sketch of 10 W keeps the ratio",
    statement="A Gaussian sketch of d = 10 W dimensions keeps sigma_2 / sigma_3.",
    published={"": Published("relative error 5.7 % (abstract), at most 7.4 % (table)", "2603.15678")},
    criterion="the mean relative error of sigma_2 / sigma_3 at d = 100 is at most 7.4 %",
    corrected="minus that error, against the same sketch of noise. The error of R - 1, the gap itself, stands beside",
    convention="windows of ten updates that share none, 50 sketches each, exact in distribution from the Gram matrix",
    controls=NOISE_ONLY,
    needs="study grokking; studies optimizers and shift",
    would_change="noise for which the published bar is not met",
    families=(*GROKKING, *LANGUAGE),
    units=beside_noise(read),
    unit="-relative error of the ratio",
    whose=Criterion.READING,
    note="The bar says how good a sketch is, not how well it tells gaps: a spectrum without a gap has the same error.",
)
