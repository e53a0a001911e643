"""S2: the lag flips with the window."""

from spectral_edge.claims.claim import NOISE_ONLY, Claim, Measured, Published
from spectral_edge.claims.evidence import Evidence, Run
from spectral_edge.claims.reading import LANGUAGE, beside_loss, beside_noise
from spectral_edge.evaluate.association import best_lag
from spectral_edge.evaluate.window_sweep import window_sweep

WINDOWS, LAGS, PUBLISHED_LAGS = (10, 20), range(-12, 13), range(-3, 6)


def read(evidence: Evidence, run: Run, step: int) -> Measured:
    """The published peaks as the criterion, the change of the best lag beyond the windows' own delay as the scalar."""
    del step
    read_at = {window: beside_loss(evidence, run, window=window) for window in WINDOWS}
    if min(len(steps) for steps, _, _ in read_at.values()) < 3 * len(LAGS):
        return Measured(run.name, None)
    series = {window: (steps, ratios[:, 1]) for window, (steps, ratios, _) in read_at.items()}
    peaks = {
        window: best_lag(ratios[:, 1], loss, steps, PUBLISHED_LAGS, pick="negative", draws=1, shifts=1)
        for window, (steps, ratios, loss) in read_at.items()
    }
    told = {f"lag at W = {window}": peak.lag for window, peak in peaks.items() if peak is not None}
    passed = told["lag at W = 10"] < 0 < told["lag at W = 20"] if len(told) == len(WINDOWS) else None
    found = window_sweep(series, run.metric("val_loss"), WINDOWS, LAGS, draws=1)
    # A best lag at the end of the search is none.
    return Measured(run.name, None if found is None or found.at_edge else found.excess, passed, told)


CLAIM = Claim(
    id="S2",
    title="the lag flips with the window",
    statement="The gap follows the loss at a window of 10 updates, and leads it at 20.",
    published={"": Published("-1 at W = 10, +1 at W = 20", "2603.15678 (one seed)")},
    criterion="the lag of the most negative r, among -3 to 5, is below 0 at W = 10 and above 0 at W = 20",
    corrected="the change of the lag of the largest |r|, among -12 to 12, less that of the delay alone: a window "
    "twice as long looks five updates further back, which moves the lag the other way. Undefined where a best lag is "
    "the last that was searched",
    convention="sigma_2 / sigma_3, cubic removed, lags in evaluations, the whole model",
    controls=NOISE_ONLY,
    needs="studies optimizers (AdamW) and shift",
    would_change="a change of the lag that differs from that of the windows themselves",
    families=LANGUAGE,
    units=beside_noise(read),
    unit="change of lag less that of the delay",
)
