"""The key-retrieval probe: a key sentence names a codeword, and a query sentence some tokens later has to repeat it.

Source: arXiv 2602.23696 and 2603.28964. A probe reads [prefix][key sentence][gap][query sentence, ending in the
codeword][rest]; how far the query is from the key is what makes it hard.
"""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from spectral_edge.experiments.families.phrases import Chance
from spectral_edge.experiments.families.pieces import FIRST_CODEWORD, PIECES, encode

TEMPLATES = (
    (" The secret code is", " The secret code was"),
    (" The word is", " The word was"),
    (" The special word is", " The special word was"),
    (" The password is", " The password was"),
    (" The magic word is", " The magic word was"),
)
"""Beginnings of the key sentence and of the query sentence; the codeword follows both."""

SHORTEST_PREFIX = 2


@cache
def _templates() -> list[tuple[list[int], list[int]]]:
    return [(encode(key), encode(query)) for key, query in TEMPLATES]


def longest_sentences() -> int:
    """Tokens of the longest key sentence and its query sentence together, codewords and full stop included."""
    return max(len(key) + len(query) for key, query in _templates()) + 3


def plant(text: Sequence[int], chance: Chance, *, gap: int, codewords: int, length: int) -> list[int]:
    """A probe in a text.

    Args:
        text: tokens to take prefix, gap and rest from, in this order; they begin anew where they end.
        chance: where the draws come from.
        gap: tokens between key sentence and query sentence.
        codewords: number of codewords.
        length: tokens of the result; enough for the longest sentences, the gap and a prefix of two.

    Returns:
        The tokens; the codeword stands in the key sentence and at the end of the query sentence.
    """
    word = FIRST_CODEWORD + chance.between(0, codewords - 1)
    key, query = chance.one_of(_templates())
    key, query = [*key, word, *encode(".")], [*query, word]
    budget = length - len(key) - len(query) - gap
    prefix = chance.between(SHORTEST_PREFIX, min(budget, max(3, budget // 3)))
    start = chance.between(0, max(0, len(text) - gap - budget))
    source = [text[(start + i) % len(text)] for i in range(budget + gap)]
    return [*source[:prefix], *key, *source[prefix : prefix + gap], *query, *source[prefix + gap :]]


def answers(targets: Tensor) -> Tensor:
    """Which targets [n, length] are the answers of probes: the second codeword of a row."""
    codes = targets >= FIRST_CODEWORD
    return codes & (codes.cumsum(dim=1) == 2)


def retrieval_set(seed: int, *, count: int, gaps: tuple[int, int], codewords: int, length: int) -> Tensor:
    """Probes in random merged pieces, to be scored at their answers.

    Args:
        seed: what they depend on.
        count: how many.
        gaps: shortest and longest gap, all between equally likely.
        codewords: number of codewords.
        length: tokens of each.

    Returns:
        Tokens [count, length], int16.
    """
    chance = Chance(f"retrieval {seed}")
    rows: list[list[int]] = []
    for _ in range(count):
        filler = [chance.between(256, PIECES - 1) for _ in range(length)]
        rows.append(plant(filler, chance, gap=chance.between(*gaps), codewords=codewords, length=length))
    return torch.tensor(rows, dtype=torch.int16)
