"""X3: v_1 turns by a few degrees a window."""

from spectral_edge.claims.claim import NOISE_ONLY, Claim, Measured, Published
from spectral_edge.claims.evidence import Evidence, Run
from spectral_edge.claims.reading import beside_noise, middle, up_to

PUBLISHED = {"dyck": 17.8, "scan": 7.7}
FACTOR = 2.0


def read(evidence: Evidence, run: Run, step: int) -> Measured:
    """The median angle between v_1 of neighbouring windows."""
    angle = middle(up_to(evidence, run, "rotation_deg", step)[:, 0])
    if angle is None:
        return Measured(run.name, None)
    return Measured(run.name, -angle, PUBLISHED[run.family] / FACTOR <= angle <= PUBLISHED[run.family] * FACTOR)


CLAIM = Claim(
    id="X3",
    title="v_1 turns slowly",
    statement="The dominant direction turns by about 8 degrees (SCAN) or 18 degrees (Dyck) from window to window.",
    published={
        "dyck": Published("17.8 degrees", "2604.07380", 3, 3),
        "scan": Published("7.7 degrees", "2604.07380", 1, 1),
    },
    criterion="the median angle of v_1 between neighbouring windows is within a factor of two of the published one",
    corrected="minus that angle, against noise: neighbouring windows share nine of ten updates, so that v_1 of noise "
    "turns slowly too",
    convention="lag 1, W = 10 full windows up to the transition (published: W = 5)",
    controls=NOISE_ONLY,
    needs="study grokking",
    would_change="angles below those of noise with the run's norms and memory",
    families=("dyck", "scan"),
    units=beside_noise(read),
    unit="-degrees a window",
)
