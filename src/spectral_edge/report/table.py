"""The table of key numbers, run beside control, each cell as text."""

from collections.abc import Callable
from dataclasses import dataclass

from spectral_edge.report.captions import NULL_WEIGHTED_ONE
from spectral_edge.report.facts import RunFacts
from spectral_edge.report.pair import Pair
from spectral_edge.report.words import BAR, UNDEFINED, fold, number, p_value, percent, why
from spectral_edge.transitions import CRITERIA, Criterion

ATTENTION = "attention"
PUBLISHED = "published formula, on the parameters and cadence watched here (the paper: attention matrices)"


@dataclass(frozen=True, slots=True)
class Row:
    """One line: what it is, a remark, and a value for each run; a heading has no values."""

    name: str
    remark: str = ""
    values: tuple[str, ...] = ()


def key_numbers(pair: Pair) -> list[Row]:
    """All lines in order."""
    step = pair.read_step
    null = NULL_WEIGHTED_ONE.get(pair.run.window)

    def row(name: str, cell: Callable[[RunFacts], str], remark: str = "") -> Row:
        return Row(name, remark, tuple(cell(facts) for facts in pair.both))

    def scalar(name: str) -> Callable[[RunFacts], str]:
        def cell(facts: RunFacts) -> str:
            value = facts.value(name, step)
            return f"{UNDEFINED}: {why(facts, name, step)}" if value is None else number(value)

        return cell

    attention: list[Row] = []
    if any(ATTENTION in facts.trace.groups for facts in pair.both):
        fell = row(
            f"g23 of group {ATTENTION}", lambda f: _group(f, step), "published formula, at the cadence watched here"
        )
        attention.append(fell)

    return [
        Row("Observation"),
        row("parameters watched", lambda f: f"{f.trace.parameter_count:,}"),
        row("coverage", lambda f: percent(f.trace.coverage), "share of the trainable parameters"),
        row("steps", lambda f: f"{f.end:,}", "last step known"),
        row("test accuracy evaluated up to step", _evaluated),
        row("updates recorded", lambda f: f"{len(f.trace.steps):,}"),
        row("steps an update spans", lambda f: number(f.cadence), "cadence, median"),
        row("window and horizon", lambda f: f"{f.window} and {f.trace.horizon} updates"),
        row("full windows", lambda f: f"{f.windows:,}"),
        Row("Step of the transition, censored at the last evaluation"),
        *(row(criterion.words, _dated(criterion), criterion.source) for criterion in CRITERIA),
        Row(f"Edge {pair.where}"),
        row("k* raw", scalar("k_star_raw"), "thesis"),
        row("k* weighted", scalar("k_star_weighted"), "grokking tables"),
        row("k* restricted", scalar("k_star_restricted"), "first half of the positions"),
        row("k* clear of the band", scalar("k_star_clear")),
        row("gap ratio R at raw k*", scalar("gap_ratio"), "thesis, raw updates"),
        row("largest normalised ratio", lambda f: _largest(f, step), "every update scaled to norm one"),
        row("its percentile in the band", lambda f: _percentile(f, step), "of the ratio at that position"),
        row("limit of the band", scalar("band_max"), "99th percentile of the largest normalised ratio"),
        row("coherence", scalar("coherence"), "signed"),
        row(
            "coherence p",
            lambda f: p_value(f.value("coherence_p", step), f.window),
            "of the whitened coherence, under sign flips, one-sided",
        ),
        Row("Whole record"),
        row("windows with the largest normalised ratio outside the band", lambda f: percent(f.outside)),
        row(
            "windows with weighted k* = 1",
            lambda f: percent(f.weighted_one),
            f"i.i.d. noise: {percent(null)}" if null else "no null value for this window",
        ),
        Row(f"Decline: peak before over value {pair.where}"),
        row("g23", lambda f: fold(f.fall("g23", step)), f"{PUBLISHED}; bar {BAR}"),
        *attention,
        row("the same for noise", lambda f: _noise(f, step), "i.i.d. updates of constant norm, as many windows"),
        row("tr G", lambda f: fold(f.fall("gram_trace", step)), "squared update norms"),
        row("g23 / tr G", lambda f: fold(f.fall("g23_normalized", step)), "normalised"),
    ]


def _dated(criterion: Criterion) -> Callable[[RunFacts], str]:
    def cell(facts: RunFacts) -> str:
        if facts.accuracy is None:
            return "no test accuracy logged"
        step = facts.transition(criterion)
        if step is not None:
            return f"{step:,}"
        return UNDEFINED if facts.evaluated is None else f"not met (censored at {facts.evaluated:,})"

    return cell


def _evaluated(facts: RunFacts) -> str:
    return "none logged" if facts.evaluated is None else f"{facts.evaluated:,}"


def _group(facts: RunFacts, step: int | None) -> str:
    if ATTENTION not in facts.trace.groups:
        return "no such group"
    return fold(facts.fall_of_group(ATTENTION, step))


def _largest(facts: RunFacts, step: int | None) -> str:
    found = facts.largest(step)
    return UNDEFINED if found is None else f"{number(found[1])} at position {found[0]}"


def _percentile(facts: RunFacts, step: int | None) -> str:
    found = facts.largest(step)
    if found is None:
        return UNDEFINED
    value = facts.element("band_percentile", step, found[0])
    return "above 99.9" if value is not None and value > 99.9 else number(value)


def _noise(facts: RunFacts, step: int | None) -> str:
    found = facts.fall_of_noise(step)
    return UNDEFINED if found is None else f"{number(found[0])}-fold, 95 % below {number(found[1])}-fold"
