"""Tables of studies by arm: runs that differ in nothing but their seed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from experiment_pages import intervals
from experiment_pages.book import Book
from experiment_pages.records import Run
from experiment_pages.words import NONE, NOTHING, estimate, number, percent, setting, step, table

LOSSES = ("test_loss", "validation_loss", "val_loss")
"""Names under which families log the loss on held-out data, the first that is there."""

_NO_ARM = ("seed", "steps", "checkpoint_every", "device")
"""Settings that do not make another arm: a control's steps follow from its twin's."""

MOST_NAMED = 2
"""Settings that an arm's name lists with their values, however usual."""


def arms(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs by arm, named by role and by the settings that vary in their family; if many do, by the unusual ones."""
    families = {run.family: [_flat(other.config) for other in runs if other.family == run.family] for run in runs}
    found: dict[str, list[Run]] = {}
    for run in runs:
        settings, others = _flat(run.config), families[run.family]
        varying = [name for name in settings if len({repr(other.get(name)) for other in others}) > 1]
        if len(varying) > MOST_NAMED:
            varying = [name for name in varying if settings[name] != _commonest([other.get(name) for other in others])]
        named = ", ".join(f"{name} {setting(settings[name])}" for name in varying)
        found.setdefault(f"{run.family}, {run.role}" + (f": {named}" if named else ""), []).append(run)
    return found


def outcomes(book: Book, study: str) -> list[str]:
    """What became of every arm of a study."""
    planned = book.studies.get(study)
    if planned is None or not planned.recorded:
        return [NOTHING]
    rows = []
    for label, runs in arms(planned.recorded).items():
        grokked = [run.grok("sustained_95") for run in runs if run.result["grok"]]
        met = [at for at in grokked if at is not None]
        accuracies = [value for run in runs if (value := run.final("test_accuracy")) is not None]
        losses = [value for run in runs if (value := held_out(run)) is not None]
        rows.append(
            [
                label,
                str(len(runs)),
                percent(intervals.share(len(met), len(grokked))),
                estimate(intervals.mean(met), step),
                estimate(intervals.mean(accuracies)),
                estimate(intervals.mean(losses)),
            ]
        )
    head = ["arm", "runs", "reach 0.95, three times running", "at step", "test accuracy at the end"]
    return table([*head, "loss on held-out data at the end"], rows)


def falls(book: Book, study: str) -> list[str]:
    """How far g23 falls to the end of the runs of every arm, and where it stands then."""
    planned = book.studies.get(study)
    if planned is None:
        return [NOTHING]
    rows = []
    for label, runs in arms(planned.recorded).items():
        read = [found["published"] for run in runs if "published" in (found := book.reading(run))]
        ends = [found["g23_to_end"]["fold"] for found in read if found["g23_to_end"]]
        if not ends:
            continue
        ones = [found["k_star_last"] == 1 for found in read if found["k_star_last"] is not None]
        coherences = [found["coherence"] for found in read if found["coherence"] is not None]
        rows.append(
            [
                label,
                str(len(read)),
                estimate(intervals.geometric(ends)),
                percent(intervals.share(sum(end > book.published["counts"]["bar"] for end in ends), len(ends))),
                percent(intervals.share(sum(ones), len(ones))),
                estimate(intervals.mean(coherences)),
            ]
        )
    head = ["arm", "runs", "g23, peak to end", "above 1.5", "weighted k* of 1 at the end", "coherence where read"]
    return table(head, rows) if rows else [NOTHING]


def halves(book: Book, study: str) -> list[str]:
    """How many runs with and without a transition are in each half."""
    planned = book.studies.get(study)
    if planned is None:
        return ["Not planned in this folder yet."]
    counts: Counter[tuple[str, str]] = Counter()
    for run in planned.runs.values():
        counts[run.half, "planned"] += 1
        if run.result is not None:
            made = run.grok("sustained_95") is not None
            counts[run.half, "with" if made else "without"] += 1
    names = ("with", "without", "planned")
    rows = [
        [half or "neither", *(str(counts[half, name]) for name in names)] for half in sorted({key[0] for key in counts})
    ]
    return table(["half", "recorded with a transition", "recorded without", "planned"], rows)


def perturbed(book: Book, study: str, abouts: Mapping[str, str]) -> list[str]:
    """What each perturbation did to its runs, against their twins.

    Args:
        book: what is recorded.
        study: its name.
        abouts: what every kind does, in words.
    """
    planned = book.studies.get(study)
    runs = [] if planned is None else [run for run in planned.recorded if run.config.get("perturbation")]
    if not runs:
        return [NOTHING]
    found: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        how = "gradual" if run.config["perturb_ramp"] else "abrupt"
        found.setdefault((run.family, run.config["perturbation"], how), []).append(run)
    rows = []
    for (family, kind, how), members in sorted(found.items()):
        twins = [planned.runs.get(run.twin or "") for run in members]
        ratios = [
            own / other
            for run, twin in zip(members, twins, strict=True)
            if twin is not None and (own := held_out(run)) and (other := held_out(twin))
        ]
        broken = sum(held_out(run) is None for run in members)
        rows.append(
            [
                f"`{kind}`, {how}",
                family,
                abouts.get(kind, NONE),
                str(len(members)),
                estimate(intervals.geometric(ratios)),
                str(broken),
            ]
        )
    head = ["fault", "family", "what is done", "runs", "final held-out loss over the twin's", "ended without a number"]
    return table(head, rows)


def held_out(run: Run) -> float | None:
    """The last loss on held-out data, None where none is logged or it is no number."""
    return next((run.final(name) for name in LOSSES if run.result and name in run.result["final_metrics"]), None)


def finals(book: Book, study: str) -> list[str]:
    """The last evaluation of every recorded run of a study."""
    runs = book.studies[study].recorded if study in book.studies else []
    if not runs:
        return [NOTHING]
    names = list(dict.fromkeys(name for run in runs for name in run.result["final_metrics"]))
    rows = [[run.name, step(run.result["steps"]), *(number(run.final(name)) for name in names)] for run in runs]
    return table(["run", "steps", *(name.replace("_", " ") for name in names)], rows)


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    found = {**config["task"], **{name: value for name, value in config.items() if name not in ("task", "family")}}
    return {name: value for name, value in found.items() if name not in _NO_ARM}


def _commonest(values: Sequence[Any]) -> Any:
    counted = Counter(map(repr, values))
    return max(values, key=lambda value: counted[repr(value)])
