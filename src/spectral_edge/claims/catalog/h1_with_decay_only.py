"""The abstract's headline: 24 of 24 with weight decay, 0 of 24 without."""

from collections.abc import Sequence
from math import log

from spectral_edge.claims.claim import GROKKING_CONTROLS, NO_DECAY, Claim, Measured, Published, Unit
from spectral_edge.claims.evidence import Evidence, Run, Yoked
from spectral_edge.claims.reading import GROKKING, transition


def units(evidence: Evidence, family: str) -> Sequence[Unit]:
    """Pairs of all families."""
    del family
    return [
        Unit(_pair(evidence, pair), {name: _read(evidence, run, pair.step) for name, run in pair.controls.items()})
        for name in GROKKING
        for pair in evidence.yoked(name)
    ]


def _pair(evidence: Evidence, pair: Yoked) -> Measured:
    """A pair is as claimed where the run declines and its twin does not."""
    run = _read(evidence, pair.run, pair.step)
    if NO_DECAY not in pair.controls:
        return Measured(run.name, run.value, None)
    twin = transition(evidence, pair.controls[NO_DECAY], pair.step).declined
    declined = transition(evidence, pair.run, pair.step).declined
    return Measured(run.name, run.value, None if None in (twin, declined) else bool(declined and not twin))


def _read(evidence: Evidence, run: Run, step: int) -> Measured:
    fall = transition(evidence, run, step).g23_normalized
    return Measured(run.name, None if fall is None else log(fall.fold))


CLAIM = Claim(
    id="H1",
    title="gap dynamics precede grokking with weight decay only",
    statement="Every grokking event is preceded by gap dynamics: 24 of 24 runs with weight decay, 0 of 24 without.",
    published={"": Published("24 of 24 and 0 of 24 (v2, v3: 1 of 24)", "2603.28964 v1 to v3, abstract", 23, 24)},
    criterion="g23 falls by more than 1.5-fold up to the transition in the run with decay, and does not up to the "
    "same step in its twin without",
    corrected="ln of the fall of g23 / tr G, run against control at the same step",
    convention="as for M1; all families together",
    controls=GROKKING_CONTROLS,
    needs="study grokking, study same-decay",
    would_change="pairs in which the run declines and its twin does not, in at least as many as the published "
    "interval allows",
    families=("all",),
    units=units,
    unit="ln fall of g23 / tr G",
    note="A fall up to the step of the transition is asked of both; whether it precedes the transition more than any "
    "other step is the question of the claims N1 and following.",
)
