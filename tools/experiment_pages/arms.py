"""Tables of studies by arm: runs that differ in nothing but their seed."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from experiment_pages import intervals
from experiment_pages.book import Book
from experiment_pages.records import Run, arm
from experiment_pages.words import NONE, NOTHING, estimate, number, percent, step, table

BAR = 1.5
"""The published bar of a fall of g23."""
LOSSES = ("test_loss", "validation_loss", "val_loss")
"""Names under which families log the loss on held-out data, the first that is there."""


def arms(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs by arm, in the order of the plan."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(arm(run), []).append(run)
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


def halves(book: Book, study: str) -> list[str]:
    """How many runs of each role are in each half, and how many of them made a transition, Dyck's at 0.98."""
    planned = book.studies.get(study)
    if planned is None:
        return [NOTHING]
    counts: Counter[tuple[str, str, str]] = Counter()
    for run in planned.runs.values():
        counts[run.half, run.role, "planned"] += 1
        if run.result is not None:
            made = run.grok("sustained_98" if run.family == "dyck" else "sustained_95") is not None
            counts[run.half, run.role, "with" if made else "without"] += 1
    kinds = sorted({key[:2] for key in counts})
    names = ("planned", "with", "without")
    rows = [[half or "neither", role, *(str(counts[half, role, name]) for name in names)] for half, role in kinds]
    return table(["half", "expected", "planned", "recorded with a transition", "recorded without"], rows)


def unwarned(book: Book, study: str) -> list[str]:
    """What the published statistics say of every arm of a bank, over the windows of the whole model.

    Of the development half alone: the other is for judging alarms.
    """
    planned = book.studies.get(study)
    rows = []
    for label, runs in arms([] if planned is None else planned.recorded).items():
        walks = [walk for run in runs if (walk := next(iter(book.reading(run).values()), None)) is not None]
        folds = [walk["fold"] for walk in walks if walk.get("fold") is not None]
        outside = [walk["outside"] for walk in walks if walk.get("outside") is not None]
        if walks:
            rows.append(
                [
                    label,
                    str(len(walks)),
                    percent(intervals.share(sum(fold > BAR for fold in folds), len(folds))),
                    estimate(intervals.geometric(folds)),
                    estimate(intervals.mean(outside)),
                    estimate(intervals.mean([walk["coherence"] for walk in walks if walk["coherence"] is not None])),
                ]
            )
    head = ["arm", "runs", f"g23 falls by more than {BAR}", "fall of g23", "windows outside the band", "coherence"]
    return table(head, rows) if rows else [NOTHING]


def perturbed(book: Book, study: str, abouts: Mapping[str, str]) -> list[str]:
    """What each perturbation did to its runs, against their twins.

    Args:
        book: what is recorded.
        study: its name.
        abouts: what every kind does, in words.
    """
    planned = book.studies.get(study)
    recorded = [] if planned is None else planned.recorded
    runs = [run for run in recorded if run.config.get("perturbation") not in (None, "", "sham")]
    if not runs:
        return [NOTHING]
    found: dict[tuple[str, str, float, str], list[Run]] = {}
    for run in runs:
        how = "gradual" if run.config["perturb_ramp"] else "abrupt"
        strength = run.config.get("strength")
        key = run.family, run.config["perturbation"], math.nan if strength is None else strength, how
        found.setdefault(key, []).append(run)
    rows = []
    for (family, kind, strength, how), members in sorted(found.items()):
        twins = [planned.runs.get(run.twin or "") for run in members]
        ratios = [
            last[0] / last[1]
            for run, twin in zip(members, twins, strict=True)
            if twin is not None and (last := last_common(run, twin)) and all(last)
        ]
        broken = sum(held_out(run) is None for run in members)
        rows.append(
            [
                f"`{kind}`{'' if math.isnan(strength) else f' {strength:g}'}, {how}",
                family,
                abouts.get(kind, NONE),
                str(len(members)),
                estimate(intervals.geometric(ratios)),
                str(broken),
            ]
        )
    head = [
        "fault",
        "family",
        "what is done",
        "runs",
        "held-out loss over the twin's, last common step",
        "ended without a number",
    ]
    return table(head, rows)


def held_out(run: Run) -> float | None:
    """The last loss on held-out data, None where none is logged or it is no number."""
    return next((run.final(name) for name in LOSSES if run.result and name in run.result["final_metrics"]), None)


def last_common(run: Run, twin: Run) -> tuple[float, float] | None:
    """Losses on held-out data of both at the last step at which both were evaluated; None without such a step."""
    name = next((name for name in LOSSES if run.result and name in run.result["metrics"]), None)
    if name is None or not twin.result:
        return None
    metrics = run.result["metrics"], twin.result["metrics"]
    columns = [dict(zip(of["step"], of.get(name, []), strict=False)) for of in metrics]
    common = set(columns[0]) & set(columns[1])
    own, other = (column[max(common)] for column in columns) if common else (None, None)
    return None if own is None or other is None else (own, other)


def finals(book: Book, study: str) -> list[str]:
    """The last evaluation of every recorded run of a study."""
    runs = book.studies[study].recorded if study in book.studies else []
    if not runs:
        return [NOTHING]
    names = list(dict.fromkeys(name for run in runs for name in run.result["final_metrics"]))
    rows = [[run.name, step(run.result["steps"]), *(number(run.final(name)) for name in names)] for run in runs]
    return table(["run", "steps", *(name.replace("_", " ") for name in names)], rows)
