"""What each figure shows, in sentences computed from the runs."""

from collections.abc import Callable

from spectral_edge.report.facts import RunFacts
from spectral_edge.report.pair import Pair
from spectral_edge.report.sentences import P_WORDS, band_clause, coherence_clause
from spectral_edge.report.words import fold, listed, number, opening, percent, too_short
from spectral_edge.transitions import CRITERIA

NULL_WEIGHTED_ONE = {3: 0.76, 5: 0.76, 10: 0.82}
"""Share of windows with a weighted k* of 1 under i.i.d. noise, by window; other windows were not tabulated."""


def caption(figure: str, pair: Pair) -> list[str]:
    """Two or three sentences on a figure.

    Args:
        figure: its name.
        pair: the runs.
    """
    described = _CAPTIONS[figure]
    if figure != "accuracy":
        short = [facts for facts in pair.both if facts.windows == 0]
        if short:
            return [opening(too_short(facts)) for facts in short]
    return described(pair)


def _accuracy(pair: Pair) -> list[str]:
    return [sentence for facts in pair.both for sentence in _accuracy_of(facts)]


def _accuracy_of(facts: RunFacts) -> list[str]:
    if facts.accuracy is None:
        logged = f"it logged {listed(sorted(facts.metrics))}" if facts.metrics else "no metric was logged"
        return [opening(f"the {facts.name} has no test accuracy: {logged}")]
    known = facts.memorised
    said = [f"the {facts.name}'s training accuracy first reaches 0.99 at step {known:,}"] if known is not None else []
    steps = {facts.transition(criterion) for criterion in CRITERIA}
    dated = sorted(step for step in steps if step is not None)
    until = "" if facts.evaluated is None else f" up to step {facts.evaluated:,}, its last evaluation"
    missed = f", and some are not met{until}" if None in steps else ""
    if len(dated) > 1:
        span = f"between steps {dated[0]:,} and {dated[-1]:,}"
        said.append(f"by the criteria that it meets, the {facts.name}'s transition falls {span}{missed}")
    elif dated:
        said.append(f"every criterion that the {facts.name} meets dates its transition to step {dated[0]:,}{missed}")
    else:
        best = f"its best test accuracy is {number(facts.best)}"
        said.append(f"the {facts.name} meets none of the criteria{until}; {best}")
    return [opening("; ".join(said))]


def _spectrum(pair: Pair) -> list[str]:
    said: list[str] = []
    for facts in pair.both:
        first, last = facts.element("sigma", pair.read_step, 1), facts.element("sigma", pair.read_step, facts.window)
        rank = facts.value("effective_rank", pair.read_step)
        spread = f", {number(first / last)} times sigma_{facts.window}" if first and last else ""
        said.append(
            opening(
                f"{pair.where}, sigma_1 of the {facts.name} is {number(first)}{spread}; the effective rank is "
                f"{number(rank)} of {facts.window}"
            )
        )
    said.append(f"A single large update stays in view for {pair.run.window} windows, which draws steps with flat tops.")
    return said


def _ratios(pair: Pair) -> list[str]:
    said = [opening(f"{pair.where}, {band_clause(pair)}")]
    for facts in pair.both:
        clear = facts.clear_positions()
        where = f"there, clear k* is {_positions(clear)}" if clear else "so no position is ever singled out"
        share = percent(facts.outside)
        said.append(
            opening(f"the {facts.name}'s largest normalised ratio leaves the band in {share} of its windows; {where}")
        )
    raw = [f"{number(facts.value('gap_ratio', pair.read_step))} in the {facts.name}" for facts in pair.both]
    said.append(opening(f"{pair.where}, the published ratio of the raw updates at k* is {' and '.join(raw)}"))
    null = NULL_WEIGHTED_ONE.get(pair.run.window)
    shares = " and ".join(f"{percent(facts.weighted_one)} of the {facts.name}'s windows" for facts in pair.both)
    beside = f", against {percent(null)} of windows of i.i.d. noise" if null else ""
    said.append(opening(f"weighted k* is 1 in {shares}{beside}"))
    return said


