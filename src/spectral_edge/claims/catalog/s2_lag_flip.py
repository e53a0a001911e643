"""S2: the lag flips with the window."""

from spectral_edge.claims.claim import NOISE_ONLY, Claim, Measured, Published
from spectral_edge.claims.evidence import Evidence, Run
from spectral_edge.claims.reading import LANGUAGE, beside_loss, beside_noise
from spectral_edge.evaluate.window_sweep import window_sweep

WINDOWS, LAGS = (10, 20), range(-12, 13)


def read(evidence: Evidence, run: Run, step: int) -> Measured:
    """The signs of the two best lags as the criterion, the flip beyond the windows' own delay as the scalar."""
    del step
    read_at = {window: beside_loss(evidence, run, window=window) for window in WINDOWS}
    if min(len(steps) for steps, _, _ in read_at.values()) < 3 * len(LAGS):
        return Measured(run.name, None)
    series = {window: (steps, ratios[:, 1]) for window, (steps, ratios, _) in read_at.items()}
    found = window_sweep(series, run.metric("val_loss"), WINDOWS, LAGS, draws=1)
    if found is None:
        return Measured(run.name, None)
    short, long = found.lags
    return Measured(run.name, float(found.excess), bool(short < 0 < long))


CLAIM = Claim(
    id="S2",
    title="the lag flips with the window",
    statement="The gap follows the loss at a window of 10 updates, and leads it at 20.",
    published={"": Published("-1 at W = 10, +1 at W = 20", "2603.15678", 4, 4)},
    criterion="the lag of the largest |r| is below 0 at W = 10 and above 0 at W = 20",
    corrected="the change of that lag less that of the delay alone: a window twice as long looks five updates further "
    "back, which moves the lag the other way",
    convention="sigma_2 / sigma_3, cubic removed, lags of -12 to 12 updates, the whole model",
    controls=NOISE_ONLY,
    needs="studies optimizers (AdamW) and shift",
    would_change="a change of the lag that differs from that of the windows themselves",
    families=LANGUAGE,
    units=beside_noise(read),
    unit="change of lag less that of the delay",
)
