"""What this chapter reports of the recorded studies."""

from pathlib import Path

from spectral_edge.studies.recorded import RecordedRun as Run
from spectral_edge.studies.recorded import RecordedStudy as Study
from spectral_edge.studies.recorded import recorded_studies

STUDIES = {
    "grokking": "The runs with and without weight decay of all families, and six with decay that the paper leaves out.",
    "same-decay": "Runs that have the same weight decay and do not make the transition.",
    "fault-bank": "What goes wrong in real training, put into healthy runs at a known step.",
    "null-bank": "Runs without and with a transition, for calibrating alarms.",
    "optimizers": "Story models under AdamW, SGD and Muon.",
    "shift": "Language models whose data change, and those whose data do not.",
    "interventions": "Runs in which weight decay or the gradient is changed on purpose.",
    "gpu": "SCAN, stories and shift at the published sizes, for whoever has a GPU.",
}
"""Every study that this chapter reports, recorded or not."""

BANKS = ("fault-bank", "null-bank")
"""Studies of smaller models and shorter runs, which the pages of the families leave out."""


def arm(run: Run) -> str:
    """What a run has in common with those that differ from it in nothing but the seed: its name without the seed."""
    return "-".join(part for part in run.name.split("-") if part != str(run.seed))


def load(results: Path) -> dict[str, Study]:
    """Every study of this chapter that has a manifest, by name.

    Args:
        results: folder of the studies' folders.
    """
    found = recorded_studies(results)
    return {name: found[name] for name in STUDIES if name in found}
