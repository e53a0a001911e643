"""The abstract's headline: a feedback loop keeps the gap up."""

from collections.abc import Sequence

from spectral_edge.claims.claim import Claim, Criterion, Measured, Published, Unit
from spectral_edge.claims.evidence import Evidence

TWIN, LAG = "open twins", "planted lag"


def units(evidence: Evidence, family: str) -> Sequence[Unit]:
    """The driven live runs as one unit: their seeds were judged together."""
    del family
    record = evidence.record("theory/hysteresis")
    if record is None:
        return []
    passed = {
        name: any(j["verdict"] == "hysteresis" for j in record[name]["judged"].values())
        for name in record
        if "judged" in record[name]
    }
    lasting = {name: record[name]["judged"]["overlap"]["remaining"] for name in passed}
    controls = {
        TWIN: Measured("twin", lasting["twin"], passed["twin"]),
        LAG: Measured("lag", lasting["lag"], passed["lag"]),
    }
    return [Unit(Measured("live", lasting["live"], passed["live"]), controls)]


CLAIM = Claim(
    id="H5",
    title="a loop keeps the gap up",
    statement="The gap sustains itself through the stability coefficient, so that it has two states under the same "
    "drive.",
    published={"": Published("a consequence of the theory; no test", "2603.28964 v1, abstract")},
    criterion="under a slow cycle of the learning rate, gap or overlap differ between the way up and the way down, "
    "and go on to differ as the cycle gets slower",
    corrected="how much of the overlap's loop remains in the limit of slow cycles",
    convention="three seeds judged together, cycles of 160 to 1,280 observations; docs/theory/feedback.md",
    controls={TWIN: "the same drive without a loop", LAG: "a process with a lag and no loop"},
    needs="record theory/hysteresis (python examples/theory/hysteresis.py)",
    would_change="a loop of gap or overlap in driven live runs that does not close as the drive slows down",
    families=("driven live runs",),
    units=units,
    unit="remaining loop of the overlap",
    joint=True,
    whose=Criterion.OURS,
    note="A planted loop of the same design is found. A loop of less than a tenth of the span would not be.",
)
