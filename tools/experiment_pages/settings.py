"""What runs are made of and what they cost: settings, parameters, time, and published figures beside them."""

from collections.abc import Mapping, Sequence

from experiment_pages.book import Book
from experiment_pages.records import Run
from experiment_pages.words import NOTHING, number, setting, step, table


def settings(book: Book, *families: str) -> list[str]:
    """The configuration of a family's runs in the grokking study; values in which they differ are listed."""
    return _settings([book.planned("grokking", family) for family in families], families)


def planned_settings(book: Book, *families: str) -> list[str]:
    """The same over all studies."""
    runs = [
        [run for study in book.at_size for run in study.runs.values() if run.family == family] for family in families
    ]
    return _settings(runs, families)


def _settings(runs: Sequence[Sequence[Run]], families: Sequence[str]) -> list[str]:
    shown = [(family, members) for family, members in zip(families, runs, strict=True) if members]
    if not shown:
        return [NOTHING]
    tasks = dict.fromkeys(name for _, members in shown for name in members[0].config["task"])
    watched = ("size", "weight_decay", "steps", "window", "horizon", "observe_every", "eval_every", "ladder")
    rows = [[f"`{name}`", *(_values([run.config["task"] for run in m], name) for _, m in shown)] for name in tasks]
    rows += [[f"`{name}`", *(_values([run.config for run in m], name) for _, m in shown)] for name in watched]
    return table(["setting", *(f"`{family}`" for family, _ in shown)], rows)


def _values(settings: Sequence[Mapping[str, object]], name: str) -> str:
    found = [setting.get(name) for setting in settings]
    if name == "steps":  # a control trains its twin's steps and half as many more
        numbers = [value for value in found if isinstance(value, int)]
        return f"at most {max(numbers):,}"
    return ", ".join(dict.fromkeys(map(setting, found)))


def cost(book: Book, *families: str) -> list[str]:
    """Parameters and time of what is recorded."""
    rows = []
    for (family, size), runs in _by_size(book, families).items():
        rates = sorted(1000 * run.result["wall_seconds"] / run.result["steps"] for run in runs)
        seconds = [run.result["wall_seconds"] for run in runs]
        rows.append(
            [
                f"{family}, {size}",
                step(runs[0].result["parameter_count"]),
                str(len(runs)),
                number(rates[0], 2),
                number(rates[len(rates) // 2], 2),
                f"{step(min(seconds))} to {step(max(seconds))}",
            ]
        )
    if not rows:
        return [NOTHING]
    head = ["family, size", "parameters", "runs", "s / 1,000 steps, least", "median", "s / run"]
    return table(head, rows)


def _by_size(book: Book, families: Sequence[str]) -> dict[tuple[str, str], list[Run]]:
    found: dict[tuple[str, str], list[Run]] = {}
    for study in book.at_size:
        for run in study.family(*families):
            found.setdefault((run.family, run.config["size"]), []).append(run)
    return found


def published_figures(book: Book, family: str) -> list[str]:
    """The published figures of a family, and where they were read."""
    figures: Mapping[str, object] = book.published[family]["figures"]
    rows = [[name, _figure(value)] for name, value in figures.items() if name != "source"]
    source = str(figures["source"]).replace("k*", "k\\*")
    return [*table(["", "published"], rows), "", f"Source: {source}."]


def _figure(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
