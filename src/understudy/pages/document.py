"""A document of a few kinds of blocks: what a page says, whatever it is rendered as.

All texts are plain: whoever renders escapes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One paragraph."""

    text: str
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Lines:
    """A list of sentences."""

    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a head; the columns behind the first ``words`` are numbers."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1


class Interval(NamedTuple):
    """A value and how far it is known, with the text that says so."""

    name: str
    value: float
    low: float
    high: float
    told: str


@dataclass(frozen=True, slots=True)
class Plot:
    """Intervals above each other on one axis; a table or sentence beside it says the same."""

    title: str
    intervals: Sequence[Interval]
    ticks: Sequence[tuple[float, str]]
    """Places on the axis with their labels; the first and last are its ends."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and texts that belong together, for example one item with its answers."""

    facts: Sequence[tuple[str, str]]


Block = Paragraph | Lines | Table | Plot | Facts


@dataclass(frozen=True, slots=True)
class Section:
    """Blocks under a heading."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Document:
    """A whole page: its title, what stands above everything, and the sections."""

    title: str
    head: Sequence[Block]
    sections: Sequence[Section]


def shortened(value: str, most: int) -> str:
    """The text, cut to ``most`` characters with a word on how many are left out."""
    left = len(value) - most
    return value if left <= 0 else f"{value[:most]}… ({left:,} more characters)"
