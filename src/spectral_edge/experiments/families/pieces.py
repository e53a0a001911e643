"""A byte-pair vocabulary of 512 pieces, trained beforehand on both generated styles, and the marks that join it.

Ids 0 to 255 are the bytes, so that any text can be encoded and comes back unchanged; 256 to 511 are the merged pieces
of `pieces.txt`, in the order in which they were merged (`tools/make_pieces.py`); then one mark for the end of a text,
and then the codewords of the key-retrieval probe, which no text contains.
"""

import json
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from spectral_edge.experiments.config import require_int

PIECES = 512
END = PIECES
FIRST_CODEWORD = END + 1
MOST_CODEWORDS = 1024

_FILE = "pieces.txt"
# Merges do not cross these borders; every byte belongs to exactly one part.
_PARTS = re.compile(rb" ?[A-Za-z]+| ?[0-9]| ?[^A-Za-z0-9\s]+|\s")


def parts(text: bytes) -> list[bytes]:
    """A text cut where no piece may cross: words with the space before them, digits, runs of other signs, spaces."""
    return _PARTS.findall(text)


@cache
def read_pieces() -> tuple[bytes, ...]:
    """All 512 pieces by id."""
    lines = files("spectral_edge.experiments.families").joinpath(_FILE).read_text(encoding="utf-8").splitlines()
    # One JSON text a line, a character for each byte.
    return (*(bytes([i]) for i in range(256)), *(json.loads(line).encode("latin-1") for line in lines))


def encode(text: str | bytes) -> list[int]:
    """Ids of a text (as UTF-8) or of bytes, each below `PIECES`."""
    data = text.encode() if isinstance(text, str) else text
    return [piece for part in parts(data) for piece in _encode_part(part)]


def decode(ids: Iterable[int]) -> bytes:
    """The bytes of ids; a codeword reads as a space and its name, the end of a text as a line break."""
    pieces = read_pieces()
    return b"".join(
        pieces[i] if i < PIECES else b"\n" if i == END else b" " + codeword(i - FIRST_CODEWORD).encode() for i in ids
    )


def codeword(index: int) -> str:
    """Name of a codeword: four capitals, consonant and vowel twice, for instance "BABE".

    Args:
        index: which, from 0 to `MOST_CODEWORDS` - 1.
    """
    require_int("codeword", index, least=0)
    syllables = [consonant + vowel for vowel in "AEIO" for consonant in "BDFGKLMN"]
    return syllables[index // len(syllables)] + syllables[index % len(syllables)]


@cache
def _ranks() -> dict[bytes, int]:
    return {piece: i for i, piece in enumerate(read_pieces())}


@cache
def _encode_part(part: bytes) -> tuple[int, ...]:
    """Joins the neighbours that were merged first, until none are left that make a piece."""
    ranks = _ranks()
    own = [bytes([byte]) for byte in part]
    while len(own) > 1:
        rank, at = min((ranks.get(own[i] + own[i + 1], PIECES), i) for i in range(len(own) - 1))
        if rank == PIECES:
            break
        own[at : at + 2] = [own[at] + own[at + 1]]
    return tuple(ranks[piece] for piece in own)
