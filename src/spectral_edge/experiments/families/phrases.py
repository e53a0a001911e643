"""Word pools and sentence templates, and draws from them that are the same on every machine.

A file of words has sections, `[name]` on a line of its own, with an entry a line; `#` begins a comment line. An entry
that is used as a template may hold alternatives, "(one|another)", draws from other sections, "<section>", and slots,
"{name}" or "{name.field}", that the caller fills.
"""

import random
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from itertools import accumulate
from typing import TypeVar

T = TypeVar("T")

_ALTERNATIVES = re.compile(r"\(([^()]*\|[^()]*)\)")
_POOL = re.compile(r"<(\w+)>")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiou])")


@cache
def read_words(name: str) -> Mapping[str, tuple[str, ...]]:
    """The sections of a file of words of this package, in order.

    Args:
        name: the file's name.
    """
    sections: dict[str, list[str]] = {}
    entries: list[str] = []
    for line in files("spectral_edge.experiments.families").joinpath(name).read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if text.startswith("[") and text.endswith("]"):
            entries = sections.setdefault(text[1:-1], [])
        elif text and not text.startswith("#"):
            entries.append(text)
    return {section: tuple(found) for section, found in sections.items()}


@cache
def _cumulative(count: int) -> tuple[float, ...]:
    return tuple(accumulate(1.0 / rank for rank in range(1, count + 1)))


class Chance:
    """Random draws that depend on a key alone.

    Python's generator, seeded by a text, and of it only `random()`, whose sequence is fixed across versions.

    Args:
        key: what the draws depend on.
    """

    def __init__(self, key: str) -> None:
        self._random = random.Random(key).random

    def happens(self, probability: float) -> bool:
        """True with this probability."""
        return self._random() < probability

    def between(self, least: int, most: int) -> int:
        """A whole number from `least` to `most`, both included, all equally likely."""
        return least + int(self._random() * (most - least + 1))

    def one_of(self, items: Sequence[T]) -> T:
        """An item, all equally likely."""
        return items[int(self._random() * len(items))]

    def often_first(self, items: Sequence[T]) -> T:
        """An item under Zipf's law: that of rank r with a probability proportional to 1 / r."""
        weights = _cumulative(len(items))
        return items[bisect_right(weights, self._random() * weights[-1], hi=len(items) - 1)]


class Phrases:
    """Sentences from the templates of a file.

    Args:
        name: the file of words.
        chance: where its draws come from.
    """

    def __init__(self, name: str, chance: Chance) -> None:
        self.words, self._chance = read_words(name), chance

    def word(self, section: str) -> str:
        """An entry of a pool, those listed first drawn more often."""
        return self._chance.often_first(self.words[section])

    def sentence(self, section: str, slots: Mapping[str, object]) -> str:
        """A template of a section, filled; a capital begins it, and "a" is "an" before a vowel.

        Args:
            section: where to draw from, all templates equally likely.
            slots: what stands in braces, by name.
        """
        template = self._chance.one_of(self.words[section])
        template = _ALTERNATIVES.sub(lambda found: self._chance.one_of(found[1].split("|")), template)
        template = _POOL.sub(lambda found: self.word(found[1]), template)
        text = _ARTICLE.sub(r"\1n ", template.format_map(slots))
        # A quotation mark may come before the first letter.
        first = 1 if text[:1] == '"' else 0
        return text[:first] + text[first : first + 1].upper() + text[first + 1 :]
