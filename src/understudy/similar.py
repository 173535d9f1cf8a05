"""How alike two texts are, and an index that finds the alike among many without comparing all.

Texts are folded (NFKC, case, whitespace) and cut into character n-grams: 5 characters, or 3 where
more than 30 % are Chinese, Japanese or Korean. Never words: those scripts do not separate them.
Similarity is the Jaccard index of the two sets of n-grams (Broder 1997, "On the resemblance and
containment of documents").

``Index`` proposes candidates by one-permutation MinHash (Li, Owen & Zhang 2012, "One permutation
hashing", NIPS): every n-gram is hashed once, the hashes fall into 64 bins, and each bin keeps its
smallest. Bins left empty are filled from others (densification: Shrivastava & Li 2014, "Densifying
one permutation hashing via rotation for fast near neighbor search", ICML), in the way with the
least variance (Shrivastava 2017, "Optimal densification for fast and accurate minwise hashing",
ICML): each empty bin has an order of its own, the same for every text, in which it looks for a
filled one. Texts that agree on a whole band of bins are candidates; what is returned was compared
exactly, so a similarity is never an estimate. Hashes are CRC-32: the same in every process.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple
from zlib import crc32

_BINS = 64
_CROWD = 16
"""Texts that one bucket holds. Beyond that the band is boilerplate that hundreds share: more would
make every look-up slower and find nothing that the first ones do not stand for."""

_ORDER = random.Random(0)
_LOOK_IN = tuple(tuple(_ORDER.sample(range(_BINS), _BINS)) for _ in range(_BINS))
"""For each bin, the order in which it looks for a filled one."""

_INVISIBLE = re.compile("[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
_CJK = re.compile(
    "[\u1100-\u11ff\u2e80-\u303f\u3040-\u30ff\u3100-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff]"
)


def fold(text: str) -> str:
    """Text without the differences that carry no meaning: form, case, spaces, invisible marks.

    Folding twice changes nothing more.
    """
    if text.isascii():
        return " ".join(text.casefold().split())
    text = unicodedata.normalize("NFKC", text).casefold()
    text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)).casefold()
    return " ".join(unicodedata.normalize("NFKC", text).split())


def jaccard(first: str, second: str) -> float:
    """Jaccard index of the n-grams of two texts, 0 to 1; 1 if they fold to the same."""
    first, second = fold(first), fold(second)
    return 1.0 if first == second else _overlap(_grams(first), _grams(second))


class Index:
    """Texts by key; ``similar`` finds those at least ``threshold`` alike.

    Measured on sentences with one edit: no pair of similarity 0.8 or more is missed; below a
    threshold of 0.5 some are. Needs about 3 kB a text.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._rows = 4 if threshold >= 0.7 else 2  # bins a band: fewer find the less alike
        self._texts: dict[int, _Entry] = {}
        self._buckets: dict[int, list[int]] = {}

    def add(self, key: int, text: str) -> None:
        """Take in ``text`` under ``key``."""
        sketch = _sketch(fold(text), self._rows)
        self._texts[key] = _Entry(sketch.text, len(sketch.grams))
        for band in sketch.bands:
            bucket = self._buckets.setdefault(band, [])
            if len(bucket) < _CROWD:
                bucket.append(key)

    def similar(self, text: str) -> list[tuple[int, float]]:
        """(key, similarity) of the texts alike, the most alike first, then the smaller key."""
        sketch = _sketch(fold(text), self._rows)
        candidates = {key for band in sketch.bands for key in self._buckets.get(band, ())}
        found = [(key, self._compare(sketch, self._texts[key])) for key in candidates]
        alike = [(key, share) for key, share in found if share >= self._threshold]
        return sorted(alike, key=lambda pair: (-pair[1], pair[0]))

    def _compare(self, sketch: _Sketch, other: _Entry) -> float:
        """Exact similarity, or 0 where the sizes alone rule out the threshold."""
        if sketch.text == other.text:
            return 1.0
        small, large = sorted((len(sketch.grams), other.size))
        if small < self._threshold * large:
            return 0.0
        return _overlap(sketch.grams, _grams(other.text))


class _Entry(NamedTuple):
    text: str  # folded
    size: int  # number of different n-grams


class _Sketch(NamedTuple):
    text: str  # folded
    grams: set[str]
    bands: tuple[int, ...]


@lru_cache(maxsize=2)  # a text is usually looked up and then added
def _sketch(folded: str, rows: int) -> _Sketch:
    grams = _grams(folded)
    signature = _filled(_signature(grams))
    bands = zip(*(signature[row::rows] for row in range(rows)), strict=True)
    return _Sketch(folded, grams, tuple(map(hash, bands)))


def _grams(folded: str) -> set[str]:
    """Return the different n-grams; of a text shorter than n, the text itself."""
    size = 5
    if not folded.isascii() and len(_CJK.findall(folded)) > 0.3 * len(folded):
        size = 3
    return {folded[at : at + size] for at in range(len(folded) - size + 1)} or {folded}


def _signature(grams: Iterable[str]) -> list[int | None]:
    """Smallest hash in every bin, None where no n-gram fell."""
    smallest: list[int | None] = [None] * _BINS
    for gram in grams:
        value = crc32(gram.encode("utf-8", "surrogatepass"))
        kept = smallest[value % _BINS]
        if kept is None or value < kept:
            smallest[value % _BINS] = value
    return smallest


def _filled(smallest: list[int | None]) -> list[int]:
    """Give every empty bin the value of the first filled one in its own order."""
    full = []
    for value, order in zip(smallest, _LOOK_IN, strict=True):
        found, places = value, iter(order)
        while found is None:
            found = smallest[next(places)]
        full.append(found)
    return full


def _overlap(first: set[str], second: set[str]) -> float:
    shared = len(first & second)
    return shared / (len(first) + len(second) - shared)
