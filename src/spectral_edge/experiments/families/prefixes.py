"""Every distinct prefix of some strings, packed so that a causal network reads each about once.

What a causal network says at a token depends on the prefix that ends there and on nothing else. The strings of a set
share most of theirs: evaluating the prefixes in place of the strings costs about a third.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

WIDTH = 64
"""Prefixes in a row; wider rows repeat fewer prefixes, and cost more attention."""

ROWS = 64
"""Most rows in a part, so that a part stays in the cache."""


class Prefixes(NamedTuple):
    """Rows of prefixes; a prefix is represented by its last token.

    Attributes:
        tokens: [rows, WIDTH], int64.
        places: [rows, WIDTH], the place of the token in its string, int64.
        mask: [rows, WIDTH, WIDTH], added to attention logits: 0 where a column is a prefix of the row's own, else -inf.
        labels: [rows, WIDTH], int64.
        counts: [rows, WIDTH, sets], how often the prefix occurs in each of the sets that were packed; 0 for padding and
            for a prefix that an earlier row has already, float64.
    """

    tokens: Tensor
    places: Tensor
    mask: Tensor
    labels: Tensor
    counts: Tensor


def prefixes(string: str) -> Iterator[str]:
    """The prefixes of a string, from its first token to the whole."""
    return (string[: end + 1] for end in range(len(string)))


def packed(
    sets: Sequence[Sequence[str]], *, tokens: Mapping[str, int], labels: Mapping[str, int], device: str
) -> list[Prefixes]:
    """The prefixes of all strings of some sets.

    Args:
        sets: strings of at most `WIDTH` tokens, with repetitions.
        tokens: token of a character.
        labels: what is to be said at the end of a prefix.
        device: where the parts go.
    """
    counts: dict[str, list[int]] = {}
    for index, strings in enumerate(sets):
        for string, times in Counter(strings).items():
            for prefix in prefixes(string):
                counts.setdefault(prefix, [0] * len(sets))[index] += times
    rows = list(_rows(sorted({string for strings in sets for string in strings})))
    shape = (len(rows), WIDTH)
    token, place, label = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    often = np.zeros((*shape, len(sets)))
    seen = np.tile(np.eye(WIDTH, dtype=bool), (len(rows), 1, 1))  # padding sees itself, since a softmax needs something
    for index, row in enumerate(rows):
        for prefix, slot in row.items():
            at = index, slot
            token[at], place[at], label[at] = tokens[prefix[-1]], len(prefix) - 1, labels[prefix]
            often[at] = counts.pop(prefix, 0)
            if len(prefix) > 1:
                seen[at] |= seen[index, row[prefix[:-1]]]
    mask = np.where(seen, np.float32(0), np.float32(-np.inf))
    columns = [torch.from_numpy(column).to(device).split(ROWS) for column in (token, place, mask, label, often)]
    return [Prefixes(*parts) for parts in zip(*columns, strict=True)]


def _rows(strings: Sequence[str]) -> Iterator[dict[str, int]]:
    """Prefix to slot, row by row; a row has every prefix of each of its own.

    Args:
        strings: in alphabetical order, so that those that share most stand together.
    """
    row: dict[str, int] = {}
    for string in strings:
        if len(row) + sum(prefix not in row for prefix in prefixes(string)) > WIDTH:
            yield row
            row = {}
        for prefix in prefixes(string):
            row.setdefault(prefix, len(row))
    if row:
        yield row
