"""Statistics that may hold where a published one does not, searched on development runs only.

Development runs are those of the published seeds; those of the other seeds are held out. A claim made of a candidate is
judged on the held-out runs when all of them are recorded, and all of their controls.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from spectral_edge.claims.claim import Measured, Unit
from spectral_edge.claims.evidence import Evidence, Run, Yoked
from spectral_edge.claims.reading import (
    WINDOW,
    Array,
    Reader,
    attention_weights,
    finite,
    transition,
    up_to,
    yoked_unit,
)
from spectral_edge.measure import grams

DEVELOPMENT_SEEDS = (42, 137, 2024)
STRIDE = 2
"""Observations in one update of the coarser windows: 100 steps, 50 for SCAN."""

Candidate = Callable[[Evidence, Run, int], float | None]


def development(run: Run) -> bool:
    """Whether candidates may be searched on a run."""
    return run.seed in DEVELOPMENT_SEEDS


def complete(evidence: Evidence, family: str) -> bool:
    """Whether every planned run and control of the held-out seeds of a family is recorded."""
    planned = {study: evidence.planned(study, family) for study in ("grokking", "same-decay")}
    held_out = {
        (study, name) for study, runs in planned.items() for name, seed in runs.items() if seed not in DEVELOPMENT_SEEDS
    }
    done = {(study, run.name) for study in planned for run in evidence.study(study, family=family)}
    return any(study == "grokking" for study, _ in held_out) and held_out <= done


def held_out_pairs(evidence: Evidence, family: str) -> list[Yoked]:
    """The held-out pairs, once all of them are recorded; until then none."""
    return [pair for pair in evidence.yoked(family) if not development(pair.run)] if complete(evidence, family) else []


def held_out_units(read: Reader) -> Callable[[Evidence, str], Sequence[Unit]]:
    """Units of a new claim: the held-out pairs, a run and its controls read alike at the step of its transition."""

    def units(evidence: Evidence, family: str) -> Sequence[Unit]:
        return [yoked_unit(evidence, pair, read) for pair in held_out_pairs(evidence, family)]

    return units


def coherence(evidence: Evidence, run: Run, step: int) -> float | None:
    """Mean cosine of the ten updates of 100 steps up to a step, with its sign."""
    return _at(evidence, run, step, "coherence", stride=STRIDE)


def coherence_turn(evidence: Evidence, run: Run, step: int) -> float | None:
    """How far that has risen from its lowest value."""
    values = up_to(evidence, run, "coherence", step, stride=STRIDE)
    return finite(values[-1] - np.nanmin(values)) if len(values) and np.isfinite(values[-1]) else None


def fine_coherence(evidence: Evidence, run: Run, step: int) -> float | None:
    """Mean cosine of the ten updates of 50 steps up to a step."""
    return _at(evidence, run, step, "coherence")


def layer_coherence(evidence: Evidence, run: Run, step: int) -> float | None:
    """The largest coherence of a recorded attention block, updates of 100 steps."""
    blocks = [group for group in run.trace.groups if group.startswith("attention")]
    found = [_at(evidence, run, step, "coherence", stride=STRIDE, group=group) for group in blocks]
    known = [value for value in found if value is not None]
    return max(known, default=None)


def progress(evidence: Evidence, run: Run, step: int) -> float | None:
    """How much of mode 1 moves the model rather than jitters."""
    return _at(evidence, run, step, "progress_share", column=0)


def lasting_progress(evidence: Evidence, run: Run, step: int) -> float | None:
    """Overlap of v_1 at lag W times its progress share."""
    overlap, share = _at(evidence, run, step, "alpha_overlap", column=0), progress(evidence, run, step)
    return None if overlap is None or share is None else overlap * share


def first_ratio(evidence: Evidence, run: Run, step: int) -> float | None:
    """sigma_1 / sigma_2 of ten updates of 100 steps."""
    return _at(evidence, run, step, "ratios", stride=STRIDE, column=0)


def concentration(evidence: Evidence, run: Run, step: int) -> float | None:
    """Minus the effective rank."""
    rank = _at(evidence, run, step, "effective_rank")
    return None if rank is None else -rank


def normalised_gap(evidence: Evidence, run: Run, step: int) -> float | None:
    """Ln of the fall of g23 / tr G."""
    fall = transition(evidence, run, step).g23_normalized
    return None if fall is None else float(np.log(fall.fold))


def outside_band(evidence: Evidence, run: Run, step: int) -> float | None:
    """Share of windows whose largest ratio leaves the band."""
    return transition(evidence, run, step).outside


def norm_fall(evidence: Evidence, run: Run, step: int) -> float | None:
    """Ln of the fall of tr G: the trivial rival of every other candidate."""
    fall = transition(evidence, run, step).gram_trace
    return None if fall is None else float(np.log(fall.fold))


def inward(evidence: Evidence, run: Run, step: int) -> float | None:
    """How far the window's displacement points back to the origin: minus its cosine with the weights."""
    window = _beside_weights(evidence, run, step)
    if window is None:
        return None
    products, norm, gram = window
    return finite(-float(products.sum() / (norm * np.sqrt(gram.sum()))))


