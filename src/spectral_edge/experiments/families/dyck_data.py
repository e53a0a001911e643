"""Balanced strings of one kind of bracket, the depth at every position of them, and how they are split.

Source: arXiv 2602.16967; its results rest on one kind of bracket and depths up to 12.
"""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from spectral_edge.experiments.families.prefixes import prefixes
from spectral_edge.experiments.perturbation import Batch

TOKENS = {"(": 0, ")": 1}

PADDING = len(TOKENS)
"""The token that fills up a string."""

UNSCORED = -100
"""Label of padding and of depths that the head has no class for."""

PAIRS, LONGER_PAIRS = 12, 20
"""Most pairs of brackets in a string of the split, and in one of those that may be longer than any trained on."""

LONGER_SIZE = 500

OPEN_PROBABILITY = 0.55

SPLITS = ("published", "deduplicated")


@dataclass(frozen=True, slots=True)
class DyckData:
    """The split, and what is to be said of a string.

    Attributes:
        train: training strings.
        test: test strings.
        longer: strings of up to 20 pairs, for accuracy out of distribution.
        shuffled: prefix of a string to the label at its end, where that is not the depth.
    """

    train: Sequence[str]
    test: Sequence[str]
    longer: Sequence[str]
    shuffled: Mapping[str, int]

    def labels(self, string: str) -> list[int]:
        """The label of every position of a string: the depth after it, unless labels are shuffled."""
        return [
            self.shuffled.get(prefix, depth) for prefix, depth in zip(prefixes(string), depths(string), strict=True)
        ]

    def scored_labels(self, string: str) -> list[int]:
        """The labels of a string, with `UNSCORED` where the head has no class for a label."""
        return [label if label <= PAIRS else UNSCORED for label in self.labels(string)]


def depths(string: str) -> list[int]:
    """Open brackets after every position of a string."""
    return list(accumulate(1 if bracket == "(" else -1 for bracket in string))


def bracket_strings(generator: random.Random, *, pairs: int) -> Iterator[str]:
    """Balanced strings without end, drawn as published: neither uniform nor distinct.

    Args:
        generator: draws them; its sequence is fixed across versions and machines.
        pairs: most pairs of brackets in a string; the number is uniform from 1.
    """
    while True:
        wanted = generator.randint(1, pairs)
        opened, depth, string = 0, 0, ""
        for _ in range(2 * wanted):
            opens = opened < wanted and (depth == 0 or generator.random() < OPEN_PROBABILITY)
            opened, depth = (opened + 1, depth + 1) if opens else (opened, depth - 1)
            string += "(" if opens else ")"
        yield string


def dyck_data(*, split: str, train_size: int, test_size: int, random_labels: bool) -> DyckData:
    """The strings of a split, the same whatever the run's seed, as in the published runs.

    Args:
        split: one of `SPLITS`: "published" shuffles all strings that are drawn, so that one may occur several times
            in the training part and again in the test part; "deduplicated" trains on the first distinct ones and
            tests on later ones that are none of them.
        train_size: training strings.
        test_size: test strings.
        random_labels: whether labels are the depths shuffled over all distinct prefixes.
    """
    stream = bracket_strings(random.Random(0), pairs=PAIRS)
    if split == "published":
        pool = [next(stream) for _ in range(train_size + test_size)]
        order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(0)).tolist()
        train, test = ([pool[i] for i in part] for part in (order[:train_size], order[train_size:]))
    else:
        distinct: dict[str, None] = {}
        while len(distinct) < train_size:
            distinct[next(stream)] = None
        train = list(distinct)
        unseen = (string for string in stream if string not in distinct)
        test = [next(unseen) for _ in range(test_size)]
    beyond = bracket_strings(random.Random(1), pairs=LONGER_PAIRS)
    longer = [next(beyond) for _ in range(LONGER_SIZE)]
    shuffled = _shuffled_depths([*train, *test, *longer]) if random_labels else {}
    return DyckData(train=train, test=test, longer=longer, shuffled=shuffled)


def _shuffled_depths(strings: Iterable[str]) -> dict[str, int]:
    """The depths that are scored, shuffled over the prefixes that they belong to."""
    depth = {prefix: last for string in strings for prefix, last in zip(prefixes(string), depths(string), strict=True)}
    scored = sorted(prefix for prefix, last in depth.items() if last <= PAIRS)
    values = [depth[prefix] for prefix in scored]
    random.Random(0).shuffle(values)
    return dict(zip(scored, values, strict=True))


def encoded(strings: Sequence[str], data: DyckData, *, length: int) -> Batch:
    """Strings as tokens and labels, both [n, length] int64, padded at the end."""
    tokens = [[TOKENS[bracket] for bracket in string] for string in strings]
    labels = [data.scored_labels(string) for string in strings]
    return Batch(_padded(tokens, length=length, value=PADDING), _padded(labels, length=length, value=UNSCORED))


def _padded(rows: Sequence[Sequence[int]], *, length: int, value: int) -> Tensor:
    return torch.tensor([[*row, *[value] * (length - len(row))] for row in rows], dtype=torch.int64)
