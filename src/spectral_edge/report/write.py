"""From two traces to one HTML file that works offline, and a picture file for each figure."""

import base64
import io
import json
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectral_edge.analysis import Trace
from spectral_edge.errors import MissingExtraError
from spectral_edge.plots import (
    accuracy_figure,
    coherence_figure,
    decline_figure,
    overview_figure,
    ratios_figure,
    spectrum_figure,
    stability_figure,
)
from spectral_edge.report.captions import caption
from spectral_edge.report.conventions import conventions, null_words
from spectral_edge.report.facts import RunFacts
from spectral_edge.report.pair import Pair
from spectral_edge.report.sentences import differences_sentence, pair_headline
from spectral_edge.report.table import key_numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES = {
    "accuracy": ("Accuracy and loss", accuracy_figure),
    "spectrum": ("Spectrum of the window", spectrum_figure),
    "ratios": ("Gap ratios against the null band, and k*", ratios_figure),
    "coherence": ("Coherence and update norm by layer", coherence_figure),
    "decline": ("g23, tr G and their quotient", decline_figure),
    "stability": ("Stability of the leading directions", stability_figure),
}
"""Heading and drawing of every figure after the overview."""


@dataclass(frozen=True, slots=True)
class _Picture:
    name: str
    heading: str
    data: str
    sentences: list[str]


def require_extras() -> None:
    """Raises `MissingExtraError` unless everything that a report needs is installed."""
    for package in ("jinja2", "matplotlib"):
        if find_spec(package) is None:
            raise MissingExtraError(package, extra="report", purpose="writing a report")


def write_report(
    trace: Trace,
    path: Path,
    *,
    control: Trace | None = None,
    title: str | None = None,
    window: int | None = None,
    images: bool = True,
) -> Path:
    """Writes a report: one HTML file with everything inside, and a PNG of each figure beside it.

    Args:
        trace: the run.
        path: where to; its folder is made if needed. Figures are named after it: `<stem>-spectrum.png`.
        control: a run to compare with, read at the run's transition.
        title: heading of the page.
        window: number of updates; that of the run by default.
        images: whether to write the PNG files.

    Returns:
        The path.

    Raises:
        MissingExtraError: without the extra `report`.
    """
    require_extras()
    import jinja2

    pair = Pair.of(trace, control, window=window)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = _pictures(pair, path if images else None)
    template = files("spectral_edge.report").joinpath("template.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(template).render(
        title=title or _title(pair),
        headline=pair_headline(pair),
        notice=differences_sentence(pair),
        overview=pictures[0],
        figures=pictures[1:],
        columns=[facts.name for facts in pair.both],
        rows=key_numbers(pair),
        conventions=conventions(pair),
        null=null_words(pair),
        notes=[(facts.name, _notes(facts)) for facts in pair.both],
        regenerate=[(facts.name, *_regenerate(facts)) for facts in pair.both],
    )
    path.write_text(page, encoding="utf-8")
    return path


def _title(pair: Pair) -> str:
    return "Spectral edge report" + (": a run and its control" if pair.control is not None else "")


def _pictures(pair: Pair, beside: Path | None) -> list[_Picture]:
    views = pair.views()
    drawn = [("overview", "Overview", overview_figure(views), [])]
    for name, (heading, draw) in FIGURES.items():
        # A figure of windows that do not exist would be an empty frame; its caption says why it is missing.
        if name == "accuracy" or any(facts.windows for facts in pair.both):
            drawn.append((name, heading, draw(views), caption(name, pair)))
    return [_Picture(name, heading, _encode(figure, name, beside), said) for name, heading, figure, said in drawn]


def _encode(figure: "Figure", name: str, beside: Path | None) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    if beside is not None:
        beside.with_name(f"{beside.stem}-{name}.png").write_bytes(buffer.getvalue())
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _notes(facts: RunFacts) -> list[str]:
    return [
        f"step {note.step:,}, {note.outcome.name.lower().replace('_', ' ')}: {note.message}"
        for note in facts.trace.notes
    ]


def _regenerate(facts: RunFacts) -> tuple[str | None, Any, str, str]:
    """Command, seed, versions and the rest of what the trace knows of its run."""
    metadata = facts.trace.metadata
    versions = ", ".join(f"{name} {number}" for name, number in metadata.get("versions", {}).items())
    rest = {name: value for name, value in metadata.items() if name not in ("command", "seed", "versions")}
    listing = json.dumps(rest, indent=2, default=str) if rest else ""
    return metadata.get("command"), metadata.get("seed"), versions, listing
