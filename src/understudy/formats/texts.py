"""Inputs alone, to be answered by a teacher: a line each, or one column of JSON rows or a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from understudy.errors import UsageError
from understudy.formats.json_rows import array_rows, decode_row, line_rows
from understudy.formats.source import (
    NOT_UTF8,
    TOO_LONG,
    BadLine,
    BadRow,
    Damaged,
    Item,
    chunks,
    head,
    lines,
    whole,
)
from understudy.formats.table import open_table, sniff

COLUMNS = ("input", "prompt", "text")
"""Names of the column with the inputs, the first that is there; case does not matter."""

_NAME_IT = f"Call the column with the inputs one of: {', '.join(COLUMNS)}"


def read_texts(path: Path) -> list[str]:
    """The inputs in a file, in order; blank ones are passed over.

    A name that ends in .csv or .tsv is a table, one that ends in .jsonl, .ndjson or .json, or a
    file that begins with an object, JSON rows; any other holds one input a line. Any may be packed
    by gzip. Raises UsageError, with the line, if anything in it cannot be used: what is left out in
    silence would be missed later.
    """
    start = head(path)
    try:
        found = [text for text in _texts(path, start) if text.strip()]
    except Damaged as damage:
        raise UsageError(f"{path}: {damage}", "Make or download the file again") from None
    if not found:
        raise UsageError(f"{path} holds no input", "Write one input a line")
    return found


def _texts(path: Path, start: bytes) -> Iterator[str]:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    suffix = suffixes[-1] if suffixes else ""
    if suffix in (".csv", ".tsv"):
        columns, rows = open_table(path, chunks(path), sniff(start))
        if _column(columns) is None:
            raise _no_column(path, 1, columns)
        return _of_rows(path, rows)
    if suffix in (".jsonl", ".ndjson", ".json") or (suffix != ".txt" and _begins_with_row(start)):
        parse = array_rows if start.lstrip().startswith(b"[") else line_rows
        return _of_rows(path, parse(chunks(path)))
    return _of_lines(path)


def _begins_with_row(start: bytes) -> bool:
    try:
        decode_row(start.lstrip().partition(b"\n")[0].decode())
    except (BadRow, UnicodeDecodeError):
        return False
    return True


def _of_lines(path: Path) -> Iterator[str]:
    for number, line in enumerate(lines(chunks(path)), 1):
        if line is None:
            raise _bad(path, BadLine(number, TOO_LONG))
        try:
            yield line.decode().strip()
        except UnicodeDecodeError:
            raise _bad(path, BadLine(number, NOT_UTF8)) from None


def _of_rows(path: Path, rows: Iterable[Item]) -> Iterator[str]:
    for item in rows:
        if isinstance(item, BadLine):
            raise _bad(path, item)
        number, row = item
        column = _column(row)
        if column is None:
            raise _no_column(path, number, row)
        value = row[column]
        if not isinstance(value, str):
            raise _bad(path, BadLine(number, f'"{column}" is no text'))
        yield whole(value)


def _column(names: Iterable[str]) -> str | None:
    known = {name.strip().lower(): name for name in names}
    return next((known[name] for name in COLUMNS if name in known), None)


def _no_column(path: Path, number: int, names: Iterable[str]) -> UsageError:
    shown = ", ".join(repr(name[:40]) for name in list(names)[:20])
    return UsageError(f"{path}:{number}: no column for the inputs among: {shown}", _NAME_IT)


def _bad(path: Path, bad: BadLine) -> UsageError:
    return UsageError(f"{path}:{bad.number}: {bad.reason}", "Mend or remove it; nothing was spent")
