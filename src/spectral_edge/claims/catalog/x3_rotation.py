"""X3: v_1 turns by a few degrees a window."""

from spectral_edge.claims.claim import NOISE_ONLY, Claim, Criterion, Measured, Published
from spectral_edge.claims.evidence import Evidence, Run
from spectral_edge.claims.reading import beside_noise, edge, middle

PUBLISHED = {"dyck": 17.8, "scan": 7.7}
WIDTH, STRIDE, FACTOR = 5, 2, 2.0
"""The published window, observations in one of its updates, and what is taken for "about"."""


def read(evidence: Evidence, run: Run, step: int) -> Measured:
    """The median angle between v_1 of neighbouring windows."""
    series = edge(evidence, run, window=WIDTH, stride=STRIDE)
    angle = middle(series["rotation_deg"][series.step <= step][:, 0])
    if angle is None:
        return Measured(run.name, None)
    near = PUBLISHED[run.family] / FACTOR <= angle <= PUBLISHED[run.family] * FACTOR
    return Measured(run.name, -angle, near, {"degrees a window": angle})


CLAIM = Claim(
    id="X3",
    title="v_1 turns slowly",
    statement="The dominant direction turns by about 8 degrees (SCAN) or 18 degrees (Dyck) from window to window.",
    published={
        "dyck": Published("17.8 degrees", "2604.07380", 3, 3),
        "scan": Published("7.7 degrees", "2604.07380", 1, 1),
    },
    criterion="the median angle of v_1 between neighbouring windows is within a factor of two of the published one",
    corrected="minus that angle, against noise: neighbouring windows share four of five updates, so that v_1 of noise "
    "turns slowly too",
    convention="lag 1, full windows of five updates of 100 steps (SCAN 50) up to the transition",
    controls=NOISE_ONLY,
    needs="study grokking",
    would_change="angles below those of noise with the run's norms and memory",
    families=("dyck", "scan"),
    units=beside_noise(read),
    unit="-degrees a window",
    whose=Criterion.READING,
)
