"""Train the byte-pair vocabulary of the language families and write it: `pieces.txt`, 256 merged pieces.

The text is generated: as many characters of stories as of notes, and the sentences of the key-retrieval probe often
enough to get pieces of their own. Equal inputs give an equal file.
"""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

from spectral_edge.experiments.families.notes_text import note
from spectral_edge.experiments.families.pieces import PIECES, parts
from spectral_edge.experiments.families.probe import TEMPLATES
from spectral_edge.experiments.families.story_text import story

TARGET = Path(__file__).parents[1] / "src/spectral_edge/experiments/families/pieces.txt"
SEED = 0
CHARACTERS = 1_500_000


def training_text() -> list[str]:
    """Both styles, and the probe's sentences without their codewords."""
    texts: list[str] = []
    for make in (lambda i: story(SEED, i, part="pieces").text, lambda i: note(SEED, i, part="pieces")):
        length, index = 0, 0
        while length < CHARACTERS:
            texts.append(make(index))
            length += len(texts[-1])
            index += 1
            if index % 2 == 0:
                texts += TEMPLATES[index // 2 % len(TEMPLATES)]
    return texts


def train(counts: Counter[bytes]) -> list[bytes]:
    """The merged pieces, most frequent pair first; of equally frequent ones the smaller in bytes."""
    words = {word: [bytes([byte]) for byte in word] for word in counts}
    merged: list[bytes] = []
    while len(merged) < PIECES - 256:
        pairs: Counter[tuple[bytes, bytes]] = Counter()
        for word, own in words.items():
            for pair in pairwise(own):
                pairs[pair] += counts[word]
        left, right = min(pairs, key=lambda pair: (-pairs[pair], pair))
        if left + right not in merged:
            merged.append(left + right)
        for own in words.values():
            i = 0
            while i < len(own) - 1:
                if own[i] == left and own[i + 1] == right:
                    own[i : i + 2] = [left + right]
                i += 1
    return merged


def main() -> None:
    """Write the file."""
    counts = Counter(part for text in training_text() for part in parts(text.encode()))
    merged = train(counts)
    TARGET.write_text("".join(json.dumps(piece.decode("latin-1")) + "\n" for piece in merged), encoding="utf-8")


if __name__ == "__main__":
    main()
