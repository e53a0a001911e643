"""Balanced strings of one kind of bracket, the depth at every position of them, and how they are split.

Source: arXiv 2602.16967; its results rest on one kind of bracket and depths up to 12.
"""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from spectral_edge.experiments.perturbation import Batch

TOKENS = "()"
"""Brackets by token; the token after them pads."""

PADDING = len(TOKENS)

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
        shuffled: beginning of a string to its label, where that is not the depth.
    """

    train: Sequence[str]
    test: Sequence[str]
    longer: Sequence[str]
    shuffled: Mapping[str, int]

    def labels(self, string: str) -> list[int]:
        """The label of every position of a string: the depth after it, unless labels are shuffled."""
        return [self.shuffled.get(string[: i + 1], depth) for i, depth in enumerate(depths(string))]


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
        random_labels: whether labels are the depths shuffled over all distinct beginnings of strings.
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
    """The depths that are scored, shuffled over the beginnings of strings that they belong to."""
    found = {string[: i + 1]: depth for string in strings for i, depth in enumerate(depths(string)) if depth <= PAIRS}
    beginnings = sorted(found)
    values = [found[beginning] for beginning in beginnings]
    random.Random(0).shuffle(values)
    return dict(zip(beginnings, values, strict=True))


def encoded(strings: Sequence[str], data: DyckData, *, length: int) -> Batch:
    """Strings as tokens and labels, both [n, length] int64, padded at the end."""
    tokens = [[TOKENS.index(bracket) for bracket in string] for string in strings]
    labels = [[label if label <= PAIRS else UNSCORED for label in data.labels(string)] for string in strings]
    return Batch(_padded(tokens, length=length, value=PADDING), _padded(labels, length=length, value=UNSCORED))


def _padded(rows: Sequence[Sequence[int]], *, length: int, value: int) -> Tensor:
    return torch.tensor([[*row, *[value] * (length - len(row))] for row in rows], dtype=torch.int64)