def weights_in_mode(evidence: Evidence, run: Run, step: int) -> float | None:
    """Squared cosine of the weights with v_1."""
    window = _beside_weights(evidence, run, step)
    if window is None:
        return None
    products, norm, gram = window
    values, vectors = np.linalg.eigh(gram)
    return finite(float((vectors[:, -1] @ products) ** 2 / (values[-1] * norm**2)))


def weights_in_window(evidence: Evidence, run: Run, step: int) -> float | None:
    """Share of the weights' squared norm that lies in the span of the window's updates."""
    window = _beside_weights(evidence, run, step)
    if window is None:
        return None
    products, norm, gram = window
    return finite(float(products @ np.linalg.pinv(gram, rcond=1e-10, hermitian=True) @ products / norm**2))


CANDIDATES: Mapping[str, Candidate] = {
    "coherence, 100 steps": coherence,
    "its turn": coherence_turn,
    "coherence, 50 steps": fine_coherence,
    "largest coherence of a layer": layer_coherence,
    "progress share of v_1": progress,
    "lag-W overlap times progress share": lasting_progress,
    "sigma_1 / sigma_2, 100 steps": first_ratio,
    "minus effective rank": concentration,
    "ln fall of g23 / tr G": normalised_gap,
    "share outside the band": outside_band,
    "ln fall of tr G": norm_fall,
    "minus cosine of displacement and weights": inward,
    "weights in v_1": weights_in_mode,
    "weights in the window": weights_in_window,
}
"""Everything that is searched; failures are reported with the rest."""


def search(evidence: Evidence, family: str) -> dict[str, list[Unit]]:
    """Every candidate on the development pairs of a family."""
    pairs = [pair for pair in evidence.yoked(family) if development(pair.run)]
    return {
        name: [yoked_unit(evidence, pair, _reader(candidate)) for pair in pairs]
        for name, candidate in CANDIDATES.items()
    }


def _reader(candidate: Candidate) -> Reader:
    return lambda evidence, run, step: Measured(run.name, candidate(evidence, run, step))


def _at(
    evidence: Evidence,
    run: Run,
    step: int,
    name: str,
    *,
    stride: int = 1,
    column: int | None = None,
    group: str | None = None,
) -> float | None:
    """A quantity in the window that ends at a step."""
    values = up_to(evidence, run, name, step, stride=stride, group=group)
    if len(values) == 0:
        return None
    return finite(values[-1] if column is None else values[-1, column])


def _beside_weights(evidence: Evidence, run: Run, step: int) -> tuple[Array, float, Array] | None:
    """Products of the weights with the window's updates [W], the weights' norm, and the window's Gram matrix [W, W].

    Of the attention matrices, at the last observation up to a step; None without probes of the weights.
    """
    weights = attention_weights(evidence, run)
    index = int(np.searchsorted(run.trace.steps, step, side="right")) - 1
    found = weights.get(int(run.trace.steps[index])) if index >= WINDOW - 1 else None
    if found is None:
        return None
    gram = grams(run.trace.lag_rows(run.watched), np.array([index]), size=WINDOW)[0]
    known = np.isfinite(found.products).all() and np.isfinite(gram).all()
    return (found.products, found.norm, gram) if known and found.norm > 0 and np.trace(gram) > 0 else None
