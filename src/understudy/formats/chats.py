"""Conversations out of any JSON that a chat product exports, the kind of each row told by content.

===========  =======================================================================
kind         what it looks like
===========  =======================================================================
chat         ``{"messages": [...]}``: OpenAI's fine-tuning files, plain chat logs
sharegpt     ``{"conversations": [{"from", "value"}]}``
chatgpt      ``{"mapping": {...}, "current_node"}``: ChatGPT's conversations.json
completions  ``{"choices": [...], "messages": [...]}`` or request and response
pairs        prompt and completion, or other columns of ``columns.py``
===========  =======================================================================

In a file they stand one a line, in an array, or in the ``data`` of a page of OpenAI's API. Every
assistant turn that is to be learned stays one: ``conversations.examples`` makes examples of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from understudy.errors import UsageError
from understudy.formats.chatgpt import chatgpt_turns, is_chatgpt
from understudy.formats.columns import Named, find_layout
from understudy.formats.completions import completion_turns, is_completion
from understudy.formats.conversations import Conversation, conversation_of
from understudy.formats.json_rows import array_rows, decode_row, line_rows
from understudy.formats.rows import turns_of
from understudy.formats.source import (
    MAX_ROW_BYTES,
    NOT_UTF8,
    TOO_LONG,
    BadLine,
    BadRow,
    Damaged,
    Item,
    Row,
    chunks,
    head,
)
from understudy.formats.turns import Turn

Kind = Literal["chat", "sharegpt", "chatgpt", "completions", "pairs"]


class Found(NamedTuple):
    """One conversation, and the kind of row it was read from."""

    kind: Kind
    conversation: Conversation


def read_chats(path: str | os.PathLike[str]) -> Iterator[Found | BadLine]:
    """Yield each conversation of the file, or why there is none; streamed.

    Raises UsageError (no such file, empty, not JSON), DiskError.
    """
    path = Path(path)
    start = head(path).lstrip()
    if not start.startswith((b"{", b"[")):
        raise UsageError(
            f"{path} is not JSON",
            "adopt reads JSON and JSONL; a table is read by `understudy import`",
        )
    return _read(path, start)


def _read(path: Path, start: bytes) -> Iterator[Found | BadLine]:
    number = 0
    try:
        for item in _items(path, start):
            if isinstance(item, BadLine):
                number = item.number
                yield item
                continue
            number, row = item
            try:
                kind, turns = _turns(row)
                yield Found(kind, conversation_of(number, turns))
            except BadRow as bad:
                yield BadLine(number, str(bad))
            except UsageError as unknown:  # of columns
                yield BadLine(number, unknown.what)
    except Damaged as damage:
        yield BadLine(number + 1, str(damage))


def _items(path: Path, start: bytes) -> Iterator[Item]:
    if start.startswith(b"["):
        return array_rows(chunks(path))
    if _begins_a_page(start):
        return _page(chunks(path))
    return line_rows(chunks(path))


def _begins_a_page(start: bytes) -> bool:
    """True if the first line is not a whole row, or is a page of an API."""
    try:
        row = decode_row(start.partition(b"\n")[0].decode())
    except (BadRow, UnicodeDecodeError):
        return start.partition(b"\n")[0].strip() == b"{" or start.startswith(b'{"object": "list"')
    return _is_page(row)


def _page(blocks: Iterator[bytes]) -> Iterator[Item]:
    """The rows of one object over many lines: those of its ``data``, or itself."""
    text = b""
    for block in blocks:
        text += block
        if len(text) > MAX_ROW_BYTES:
            yield BadLine(1, TOO_LONG)
            return
    try:
        row = decode_row(text.decode())
    except UnicodeDecodeError:
        yield BadLine(1, NOT_UTF8)
        return
    except BadRow as bad:
        yield BadLine(1, str(bad))
        return
    rows = row["data"] if _is_page(row) else [row]
    for number, one in enumerate(rows, 1):
        yield (number, one) if isinstance(one, dict) else BadLine(number, "not a JSON object")


def _is_page(row: Row) -> bool:
    return row.get("object") == "list" and isinstance(row.get("data"), list)


def _turns(row: Row) -> tuple[Kind, list[Turn]]:
    if is_chatgpt(row):
        return "chatgpt", chatgpt_turns(row)
    if is_completion(row):
        return "completions", completion_turns(row)
    layout = find_layout(list(row), Named())
    turns = turns_of(row, layout)
    if not layout.turns:
        return "pairs", turns
    return _kind_of(row[layout.turns]), turns


def _kind_of(turns: object) -> Kind:
    first = turns[0] if isinstance(turns, list) and turns else None
    return "sharegpt" if isinstance(first, dict) and "from" in first else "chat"