def _positions(shares: dict[int, float]) -> str:
    best = sorted(shares.items(), key=lambda item: -item[1])[:3]
    return listed([f"{position} in {percent(share)}" for position, share in best])


def _coherence(pair: Pair) -> list[str]:
    whole = [coherence_clause(facts, pair.read_step) for facts in pair.both]
    said = [opening(f"{pair.where}, coherence is {' and '.join(whole)}, {P_WORDS}")]
    if any(facts.memory[0] is not None for facts in pair.both):
        said.append("A positive coherence can have a p near 1: the optimizer's memory alone would give more of it.")
    for facts in pair.both:
        coherent = _extreme(facts, pair.read_step, "coherence")
        moving = _extreme(facts, pair.read_step, "update_norm")
        if coherent is None or moving is None or len(facts.layers) < 2:
            continue
        said.append(
            opening(
                f"{pair.where}, the most coherent layer of the {facts.name} is {coherent[0]} ({number(coherent[1])}), "
                f"and the one that moves most is {moving[0]} (update norm {number(moving[1])})"
            )
        )
    return said


def _extreme(facts: RunFacts, step: int | None, name: str) -> tuple[str, float] | None:
    values = {layer: facts.element(name, step, None, layer=layer) for layer in facts.layers}
    defined = {layer: value for layer, value in values.items() if value is not None}
    return max(defined.items(), key=lambda item: item[1]) if defined else None


def _decline(pair: Pair) -> list[str]:
    said: list[str] = []
    for facts in pair.both:
        g23, trace, share = (facts.fall(name, pair.read_step) for name in ("g23", "gram_trace", "g23_normalized"))
        if g23 is None:
            said.append(opening(f"{pair.where}, the decline is undefined for the {facts.name}"))
            continue
        peak = f", from {number(g23.peak)} at step {g23.peak_step:,} to {number(g23.value)}"
        said.append(
            opening(
                f"peak before over value {pair.where}, {facts.name}: g23 {fold(g23)}{peak}; tr G {fold(trace)}; "
                f"g23 / tr G {fold(share)}"
            )
        )
    early = [f"the {facts.name}'s" for facts in pair.both if facts.falls_from_start(pair.read_step)]
    if early:
        peak = "peak of g23 is" if len(early) == 1 else "peaks of g23 lie in"
        said.append(
            opening(f"{' and '.join(early)} {peak} the first full window, so the fold mostly measures early training")
        )
    ties = [f"{facts.following:.2f} in the {facts.name}" for facts in pair.both if facts.following is not None]
    if ties:
        said.append(opening(f"over all windows, the correlation of ln g23 with ln tr G is {' and '.join(ties)}"))
    said.append(
        "A peak over a later value lies above 1 unless the value exceeds everything before it, whatever the run does: "
        "so a decline says something only beside a control at the same step."
    )
    return said


def _stability(pair: Pair) -> list[str]:
    said: list[str] = []
    for facts in pair.both:
        step = pair.read_step
        position, lost = facts.value("k_star_raw", step), facts.value("adiabatic_emp", step)
        overlap, progress = facts.element("alpha_overlap", step, 1), facts.element("progress_share", step, 1)
        if lost is None and overlap is None and progress is None:
            said.append(opening(f"{pair.where}, stability is undefined for the {facts.name}"))
            continue
        said.append(
            opening(
                f"{pair.where}, {percent(lost)} of the {facts.name}'s leading directions (raw k* {number(position)}) "
                f"is lost over one window; mode 1 overlaps its counterpart by {number(overlap)}, and its progress "
                f"share is {number(progress)}"
            )
        )
    said.append("This loss (adiabatic_emp) speaks of the leading k* directions, so it jumps where k* does.")
    said.append(
        "A large overlap is necessary for structure, not sufficient: drift, oscillation and a covariance spike all "
        "give it."
    )
    return said


_CAPTIONS: dict[str, Callable[[Pair], list[str]]] = {
    "accuracy": _accuracy,
    "spectrum": _spectrum,
    "ratios": _ratios,
    "coherence": _coherence,
    "decline": _decline,
    "stability": _stability,
}
