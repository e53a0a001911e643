"""T5: stability coefficients form a hierarchy."""

import numpy as np

from spectral_edge.claims.claim import NOISE_ONLY, Claim, Criterion, Measured, Published
from spectral_edge.claims.evidence import GROKKING, Evidence, Run
from spectral_edge.claims.reading import LANGUAGE, Array, beside_noise, finite, up_to


def read(evidence: Evidence, run: Run, step: int) -> Measured:
    """The order of the published coefficients as the criterion, the smaller fall of lag-W overlaps as the scalar."""
    published = _means(up_to(evidence, run, "alpha_pub", step))
    overlap = _means(up_to(evidence, run, "alpha_overlap", step))
    passed = None if published is None else bool(published[0] > published[1] > published[2])
    told = {} if published is None else {f"alpha_{j + 1}": published[j] for j in range(3)}
    return Measured(run.name, None if overlap is None else finite(-np.diff(overlap).max()), passed, told)


def _means(values: Array) -> Array | None:
    known = values[np.isfinite(values[:, :3]).all(axis=1), :3]
    return known.mean(axis=0) if len(known) else None


CLAIM = Claim(
    id="T5",
    title="stability falls off beyond the gap",
    statement="Stability coefficients are ordered: alpha of the dominant mode exceeds that at the gap, and that "
    "exceeds those of subdominant modes.",
    published={
        "": Published(".818, .234, about 0 (GPT-2); .77, .16 (Dyck)", "note of 2603.28964, 2604.07380"),
        "shift": Published(".818, .234, about 0", "note of 2603.28964", 1, 1),
        "dyck": Published(".77, .16", "2604.07380", 1, 1),
    },
    criterion="the means over windows of the published alpha_1, alpha_2, alpha_3 fall strictly",
    corrected="the smaller of the two falls between the first three squared cosines at lag W, where windows share no "
    "update",
    convention="W = 10 full windows up to the transition, or to the end of a language run; lag W for the scalar",
    controls=NOISE_ONLY,
    needs="study grokking; studies optimizers and shift",
    would_change="overlaps at lag W that fall by more than those of noise; the published order is what i.i.d. noise "
    "shows too",
    families=(*GROKKING, *LANGUAGE),
    units=beside_noise(read),
    unit="smaller fall of lag-W overlap",
    whose=Criterion.READING,
)
