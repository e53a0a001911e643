"""Makes the chapter on experiments: reads recorded runs, fills the tables of docs/experiments and draws its pictures.

python tools/make_experiments.py                     # after runs were recorded
python tools/make_experiments.py --check             # says whether anything is out of date, and writes nothing
python tools/make_experiments.py --results FOLDER    # runs that are recorded elsewhere
python tools/make_experiments.py --again             # reads every trace again, after a change of what is read

Traces are read once; what they say is kept in results/experiments, a file a study. Words between tables are written by
hand and left as they are. What is not recorded is said to be missing, so the tool can be run at any time.
"""

import argparse
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from experiment_pages import arms, language, overview, pairs, pictures, readings, records, settings, steps
from experiment_pages.book import Book, published
from experiment_pages.readings import GROKKING
from experiment_pages.words import Block, filled
from spectral_edge.experiments.kinds import KINDS

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "experiments"
PICTURES = ROOT / "docs" / "images" / "experiments"
RESULTS = ROOT / "results"
GROUPS: Mapping[str, tuple[str, ...]] = {
    "arithmetic": ("arithmetic",),
    "joint": ("dual", "tri"),
    "dyck": ("dyck",),
    "scan": ("scan",),
}
"""Pages with pictures, and the families on them."""
CAPTIONS = {
    "runs": "Accuracy, g23 and coherence over time, of runs and of their controls",
    "declines": "How far things fell up to the step of the transition, runs beside controls",
}
MOST_PAIRS = 4
"""Pairs that one picture shows over time."""


def blocks(book: Book) -> dict[str, Block]:
    """What makes each marked block of the pages, by name."""
    abouts = {name: kind.about for name, kind in KINDS.items()}
    made: dict[str, Block] = {
        "families": partial(overview.families, book),
        "studies": partial(overview.studies, book),
        "recorded": partial(overview.recorded, book),
        "counts": partial(overview.counts, book),
        "by-family": partial(overview.by_family, book),
        "all-summary": partial(pairs.summary, book, *GROKKING),
        "all-found": partial(pairs.found, book, *GROKKING),
        "joint-settings": partial(settings.settings, book, "dual", "tri"),
        "joint-cost": partial(settings.cost, book, "dual", "tri"),
        "joint-declines": partial(pairs.declines, book, "dual", "tri"),
        "joint-states": partial(pairs.states, book, "dual", "tri"),
        "dyck-summary-98": partial(pairs.summary, book, "dyck", convention="at 0.98"),
        "joint-summary": partial(pairs.summary, book, "dual", "tri"),
        "joint-found": partial(pairs.found, book, "dual", "tri"),
        "joint-steps": partial(steps.joint_steps, book),
        "same-decay-outcomes": partial(arms.outcomes, book, "same-decay"),
        "same-decay-pairs": partial(pairs.by_arm, book.same_decay()),
        "without-decay-pairs": partial(pairs.by_arm, book.without_decay()),
        "null-bank-halves": partial(arms.halves, book, "null-bank"),
        "null-bank-outcomes": partial(arms.outcomes, book, "null-bank"),
        "null-bank-unwarned": partial(arms.unwarned, book, "null-bank"),
        "fault-bank-perturbed": partial(arms.perturbed, book, "fault-bank", abouts),
        "fault-bank-around": partial(language.around_perturbation, book, "fault-bank"),
        "fault-bank-halves": partial(arms.halves, book, "fault-bank"),
        "fault-bank-outcomes": partial(arms.outcomes, book, "fault-bank"),
        "interventions-perturbed": partial(arms.perturbed, book, "interventions", abouts),
        "interventions-around": partial(language.around_perturbation, book, "interventions"),
        "interventions-outcomes": partial(arms.outcomes, book, "interventions"),
        "optimizers-outcomes": partial(arms.outcomes, book, "optimizers"),
        "optimizers-positions": partial(language.positions, book, "optimizers"),
        "shift-around": partial(language.around_shift, book),
        "optimizers-finals": partial(arms.finals, book, "optimizers"),
        "shift-outcomes": partial(arms.outcomes, book, "shift"),
        "shift-finals": partial(arms.finals, book, "shift"),
    }
    made["gpu-outcomes"] = partial(arms.outcomes, book, "gpu")
    made["gpu-positions"] = partial(language.positions, book, "gpu")
    made["scan-published"] = partial(pairs.published_falls, book, "scan", "gpu")
    made["dyck-published"] = partial(pairs.published_falls, book, "dyck")
    made["scan-steps"] = partial(steps.steps, book, "scan", "gpu")
    made["scan-own-steps"] = partial(steps.own_steps, book, "scan")
    made["scan-reference-declines"] = partial(pairs.declines, book, "scan", study="gpu")
    for family in ("arithmetic", "dyck"):
        made[f"{family}-steps"] = partial(steps.steps, book, family)
    for family in ("arithmetic", "dyck", "scan"):
        made[f"{family}-settings"] = partial(settings.settings, book, family)
        made[f"{family}-cost"] = partial(settings.cost, book, family)
        for make in (pairs.declines, pairs.states, pairs.summary, pairs.found):
            made[f"{family}-{make.__name__}"] = partial(make, book, family)
    for name, members in GROUPS.items():
        for which, caption in CAPTIONS.items():
            made[f"{name}-picture-{which}"] = partial(pairs.picture, book, name, which, caption, *members)
    for name in ("arithmetic", "interventions"):
        made[f"{name}-published"] = partial(settings.published_figures, book, name)
    for family in ("stories", "shift"):
        made[f"{family}-settings"] = partial(settings.planned_settings, book, family)
        made[f"{family}-cost"] = partial(settings.cost, book, family)
        made[f"{family}-published"] = partial(settings.published_figures, book, family)
    return made


