"""Tables and paragraphs in Markdown."""

import textwrap
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table whose columns are numbers but for the first."""
    ruler = "| --- |" + " ---: |" * (len(head) - 1)
    return [line(head), ruler, *(line(row) for row in rows)]


def line(cells: Sequence[str]) -> str:
    """A row of a table."""
    return "| " + " | ".join(cells) + " |"


def prose(text: str) -> list[str]:
    """A paragraph in lines of 120 characters."""
    return textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False)
