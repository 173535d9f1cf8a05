"""CSV and TSV: dialect, header, records; and the guard against formulas.

The first line is always the header. A broken quote costs its own line, not the rest of the file:
the lines that it swallowed are read again, and from then on a row must have exactly as many cells
as the header, so that the middle of a long cell is not taken for a row.

The guard: a spreadsheet runs a cell that begins with one of ``= + - @``, tab, CR or the full-width
``＝ ＋ － ＠`` as a formula (OWASP, CSV injection). Such a cell is written with an apostrophe in
front; a cell that begins with apostrophes and then one of them gets one more, so that taking one
away always gives back what was written.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from understudy.errors import UsageError
from understudy.formats.source import (
    HEAD_BYTES,
    MAX_ROW_BYTES,
    NOT_UTF8,
    TOO_LONG,
    BadLine,
    Item,
    lines,
)

MAX_CELL = 10 * 2**20
"""Longest cell read, in characters."""
MAX_READ_AGAIN = 2 * MAX_ROW_BYTES
"""Bytes read a second time in one file at the most, each line counted as 64 more than it has: a
bound on the time that broken quotes can cost."""
DELIMITERS = (",", "\t", ";", "|")

_SAMPLE_ROWS = 100
_TO_GUARD = re.compile("'*[=+\\-@\t\r＝＋－＠]")
_NUL = "a NUL character, which CSV cannot hold"
_UNDOUBLED = "expected after"
_UNCLOSED = "unexpected end"
_REASONS = {  # by what the csv module says
    _UNDOUBLED: "a quote inside a quoted cell is not doubled, or one before it is not closed",
    _UNCLOSED: "a quote is opened and never closed",
    "field larger": f"a cell longer than {MAX_CELL // 2**20} MB, or a quote that is never closed",
}

Record = BadLine | tuple[int, list[str]]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the cells of a line are told apart."""

    delimiter: str = ","
    space_after: bool = False
    """Cells are written like this: ``"a", "b"``."""


def guard(cell: str) -> str:
    """The cell as it is written, harmless in a spreadsheet."""
    return "'" + cell if _TO_GUARD.match(cell) else cell


def unguard(cell: str) -> str:
    """The cell that was written: ``unguard(guard(cell)) == cell``."""
    return cell[1:] if cell.startswith("'") and _TO_GUARD.match(cell) else cell


def sniff(head: bytes, delimiters: tuple[str, ...] = DELIMITERS) -> Dialect:
    """The dialect in which most rows have as many cells as the header, then the most cells."""
    csv.field_size_limit(MAX_CELL)  # of the whole process; its default is 131,072 characters
    sample = head.splitlines(keepends=True)
    if len(head) >= HEAD_BYTES and len(sample) > 1:
        del sample[-1]  # it may be cut
    best, best_score = Dialect(delimiters[0]), (0.0, 1)
    for delimiter in delimiters:
        rows = _sample_rows(sample, delimiter)
        cells = len(rows[0]) if rows else 0
        score = (sum(len(row) == cells for row in rows) / max(len(rows), 1), cells)
        if cells > 1 and score > best_score:
            spaced = any(cell[:2] == ' "' and cell[-1] == '"' for row in rows for cell in row)
            best, best_score = Dialect(delimiter, spaced), score
    return best


def _sample_rows(sample: list[bytes], delimiter: str) -> list[list[str]]:
    reader = csv.reader((line.decode(errors="replace") for line in sample), delimiter=delimiter)
    return [row for row in islice(reader, _SAMPLE_ROWS) if row]


def open_table(
    path: Path, blocks: Iterator[bytes], dialect: Dialect
) -> tuple[list[str], Iterator[Item]]:
    """The names of the columns and, streamed, the rows; blank lines are passed over.

    Raises UsageError if the header cannot be read.
    """
    records = _records(_Feed(lines(blocks)), dialect)
    first = next(records, BadLine(1, "it holds no text"))
    if isinstance(first, BadLine):
        raise UsageError(
            f"{path}, line {first.number} (the header): {first.reason}",
            "The first line names the columns",
        )
    header = [unguard(name).strip() for name in first[1]]
    return header, _rows(header, records)


def _rows(header: list[str], records: Iterator[Record]) -> Iterator[Item]:
    width, exact = len(header), False
    for record in records:
        if isinstance(record, BadLine):
            exact = True
            yield record
            continue
        number, cells = record
        if any(cells[width:]) or (exact and len(cells) < width):
            yield BadLine(number, f"{len(cells)} cells where the header has {width}")
        else:
            yield number, dict(zip(header, map(unguard, cells), strict=False))


def _records(feed: _Feed, dialect: Dialect) -> Iterator[Record]:
    """The cells of each record that is not blank, with the number of its first line."""
    delimiter = dialect.delimiter
    reader = csv.reader(
        feed, delimiter=delimiter, skipinitialspace=dialect.space_after, strict=True
    )
    width = 0  # cells of the header, once it is known
    while True:
        feed.begin()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            record = _unquoted(feed, delimiter, width, str(error)) or _broken(feed, str(error))
        else:
            if not any(cells):
                continue
            record = BadLine(feed.number, feed.flaw) if feed.flaw else (feed.number, cells)
            width = width or len(cells)
        yield record


def _unquoted(feed: _Feed, delimiter: str, width: int, error: str) -> Record | None:
    """The cells of a line from a program that knows no quotes: ``"Great" film<tab>good``."""
    if _UNDOUBLED not in error or feed.flaw or len(feed.held) > 1:
        return None
    cells = (feed.held[0] or b"").decode().rstrip("\r\n").split(delimiter)
    return (feed.number, cells) if len(cells) == width else None


def _broken(feed: _Feed, error: str) -> BadLine:
    """Why the record is bad; the lines after its first are read again where that makes sense."""
    number, last = feed.number, feed.number + len(feed.held) - 1
    reason = next((reason for part, reason in _REASONS.items() if part in error), error)
    end = feed.held[-1] or b""
    if _UNCLOSED in error and not end.endswith((b"\n", b"\r")):
        reason = "the file ends inside this row: it may be cut off"
    elif feed.take_back():
        return BadLine(number, reason)
    return BadLine(
        number, f"{reason}; lines {number} to {last} are lost" if last > number else reason
    )


class _Feed:
    """Hands lines to the csv reader, and remembers those of the record that it is reading."""

    def __init__(self, source: Iterator[bytes | None]) -> None:
        self._source = source
        self._again: deque[bytes | None] = deque()
        self._left_to_take_back = MAX_READ_AGAIN
        self._size = 0
        self.held: list[bytes | None] = []
        self.number = 1
        """Number of the record's first line."""
        self.flaw = ""
        """Why the record cannot be used, whatever the csv reader says."""

    def begin(self) -> None:
        """A new record begins with the next line."""
        self.number += len(self.held)
        self.held.clear()
        self._size, self.flaw = 0, ""

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._source)
        self.held.append(line)
        self._size += len(line or b"")
        if line is None or self._size > MAX_ROW_BYTES:
            raise csv.Error(TOO_LONG)
        if b"\0" in line:
            self.flaw = _NUL
        try:
            return line.decode()
        except UnicodeDecodeError:
            self.flaw = NOT_UTF8
            return line.decode(errors="replace")

    def take_back(self) -> bool:
        """Let all lines but the record's first be read again. False if that was done too often."""
        self._left_to_take_back -= sum(64 + len(line or b"") for line in self.held[1:])
        if self._left_to_take_back < 0:
            return False
        self._again.extendleft(reversed(self.held[1:]))
        del self.held[1:]
        return True
