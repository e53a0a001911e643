"""Tables of pairs: what falls up to the transition in runs, and up to the same step in their controls."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from experiment_pages import intervals
from experiment_pages.book import COHERENCE, DECLINES, STATES, Book, Pair, Statistic, both
from experiment_pages.steps import SEEDS
from experiment_pages.words import NOTHING, beside, estimate, number, percent, percents, setting, step, table

NO_PAIR = "No pair is recorded yet."


def declines(book: Book, *families: str, study: str = "grokking") -> list[str]:
    """Every pair: how far things fell up to the run's step, run / control."""
    pairs = book.pairs(*families, study=study)
    if not pairs:
        return [NO_PAIR]
    rows = []
    for pair in pairs:
        cells = [_beside(pair, statistic) for statistic in DECLINES]
        rows.append([pair.run.name, step(pair.of_run.get("published", {}).get("step")), *cells])
    head = ["run / control", "step", *(statistic.title for statistic in DECLINES)]
    return table(head, rows)


def _beside(pair: Pair, statistic: Statistic) -> str:
    return beside(number(statistic.of(pair.of_run)), number(statistic.of(pair.of_control)))


def states(book: Book, *families: str) -> list[str]:
    """Every pair at the run's step: ratio, positions, coherence, run / control."""
    pairs = book.pairs(*families)
    if not pairs:
        return [NO_PAIR]
    rows = []
    for pair in pairs:
        one, other = (side.get("published", {}) for side in (pair.of_run, pair.of_control))
        rows.append(
            [
                pair.run.name,
                *(beside(number(one.get(name)), number(other.get(name))) for name in ("ratio_before", "ratio")),
                beside(_positions(one), _positions(other)),
                beside(setting(one.get("k_star_last")), setting(other.get("k_star_last"))),
                *(beside(number(one.get(name), 2), number(other.get(name), 2)) for name in ("coherence", "outside")),
                beside(step(one.get("coherence_turn")), step(other.get("coherence_turn"))),
            ]
        )
    head = ["run / control", "R before", "R at the step", "k* raw, weighted, restricted", "k* weighted, last window"]
    return table([*head, "coherence", "share outside the band", "step of lowest coherence"], rows)


def _positions(reading: Mapping[str, object]) -> str:
    return ", ".join(setting(reading.get(f"k_star_{name}")) for name in ("raw", "weighted", "restricted"))


def summary(book: Book, *families: str, convention: str = "published") -> list[str]:
    """Runs against their controls at the same step, statistic by statistic.

    Args:
        book: what is recorded.
        families: whose pairs.
        convention: what is read in place of the published convention; what has another one of its own is left out then.
    """
    pairs = book.pairs(*families)
    if convention != "published":
        pairs = [
            replace(
                pair,
                of_run={"published": pair.of_run.get(convention, {})},
                of_control={"published": pair.of_control.get(convention, {})},
            )
            for pair in pairs
        ]
    if not pairs:
        return [NO_PAIR]
    rows = [_compared(pairs, statistic) for statistic in (*DECLINES, *STATES)]
    head = ["", "runs", "controls", "runs : controls", "run above its control"]
    return table(head, [row for row in rows if row])


def _compared(pairs: Sequence[Pair], statistic: Statistic) -> list[str]:
    values = both(pairs, statistic)
    if not values:
        return []
    runs, controls = [run for run, _ in values], [control for _, control in values]
    above = intervals.share(sum(run > control for run, control in values), len(values))
    if statistic.multiplies:
        title = f"fall of {statistic.title}"
        middle = intervals.geometric
        apart = estimate(intervals.geometric([run / control for run, control in values]))
    else:
        title = statistic.title
        middle = intervals.mean
        apart = f"difference {estimate(intervals.mean([run - control for run, control in values]), _two)}"
    shown = number if statistic.multiplies else _two
    return [title, estimate(middle(runs), shown), estimate(middle(controls), shown), apart, percent(above)]


def _two(value: float) -> str:
    return number(value, 2)


