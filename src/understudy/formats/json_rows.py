"""JSON rows: one object a line, or one array of objects, decoded strictly and never held whole.

Strictly: a key given twice, NaN, Infinity, a number that no float or int can hold and nesting
beyond Python's stack make the row bad (RFC 8259 leaves them to the reader; Python would take
most of them in silence).
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Iterator
from typing import Any

from understudy.formats.source import (
    MAX_ROW_BYTES,
    NOT_UTF8,
    TOO_LONG,
    BadLine,
    BadRow,
    Item,
    Row,
    lines,
)

_STRUCTURE = re.compile(r'["{}\[\],]')
_IN_STRING = re.compile(r'["\\]')
_DEPTH = {"{": 1, "[": 1, "}": -1, "]": -1}
_NOT_SPACE = re.compile(r"[^ \t\n\r]")
_BROKEN_BYTE = re.compile("[\udc80-\udcff]")


def line_rows(blocks: Iterator[bytes]) -> Iterator[Item]:
    """One object a line; blank lines are passed over."""
    for number, line in enumerate(lines(blocks), 1):
        if line is None:
            yield BadLine(number, TOO_LONG)
        elif not line.isspace():
            try:
                yield number, decode_row(line.decode())
            except UnicodeDecodeError:
                yield BadLine(number, NOT_UTF8)
            except BadRow as bad:
                yield BadLine(number, str(bad))


def array_rows(blocks: Iterator[bytes]) -> Iterator[Item]:
    """The objects of one array; a bad one is passed over, the next is found by its brackets."""
    window = _Window(codecs.iterdecode(blocks, "utf-8", "surrogateescape"))
    window.next_character()
    window.at += 1
    number = 0
    while (character := window.next_character()) not in ("]", ""):
        if character == ",":
            window.at += 1
            continue
        number += 1
        try:
            yield number, window.take_row()
        except BadRow as bad:
            yield BadLine(number, str(bad))
    window.at += 1
    if not character:
        yield BadLine(number + 1, "the file ends before the array does: it may be cut off")
    elif window.next_character():
        yield BadLine(number + 1, "text after the end of the array is not read")


def decode_row(text: str) -> Row:
    """One JSON object. Raises BadRow."""
    try:
        row = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise BadRow(f"not JSON: {error.msg.lower()} at character {error.pos + 1}") from None
    except RecursionError:
        raise BadRow("nested too deeply") from None
    except BadRow:
        raise
    except ValueError:  # the only other one: int() on more digits than it takes
        raise BadRow("a number has too many digits") from None
    if not isinstance(row, dict):
        raise BadRow("not a JSON object")
    return row


class _Window:
    """The piece of a text that is being looked at; it is read up to ``at``."""

    def __init__(self, pieces: Iterator[str]) -> None:
        self.text = ""
        self.at = 0
        self._pieces = pieces
        self._parts: list[str] = []  # of the row whose end is being looked for
        self._size = 0  # characters of it that were passed, kept or not
        self._start = 0  # where in the piece it begins

    def next_character(self) -> str:
        """The next character that is not a space; empty at the end of the file."""
        while True:
            match = _NOT_SPACE.search(self.text, self.at)
            if match:
                self.at = match.start()
                return match.group()
            if not self._next_piece():
                return ""

    def take_row(self) -> Row:
        """The row that begins here; the window moves past it, also when it raises BadRow."""
        try:  # nearly always the whole row lies in the window and is sound
            row, end = _DECODER.raw_decode(self.text, self.at)
        except (ValueError, RecursionError):
            row, end = None, self.at
        if isinstance(row, dict):
            raw, self.at = self.text[self.at : end], end
        else:
            raw, row = self._to_its_end(), None
        if not raw.isascii() and _BROKEN_BYTE.search(raw):
            raise BadRow(NOT_UTF8)
        return decode_row(raw) if row is None else row

    def _to_its_end(self) -> str:
        """The value that begins here, its end found by quotes and brackets alone."""
        self._parts, self._size, self._start = [], 0, self.at
        depth, quoted = 0, False
        while True:
            match = self._search(_IN_STRING if quoted else _STRUCTURE)
            mark, self.at = match.group(), match.end()
            if quoted:
                quoted = mark != '"'
                self.at += mark == "\\"
            else:
                quoted = mark == '"'
                depth += _DEPTH.get(mark, 0)
            if depth < 0 or (depth == 0 and mark == ","):  # not part of this value
                self.at = match.end() if mark == "}" else match.start()
            elif depth or quoted:
                continue
            self._keep(self.at)
            if self._size > MAX_ROW_BYTES:
                raise BadRow(TOO_LONG)
            return "".join(self._parts)

    def _search(self, pattern: re.Pattern[str]) -> re.Match[str]:
        while not (match := pattern.search(self.text, self.at)):
            self._keep(len(self.text))
            if not self._next_piece():
                raise BadRow("the file ends inside this row")
        return match

    def _keep(self, end: int) -> None:
        """Add the text up to ``end`` to the row, unless that is too long already."""
        self._size += end - self._start
        if self._size <= MAX_ROW_BYTES:
            self._parts.append(self.text[self._start : end])
        self._start = 0

    def _next_piece(self) -> bool:
        # An escape at the very end of a piece skips the first character of the next one.
        self.at = max(self.at - len(self.text), 0)
        self.text = next(self._pieces, "")
        return bool(self.text)


def _object(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise BadRow(f"key {key[:40]!r} twice")
            seen.add(key)
    return row


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise BadRow(f"{digits[:40]} is too large a number")
    return number


def _refuse(name: str) -> None:
    raise BadRow(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_finite, parse_constant=_refuse)
