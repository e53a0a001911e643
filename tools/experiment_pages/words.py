"""Numbers, tables and blocks as they stand on the pages."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from experiment_pages.intervals import Estimate

NONE = "–"
"""What stands where there is no number."""

_NUMERIC = frozenset("0123456789-–")

NOTHING = "Nothing is recorded yet."

Block = Callable[[], Sequence[str]]

_BLOCK = re.compile(r"(<!-- made: ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def setting(value: object) -> str:
    """A setting or another plain value as a word."""
    words = {True: "yes", False: "no"}
    return NONE if value is None else words[value] if isinstance(value, bool) else str(value)


def step(value: float | None) -> str:
    """A step."""
    return NONE if value is None else f"{value:,.0f}"


def number(value: float | None, digits: int = 3) -> str:
    """A number to so many significant digits, never in powers of ten unless it is tiny."""
    if value is None or math.isnan(value):
        return NONE
    if value == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, places)
    if abs(rounded) < 1e-4:
        return f"{rounded:.{digits - 1}e}"
    return f"{rounded:,.{max(places, 0)}f}"


def estimate(found: Estimate | None, shown: Callable[[float], str] = number) -> str:
    """A number with its interval in brackets."""
    if found is None:
        return NONE
    return f"{shown(found.value)} [{shown(found.low)}, {shown(found.high)}]" if found.known else shown(found.value)


def percent(found: Estimate | None) -> str:
    """A share in per cent with its interval and what it is of."""
    if found is None:
        return NONE
    hits = round(found.value * found.count)
    return f"{hits} of {found.count} [{100 * found.low:.0f} %, {100 * found.high:.0f} %]"


def percents(value: float) -> str:
    """A share in per cent, without more."""
    return f"{100 * value:.0f} %"


def beside(first: str, second: str) -> str:
    """Two numbers in one cell: the run's and the control's."""
    return f"{first} / {second}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table; columns of numbers stand on the right."""
    rows = list(rows)
    columns = zip(*rows, strict=True) if rows else [()] * len(head)
    numeric = [all(cell[:1] in _NUMERIC for cell in column) for column in columns]
    ruler = ["---:" if is_numeric else "---" for is_numeric in numeric]
    return [_line(head), _line(ruler), *(_line(row) for row in rows)]


def _line(cells: Sequence[str]) -> str:
    # Two stars in one row would be read as emphasis between them.
    return f"| {' | '.join(cells)} |".replace("k*", "k\\*")


def filled(text: str, blocks: Mapping[str, Block]) -> str:
    """A page with the content of every marked block made again.

    Args:
        text: the page.
        blocks: what makes each, by the name in its marker.
    """

    def made(found: re.Match[str]) -> str:
        lines = "\n".join(blocks[found[2]]())
        return f"{found[1]}\n{lines}\n\n{found[4]}"

    return _BLOCK.sub(made, text)
