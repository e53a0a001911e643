"""Tables over all families: what is recorded and what is left, what it costs, the published counts."""

from collections.abc import Mapping, Sequence

from experiment_pages import intervals
from experiment_pages.book import DECLINES, Book, both
from experiment_pages.readings import GROKKING
from experiment_pages.records import STUDIES, Run
from experiment_pages.words import NONE, number, percent, step, table
from spectral_edge.experiments import FAMILIES

TITLES: Mapping[str, tuple[str, str]] = {
    "arithmetic": ("[Arithmetic](arithmetic.md)", "one operation modulo 97, encoder of two layers"),
    "dual": ("[Dual task](joint.md)", "two operations, one trunk with two heads"),
    "tri": ("[Tri task](joint.md)", "three operations, one trunk with three heads"),
    "dyck": ("[Dyck](dyck.md)", "depth of nested brackets, causal, two layers"),
    "scan": ("[SCAN](scan.md)", "commands to actions, encoder and decoder"),
    "stories": ("[Stories](stories.md)", "GPT on generated stories, with a key to retrieve"),
    "shift": ("[Shift](shift.md)", "GPT whose text changes at a known step"),
}
"""Page and description of each family."""


def families(book: Book) -> list[str]:
    """Every family: sizes, parameters, cost."""
    rows = []
    for family, (title, about) in TITLES.items():
        known = FAMILIES.get(family)
        sizes = ", ".join(known.sizes) if known else NONE
        runs = [run for study in book.at_size for run in study.family(family)]
        counts = {run.config["size"]: run.result["parameter_count"] for run in runs}
        counts = {**book.published[family].get("parameters", {}), **counts}
        parameters = ", ".join(f"{size} {step(count)}" for size, count in counts.items())
        rates = {run.config["size"]: _rate(runs, run.config["size"]) for run in runs}
        speed = ", ".join(f"{size} {number(rate, 2)}" for size, rate in rates.items()) or "not recorded"
        rows.append([title, about, sizes, parameters, str(len(runs)), speed])
    head = ["family", "what it is", "sizes", "parameters", "runs recorded", "seconds / 1,000 steps"]
    return table(head, rows)


def _rate(runs: Sequence[Run], size: str) -> float:
    """The least time: what the machine does when nothing else runs on it."""
    of_size = [run.result for run in runs if run.config["size"] == size]
    return min(1000 * result["wall_seconds"] / result["steps"] for result in of_size)


def studies(book: Book) -> list[str]:
    """Every study: planned, recorded, left, and the command."""
    rows = []
    for name, about in STUDIES.items():
        command = f"`spectral-edge study {name} --out results/{name}`"
        study = book.studies.get(name)
        if study is None:
            rows.append([f"`{name}`", about, "not recorded", NONE, NONE, NONE, command])
            continue
        planned, recorded = len(study.runs), study.recorded
        hours = sum(run.result["wall_seconds"] for run in recorded) / 3600
        cells = [str(planned), str(len(recorded)), str(planned - len(recorded)), number(hours, 2)]
        rows.append([f"`{name}`", about, *cells, command])
    return table(["study", "what it holds", "planned", "recorded", "left", "hours so far", "command"], rows)


def recorded(book: Book) -> list[str]:
    """Runs of the grokking study by family: recorded and left."""
    rows = []
    for family in GROKKING:
        planned = book.planned("grokking", family)
        done = [run for run in planned if run.result is not None]
        roles = [sum(run.role == role for run in done) for role in ("run", "control")]
        sizes = ", ".join(dict.fromkeys(run.config["size"] for run in planned)) or NONE
        rows.append([TITLES[family][0], sizes, str(len(planned)), *map(str, roles), str(len(planned) - len(done))])
    return table(["family", "size", "planned", "runs recorded", "controls recorded", "left"], rows)


def counts(book: Book) -> list[str]:
    """The published counts of declines beside ours, families together."""
    published = book.published["counts"]
    bar = published["bar"]
    runs = book.runs_with_decay(*GROKKING)
    grokked = [run for run in runs if run.grok("first_95") is not None]
    read = [book.reading(run).get("published", {}).get("g23") for run in grokked]
    read = [fall for fall in read if fall]
    declined = sum(fall["fold"] > bar for fall in read)
    pairs = book.pairs(*GROKKING)
    values = both(pairs, DECLINES[0])
    controls = [run for run in book.recorded("grokking", *GROKKING) if run.role == "control"]
    own = [run for run in controls if run.grok("first_95") is not None]
    ends = [book.reading(run).get("published", {}).get("g23_to_end") for run in controls]
    ends = [fall["fold"] for fall in ends if fall]
    ones = [book.reading(run).get("published", {}).get("k_star_weighted") for run in grokked]
    versions = "; ".join(
        f"{hits} of {count} ({name})" for name, (hits, count) in published["declined_without_decay"].items()
    )

    def of(name: str) -> str:
        return f"{published[name][0]} of {published[name][1]}"

    def ours(hits: int, count: int) -> str:
        return percent(intervals.share(hits, count))

    rows = [
        ["runs with decay that reach 0.95", of("groks_with_decay"), ours(len(grokked), len(runs))],
        [
            f"of these, as far as there are two full windows, g23 declined by more than {bar}",
            of("declined_with_decay"),
            ours(declined, len(read)),
        ],
        [
            f"controls that reach 0.95 *and* declined by more than {bar}, the published count",
            versions,
            ours(sum(_declined(book, run, bar) for run in own), len(controls)),
        ],
        [
            f"controls that declined by more than {bar} up to their twin's step",
            NONE,
            ours(sum(control > bar for _, control in values), len(values)),
        ],
        [
            f"controls that declined by more than {bar} to the end of their run",
            NONE,
            ours(sum(end > bar for end in ends), len(ends)),
        ],
        ["runs whose decline exceeds their control's at the same step", NONE, ours(_above(values), len(values))],
        [
            "weighted k* of 1 at the step, runs with decay",
            NONE,
            ours(sum(k == 1 for k in ones), sum(k is not None for k in ones)),
        ],
    ]
    return table(["count", "published", "ours [95 %]"], rows)


def _above(values: Sequence[tuple[float, float]]) -> int:
    return sum(run > control for run, control in values)


def _declined(book: Book, control: Run, bar: float) -> bool:
    """Whether a control that makes the transition itself declined up to its own step."""
    fall = book.reading(control).get("own step", {}).get("g23")
    return fall is not None and fall["fold"] > bar


def by_family(book: Book) -> list[str]:
    """The comparison of runs with their controls, family by family."""
    rows = []
    for family in GROKKING:
        pairs = book.pairs(family)
        cells = []
        for statistic in DECLINES:
            values = both(pairs, statistic)
            cells.append(f"{_above(values)} of {len(values)}" if values else NONE)
        values = both(pairs, DECLINES[0])
        rows.append([TITLES[family][0], *cells, percent(intervals.share(_above(values), len(values)))])
    return table(["family", *(statistic.title for statistic in DECLINES), "first column, 95 %"], rows)