def texts(book: Book) -> dict[Path, str]:
    """Every page of the chapter as it should be."""
    made = blocks(book)
    return {path: filled(path.read_text(encoding="utf-8"), made) for path in sorted(PAGES.glob("*.md"))}


def out_of_date(results: Path, kept: Path) -> list[str]:
    """Readings and pages that are not those of the records.

    Args:
        results: folder of the studies' folders.
        kept: where readings are kept.
    """
    studies = records.load(results)
    found = readings.stale(studies, kept)
    book = Book(studies, {name: readings.load(kept, name) for name in studies}, published())
    pages = [path for path, text in texts(book).items() if path.read_text(encoding="utf-8") != text]
    return [*found, *(str(path.relative_to(ROOT)) for path in pages)]


def draw(book: Book, folder: Path) -> list[Path]:
    """Draws every picture that there are records for.

    Args:
        book: what is recorded.
        folder: where pictures go.
    """
    drawn: list[Path] = []
    for name, members in GROUPS.items():
        recorded = book.pairs(*members)
        if recorded:
            over_time, at_the_step = folder / f"{name}_runs.png", folder / f"{name}_declines.png"
            pictures.draw(pictures.over_time(recorded[:MOST_PAIRS]), over_time)
            pictures.draw(pictures.at_the_step(book, recorded), at_the_step)
            drawn += [over_time, at_the_step]
    return drawn


def main() -> None:
    """Reads, writes and draws, or checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the studies' folders")
    parser.add_argument("--readings", type=Path, default=RESULTS / "experiments", help="where readings are kept")
    parser.add_argument("--again", action="store_true", help="read every trace again")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if anything is out of date")
    options = parser.parse_args()
    if options.check:
        stale = out_of_date(options.results, options.readings)
        if stale:
            sys.exit(f"out of date: {', '.join(stale)}; run: python tools/make_experiments.py")
        return
    studies = records.load(options.results)
    found = readings.update(studies, options.readings, again=options.again, said=print)
    book = Book(studies, found, published())
    for path, text in texts(book).items():
        path.write_text(text, encoding="utf-8")
    for path in draw(book, PICTURES):
        print(f"drew {path.name}")


if __name__ == "__main__":
    main()
