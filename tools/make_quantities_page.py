"""Write docs/quantities.md from the vocabulary in spectral_edge.quantities and the outcomes in spectral_edge.errors.

python tools/make_quantities_page.py            # writes docs/quantities.md
python tools/make_quantities_page.py --check    # says whether the page is up to date
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from spectral_edge.errors import Outcome
from spectral_edge.quantities import K_STAR_CONVENTIONS, QUANTITIES, REGIMES, ROW_METADATA

PAGE = Path(__file__).parents[1] / "docs" / "quantities.md"

FAMILIES = {
    "spectrum": ("Spectrum", "Of the window's Gram matrix alone."),
    "edge": ("Edge", "Ratios of consecutive singular values, the positions k* that they give, and the gaps there."),
    "memory": ("Memory and motion", "How the window's updates relate to each other in time."),
    "stability": (
        "Stability, one observation apart",
        "The newest window against the one before, with which it shares W - 1 updates.",
    ),
    "overlap": (
        "Overlap, one window apart",
        "The newest window against the one W observations before, with which it shares none.",
    ),
    "null": ("Null", "The window against updates without structure: see the page on nulls."),
}
"""Heading and first sentence of each family, in order."""

OUTCOMES = (
    ("What became of an observation", range(20)),
    ("Why a quantity is undefined", range(20, 40)),
    ("Reservations about a value that is given", range(40, 60)),
)

INTRODUCTION = """\
# Quantities

This page is made by `tools/make_quantities_page.py` from `spectral_edge.quantities`; change it there.

X is the W x P matrix of the window's updates (newest last), G = X X^T with eigenvalues lambda_1 >= ... >= lambda_W,
sigma_j = sqrt(lambda_j) the singular values of X, u_j and v_j its left (time) and right (parameter) directions,
M = X^T X. tr G is the sum of the squared norms of the updates. Positions j and k* count from 1. A quantity has the same
name as an attribute of a reading, as a column of a series and in this page.

- **shape**: a scalar, or a vector with one value a mode (W) or a ratio (W-1).
- **unit**: u is the parameters' unit, 1 is none, eta the learning rate's.
- **stance**: *published* as it stands in a paper; *corrected* where that form is ill-defined or says something else;
  *null* for a comparison with updates without structure; *descriptive* for the rest.
- **needs**: the recorded horizon L, for a window of W rows at stride s. "thesis" is arXiv 2603.28964.

The conventions that `k_star=` accepts are {conventions}. The choice is where
`gap_ratio`, `gap_sigma`, `gap_lambda` and the `adiabatic_*` are read.

As an attribute of a reading, `regime` is one of {regimes}; as a column it is 0, 1 or 2.
"""


def page() -> str:
    """The whole page."""
    named = [f"`{name}`" for name in K_STAR_CONVENTIONS]
    regimes = [f'`"{name}"`' for name in REGIMES]
    head = INTRODUCTION.replace("k* ", "k\\* ")
    parts = [head.format(conventions=", ".join(named), regimes=", ".join(regimes))]
    for family, (heading, sentence) in FAMILIES.items():
        rows = [
            (f"`{q.name}`", *map(escaped, (q.symbol, q.shape, q.unit, q.stance, q.needs, q.definition, q.reference)))
            for q in QUANTITIES.values()
            if q.family == family
        ]
        names = ("name", "symbol", "shape", "unit", "stance", "needs", "definition", "reference")
        parts.append(section(2, heading, escaped(sentence), names, rows))
    said = "Stored beside the inner products of every update, and found under these names too. Undefined where unknown."
    metadata = [(f"`{name}`", escaped(text)) for name, text in ROW_METADATA.items()]
    parts.append(section(2, "Row metadata", said, ("name", "definition"), metadata))
    said = "`reading.reason(name)` and `series.reason(name)` give an `Outcome`; its `sentence` is what stands here."
    parts.append(f"## Outcomes\n\n{said}\n")
    for heading, codes in OUTCOMES:
        rows = [(f"`{o.name}`", str(o.value), escaped(o.sentence)) for o in Outcome if o.value in codes]
        parts.append(section(3, heading, None, ("outcome", "code", "sentence"), rows))
    return "\n".join(parts)


def section(level: int, heading: str, sentence: str | None, names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A heading, a sentence and a table."""
    lines = ["#" * level + f" {heading}", ""]
    lines += [sentence, ""] if sentence else []
    lines += [_row(names), _row(["---"] * len(names)), *(_row(row) for row in rows)]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Text that Markdown leaves alone inside a table."""
    for character in ("\\", "*", "_"):
        text = text.replace(character, f"\\{character}")
    return text.replace("|", "&#124;").replace("<", "&lt;")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page is out of date")
    if not parser.parse_args().check:
        PAGE.write_text(page(), encoding="utf-8")
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != page():
        sys.exit("docs/quantities.md is out of date; run: python tools/make_quantities_page.py")


if __name__ == "__main__":
    main()
