"""Read examples from a file of any known format, told by its content."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from understudy.errors import UsageError
from understudy.example import Example, Message
from understudy.formats.columns import Layout, Named, find_layout
from understudy.formats.json_rows import array_rows, line_rows
from understudy.formats.keys import Keys
from understudy.formats.parquet import MAGIC, column_names, parquet_rows
from understudy.formats.rows import interpret
from understudy.formats.source import BadLine, BadRow, Damaged, Item, Row, chunks, head, whole
from understudy.formats.table import DELIMITERS, open_table, sniff
from understudy.formats.writing import FORMATS

Container = Literal["lines", "array", "table", "parquet"]

_ZIP = b"PK\x03\x04"


def read(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    prompt: str | None = None,
    response: str | None = None,
    system: str | None = None,
) -> Iterator[Example | BadLine]:
    """Yield each row of ``path`` as an Example, or as a BadLine with the reason; streamed.

    ``format`` is one of FORMATS; without it the content decides. ``prompt``, ``response`` and
    ``system`` name columns. An Example's ``source`` is the hash of its messages and answer and,
    after a colon, how many rows with the same content came before it in the file: reading a file
    again, or once it has grown, gives known keys for known rows, and true duplicates stay apart.

    Raises UsageError (no such file, empty, columns not found), DiskError, and SetupError for
    Parquet without its package; errors about columns come when the first row is asked for.
    """
    path = Path(path)
    if format and format not in FORMATS:
        raise UsageError(f"unknown format {format!r}", f"Known are: {', '.join(FORMATS)}")
    start = head(path)
    container = _container(path, start, format or "")
    named = Named(
        format or "", prompt or "", response or "", system or "", nested=container != "table"
    )
    return _examples(path, start, container, named)


def _container(path: Path, start: bytes, wanted: str) -> Container:
    text = start.lstrip()
    if start.startswith(MAGIC):
        return "parquet"
    if wanted == "parquet":
        raise UsageError(f"{path} is not a Parquet file", "Leave the format out: it is found")
    if start.startswith(_ZIP):
        raise UsageError(f"{path} is an Excel or ZIP file", "Save it as CSV, or unpack it")
    if wanted in ("csv", "tsv"):
        return "table"
    if text.startswith(b"["):
        return "array"
    if text.partition(b"\n")[0].strip() == b"{":
        raise UsageError(
            f"{path} is JSON with one object over many lines",
            "Give one object a line (`jq -c . FILE`) or an array of objects",
        )
    beginnings = [line[:1] for line in text.splitlines()]
    if wanted or text.startswith(b"{") or beginnings.count(b"{") * 2 > len(beginnings):
        return "lines"
    return "table"


def _examples(
    path: Path, start: bytes, container: Container, named: Named
) -> Iterator[Example | BadLine]:
    maker = os.fsencode(path.name).decode(errors="replace")
    keys_of = Keys()
    layout, rows = _rows(path, start, container, named)
    keys: set[str] | None = None
    number = 0
    try:
        for item in rows:
            if isinstance(item, BadLine):
                number = item.number
                yield item
                continue
            number, row = item
            try:
                if container in ("lines", "array") and row.keys() != keys:
                    layout = _layout_of_row(path, row, named, first=keys is None)
                    keys = set(row)
                messages, answer = interpret(row, layout)
            except BadRow as bad:
                yield BadLine(number, str(bad))
                continue
            yield _example(messages, answer, maker, keys_of)
    except Damaged as damage:
        yield BadLine(number + 1, str(damage))


def _rows(
    path: Path, start: bytes, container: Container, named: Named
) -> tuple[Layout, Iterator[Item]]:
    """The rows, and the layout of a file that names its columns once; JSON names them in a row."""
    if container == "parquet":
        layout = _layout(path, column_names(path), named)
        return layout, parquet_rows(path, layout.columns())
    if container == "table":
        dialect = sniff(start, ("\t",) if named.format == "tsv" else DELIMITERS)
        columns, rows = open_table(path, chunks(path), dialect)
        return _layout(path, columns, named), rows
    parse = array_rows if container == "array" else line_rows
    return Layout(), parse(chunks(path))


def _layout(path: Path, columns: list[str], named: Named) -> Layout:
    try:
        return find_layout(columns, named)
    except UsageError as error:
        raise UsageError(f"{path}: {error.what}", error.fix) from None


def _layout_of_row(path: Path, row: Row, named: Named, *, first: bool) -> Layout:
    """The first row settles that the columns exist; a later one without them is bad by itself.

    A system message may be left out of later rows.
    """
    if first:
        return _layout(path, list(row), named)
    if named.system not in row:
        named = replace(named, system="")
    try:
        return find_layout(list(row), named)
    except UsageError as error:
        raise BadRow(error.what) from None


def _example(messages: tuple[Message, ...], answer: str, maker: str, keys: Keys) -> Example:
    try:
        source = keys.of(messages, answer)
    except UnicodeEncodeError:  # half of a pair, from an escape in JSON
        messages = tuple(Message(role, whole(content)) for role, content in messages)
        answer = whole(answer)
        source = keys.of(messages, answer)
    return Example(messages, answer, "imported", maker=maker, source=source)
