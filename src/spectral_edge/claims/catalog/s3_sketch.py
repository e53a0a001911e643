"""S3: a sketch of ten times the window keeps the ratio."""

from collections.abc import Sequence

import numpy as np

from spectral_edge.claims.claim import Claim, Measured, Published, Unit
from spectral_edge.claims.evidence import Evidence, Run
from spectral_edge.claims.reading import ADAMW, GROKKING, LANGUAGE, WINDOW
from spectral_edge.evaluate.sketch_error import SketchError, sketch_errors
from spectral_edge.measure import grams, window_ends

DIMENSION, BAR, POSITION = 10 * WINDOW, 0.074, 2
DRAWS = 50
FLAT = "no gap"


def units(evidence: Evidence, family: str) -> Sequence[Unit]:
    """Each run: the error of sigma_2 / sigma_3 over windows apart, and that of a spectrum without a gap."""
    if family in ADAMW:
        runs = evidence.study(ADAMW[family][0], family=family, role=ADAMW[family][1])
    else:
        runs = evidence.study("grokking", family=family, role="run")
    found: list[Unit] = []
    for run in runs:
        error = evidence.kept(run, "sketch", _errors)
        if error is not None and error.ratio is not None and error.gap_median is not None:
            flat = Measured(run.name, None, error.flat_ratio <= BAR)
            found.append(Unit(Measured(run.name, error.gap_median, error.ratio <= BAR), {FLAT: flat}))
    return found


def _errors(run: Run) -> SketchError | None:
    rows = run.trace.lag_rows(run.watched)
    ends = window_ends(len(rows), stride=WINDOW)
    full = ends[ends >= WINDOW - 1]
    windows = grams(rows, full, size=WINDOW, stride=1)
    windows = windows[np.isfinite(windows).all(axis=(1, 2))]
    return sketch_errors(windows, [DIMENSION], draws=DRAWS, position=POSITION)[0] if len(windows) else None


CLAIM = Claim(
    id="S3",
    title="a sketch of 10 W keeps the ratio",
    statement="A Gaussian sketch of d = 10 W dimensions keeps sigma_2 / sigma_3.",
    published={"": Published("relative error 5.7 % (abstract), at most 7.4 % (table)", "2603.15678", 4, 4)},
    criterion="the mean relative error of sigma_2 / sigma_3 at d = 100 is at most 7.4 %",
    corrected="the error of R - 1, the gap itself, in the median window: a spectrum without any gap has the same "
    "error of R",
    convention="windows of ten updates that share none, 50 sketches each, exact in distribution from the Gram matrix",
    controls={FLAT: "a spectrum without a gap under the same sketch"},
    needs="study grokking; studies optimizers and shift",
    would_change="spectra without a gap for which the published bar is not met",
    families=(*GROKKING, *LANGUAGE),
    units=units,
    unit="relative error of R - 1",
    note="The bar says how good a sketch is, not how well it tells gaps: at d = 100 the error of R - 1 exceeds R - 1 "
    "itself in the median window of the recorded arithmetic runs.",
)
