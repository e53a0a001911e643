"""The steps of the transition, ours beside the published, seed by seed and as distributions."""

from collections.abc import Mapping, Sequence

from experiment_pages import intervals
from experiment_pages.book import Book, by_member
from experiment_pages.records import Run
from experiment_pages.words import NONE, NOTHING, estimate, step, table

SEEDS = (42, 137, 2024)
"""The published seeds."""


def steps(book: Book, family: str, study: str = "grokking") -> list[str]:
    """The steps of the transition, ours beside the published, seed by seed and as distributions."""
    known: Mapping[str, Mapping[str, Mapping[str, int | None]]] = book.published[family].get("grok", {})
    runs = by_member(book.runs_with_decay(family, study=study))
    criteria = [name for name in known if name != "source"]
    rows, compared = [], {name: [] for name in criteria}
    for criterion in criteria:
        for member, theirs in known[criterion].items():
            ours = {run.seed: run.grok(criterion) for run in runs.get(member, [])}
            if not ours:
                rows.append([f"{member}, {_short(criterion)}", NONE, _seeds(theirs), NONE, NONE, NONE])
                continue
            mine = [value for value in ours.values() if value is not None]
            published = [value for value in theirs.values() if value is not None]
            compared[criterion] += [
                (ours[seed], theirs[str(seed)]) for seed in SEEDS if ours.get(seed) and theirs.get(str(seed))
            ]
            found = estimate(intervals.mean(mine), step) if mine else "never"
            rows.append(
                [
                    f"{member}, {_short(criterion)}",
                    " / ".join(_met(ours, seed) for seed in SEEDS),
                    _seeds(theirs),
                    f"{len(mine)} of {len(ours)}: {found}",
                    estimate(intervals.mean(published), step) if published else "never",
                    estimate(intervals.difference(mine, published), step),
                ]
            )
    head = [
        "",
        "ours: seed 42 / 137 / 2024",
        "published",
        "ours, all seeds: mean [95 %]",
        "published mean",
        "difference",
    ]
    return [*table(head, rows), *_agreement(compared)]


def _agreement(compared: Mapping[str, Sequence[tuple[int, int]]]) -> list[str]:
    lines = []
    for criterion, values in compared.items():
        if len(values) < 2:
            continue
        found = intervals.mean([ours - theirs for ours, theirs in values])
        relative = intervals.geometric([ours / theirs for ours, theirs in values])
        lines.append(
            f"- {_short(criterion)}, {len(values)} runs that both recorded: ours minus published "
            f"{estimate(found, step)} steps, ratio {estimate(relative)} (means over runs, 95 %)."
        )
    return ["", *lines] if lines else []


def own_steps(book: Book, family: str) -> list[str]:
    """Our steps alone, where there is nothing to compare them with."""
    runs = book.runs_with_decay(family)
    rows = []
    for criterion in ("first_95", "sustained_95", "sustained_98", "stop_98"):
        ours = {run.seed: run.grok(criterion) for run in runs}
        if ours:
            rows.append(_joint_row(f"{family}, {_short(criterion)}", ours, None))
    head = ["", "seed 42 / 137 / 2024", "published at this size", "all seeds: geometric mean [95 %]"]
    return table(head, rows) if rows else [NOTHING]


def joint_steps(book: Book) -> list[str]:
    """The first step of 0.90 of every operation of the dual and the tri task, and of 0.95 of the worst one."""
    rows = []
    for family in ("dual", "tri"):
        theirs: Mapping[str, object] = book.published[family]["first_90"]
        runs = book.runs_with_decay(family)
        operations = [name for name in theirs if name not in ("runs", "source")]
        for operation in operations:
            mine = {run.seed: _first(run, f"test_accuracy_{operation}", 0.90) for run in runs}
            rows.append(_joint_row(f"{family}, {operation}, first 0.90", mine, theirs[operation]))
        worst = {run.seed: run.grok("first_95") for run in runs}
        rows.append(_joint_row(f"{family}, the worst, first 0.95", worst, None))
    return table(["", "ours: seed 42 / 137 / 2024", "published", "ours: geometric mean [95 %]"], rows)


def _joint_row(title: str, ours: Mapping[int, int | None], theirs: object) -> list[str]:
    published = NONE
    if isinstance(theirs, Mapping):
        published = _seeds(theirs)
    elif isinstance(theirs, Sequence):
        published = f"{step(theirs[0])} ± {step(theirs[1])}"
    met = [value for value in ours.values() if value is not None]
    mean = intervals.geometric(met)
    # Two steps say nothing of their spread: the interval would reach over all numbers.
    found = estimate(mean, step) if mean is None or len(met) > 2 else step(mean.value)
    reached = f"{len(met)} of {len(ours)}: {found}" if ours else NONE
    return [title, " / ".join(_met(ours, seed) for seed in SEEDS), published, reached]


def _first(run: Run, metric: str, threshold: float) -> int | None:
    metrics = run.result["metrics"]
    if metric not in metrics:
        return None
    values = zip(metrics["step"], metrics[metric], strict=True)
    return next((at for at, value in values if value is not None and value >= threshold), None)


def _met(ours: Mapping[int, int | None], seed: int) -> str:
    if seed not in ours:
        return NONE
    return "never" if ours[seed] is None else step(ours[seed])


def _seeds(theirs: Mapping[str, int | None]) -> str:
    return " / ".join("never" if theirs[str(seed)] is None else step(theirs[str(seed)]) for seed in SEEDS)


def _short(criterion: str) -> str:
    kind, _, accuracy = criterion.partition("_")
    return f"{ {'first': 'first', 'sustained': 'sustained', 'stop': 'stop at'}[kind] } 0.{accuracy}"
