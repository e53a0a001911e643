"""The abstract's headline: the adiabatic parameter sorts training into three regimes."""

from math import log

import numpy as np

from spectral_edge.claims.claim import GROKKING_CONTROLS, Claim, Criterion, Measured, Published
from spectral_edge.claims.evidence import GROKKING, Evidence, Run
from spectral_edge.claims.reading import middle, up_to, yoked_units

LOW, HIGH = 0.1, 10.0
"""What "much smaller than 1" and "about 1" are taken to mean."""


def read(evidence: Evidence, run: Run, step: int) -> Measured:
    """A of the last W windows up to the transition against those before."""
    published = up_to(evidence, run, "adiabatic_pub_sigma", step)
    rotation = up_to(evidence, run, "adiabatic_rot", step)
    width = run.trace.window
    before, now = middle(published[:-width]), middle(published[-width:])
    passed = None if before is None or now is None else bool(before < LOW <= now <= HIGH)
    early, late = middle(rotation[:-width]), middle(rotation[-width:])
    known = early is not None and late is not None and early > 0 and late > 0
    value = log(late / early) if known and early and late and np.isfinite(late) else None
    told = {"A before": before, "A at the transition": now}
    return Measured(run.name, value, passed, {name: each for name, each in told.items() if each is not None})


CLAIM = Claim(
    id="H3",
    title="three regimes of the adiabatic parameter",
    statement="A = ||dG||_F / (eta g^2) is much smaller than 1 on a plateau, about 1 at a transition and much larger "
    "than 1 when something is forgotten.",
    published={"": Published("three regimes; no count", "2603.28964 v1 to v3, abstract")},
    criterion="the median of the published A is below 0.1 before and from 0.1 to 10 in the last W windows before the "
    "transition",
    corrected="ln of the rotation bound ||dM||_F / (lambda_k* - lambda_k*+1) in the last W windows over that before: "
    "the published A has a unit, 1/eta, and changes when the loss is multiplied by a constant though nothing "
    "moves.",
    convention="raw k*, g in units of sigma, W = 10 full windows, attention matrices; step: first test accuracy of "
    "0.95",
    controls=GROKKING_CONTROLS,
    needs="study grokking, study same-decay",
    would_change="a rotation bound that rises toward the transition in runs and not in their controls",
    families=GROKKING,
    units=yoked_units(read),
    unit="ln rise of ||dM|| / gap",
    whose=Criterion.READING,
    note="The published A is far above 1 all the way, in runs and controls alike, because of its unit: the criterion "
    "cannot be met here, which says nothing about regimes. No count was published, so that no rate of ours can refute "
    "it.",
)