def found(book: Book, *families: str) -> list[str]:
    """What came out, in sentences that follow from the records."""
    runs = book.runs_with_decay(*families)
    if not runs:
        return [NOTHING]
    readings = {run.name: book.reading(run).get("published", {}) for run in runs}
    grokked = [run for run in runs if run.grok("first_95") is not None]
    lines = [f"- {len(grokked)} of {len(runs)} runs with weight decay reach a test accuracy of 0.95."]
    folds = sorted(readings[run.name]["g23"]["fold"] for run in grokked if readings[run.name].get("g23"))
    if folds:
        declined = sum(fold > book.published["counts"]["bar"] for fold in folds)
        lines.append(
            f"- Up to that step g23 falls {number(folds[0])}- to {number(folds[-1])}-fold; {declined} of {len(folds)} "
            f"pass the published bar of {book.published['counts']['bar']}."
        )
    pairs = book.pairs(*families)
    lines += _against_controls(book, pairs)
    controls = [run for run in book.recorded("grokking", *families) if run.role == "control"]
    crossed = [run.name for run in controls if run.grok("first_95") is not None]
    if controls:
        named = f": {', '.join(crossed)}" if crossed else ""
        lines.append(f"- {len(crossed)} of {len(controls)} controls reach 0.95 themselves{named}.")
    early = sorted(
        reading["as_low"] / reading["step"] for run in grokked if (reading := readings[run.name]).get("as_low")
    )
    if early:
        ends = f"{percents(early[0])} to {percents(early[-1])}"
        middle = percents(early[len(early) // 2])
        lines.append(
            f"- In these runs g23 is first as low as at the step when {ends} of the way is done (median {middle})."
        )
    positions = [readings[run.name].get("k_star_weighted") for run in grokked]
    known = [position for position in positions if position is not None]
    if known:
        lines.append(f"- The weighted k\\* at the step is 1 in {known.count(1)} of {len(known)} runs with decay.")
    return lines


def _against_controls(book: Book, pairs: Sequence[Pair]) -> list[str]:
    """Declines and coherence of runs and controls at the same step, and what noise would show."""
    values = both(pairs, DECLINES[0])
    if not values:
        return []
    bar = book.published["counts"]["bar"]
    controls = sorted(control for _, control in values)
    passed = sum(control > bar for control in controls)
    above = intervals.share(sum(run > control for run, control in values), len(values))
    lines = [
        f"- Their controls, read at the same step, fall {number(controls[0])}- to {number(controls[-1])}-fold; "
        f"{passed} of {len(controls)} pass the bar. The run falls further than its control in {percent(above)} pairs."
    ]
    noise = [reading["noise"] for pair in pairs if "noise" in (reading := pair.of_run.get("published", {}))]
    if noise:
        middle, limit = (max(found[i] for found in noise) for i in (0, 1))
        beyond = [sum(value[i] > limit for value in values) for i in (0, 1)]
        lines.append(
            f"- Over as many windows, g23 of structureless updates of constant norm falls {number(middle, 2)}-fold in "
            f"the median and {number(limit, 2)}-fold or more in 5 % of cases. {beyond[0]} of {len(values)} runs and "
            f"{beyond[1]} of {len(values)} controls fall further than that."
        )
    coherent = both(pairs, COHERENCE)
    if coherent:
        ends = [(min(side), max(side)) for side in zip(*coherent, strict=True)]
        above = intervals.share(sum(run > control for run, control in coherent), len(coherent))
        of_runs, of_controls = (f"{_two(low)} to {_two(high)}" for low, high in ends)
        lines.append(
            f"- The coherence of updates at the step is {of_runs} in runs and {of_controls} in controls; "
            f"that of the run is larger in {percent(above)} pairs."
        )
    return lines


def by_arm(arms: Mapping[str, Sequence[Pair]]) -> list[str]:
    """Runs that make the transition against others that do not, arm by arm.

    Args:
        arms: pairs of a run and what it is compared with.
    """
    rows = []
    for label, pairs in arms.items():
        for statistic in (*DECLINES[:1], DECLINES[2], DECLINES[3], *STATES[:2]):
            row = _compared(pairs, statistic)
            if row:
                rows.append([label, *row])
    head = ["arm", "", "with the transition", "without", "with : without", "with above without"]
    return table(head, rows) if rows else [NO_PAIR]


def published_falls(book: Book, family: str, study: str = "grokking") -> list[str]:
    """Published declines of single seeds beside ours, with growing windows as published."""
    pairs = {pair.run.seed: pair for pair in book.pairs(family, study=study)}
    rows = []
    for seed in SEEDS:
        theirs = book.published[family]["falls"][str(seed)]
        pair = pairs.get(seed)
        one = pair.of_run.get("published", {}) if pair else {}
        other = pair.of_control.get("published", {}) if pair else {}
        grown = (one.get("g23_growing") or {}, other.get("g23_to_end_growing") or {})
        rows.append(
            [
                str(seed),
                beside(number(grown[0].get("fold")), number(theirs["fold"])),
                beside(setting(one.get("monotone")), setting(theirs["monotone"])),
                beside(number(one.get("ratio_before")), number(theirs["ratio_before"])),
                beside(number(one.get("ratio")), number(theirs["ratio"])),
                beside(number(grown[1].get("fold")), number(theirs["control_to_end"])),
            ]
        )
    head = ["seed, ours / published", "fall of g23 up to 0.95", "monotone", "R before", "R at the step"]
    return table([*head, "control, peak to end"], rows)


def picture(book: Book, name: str, which: str, caption: str, *families: str) -> list[str]:
    """A picture of the family, where there is a pair to draw."""
    if not book.pairs(*families):
        return ["No pair is recorded yet, so there is no picture."]
    return [f"![{caption}](../images/experiments/{name}_{which}.png)"]
