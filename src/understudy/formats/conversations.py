"""OpenAI's chat fine-tuning files: the rules they are held to, and what can be learned from them.

A file is JSONL: one object a line with ``messages``, the turns of one conversation in order. What
OpenAI publishes on it (https://platform.openai.com/docs/guides/supervised-fine-tuning and
https://platform.openai.com/docs/api-reference/fine-tuning/chat-input) is checked by ``check``:

whole file     UTF-8 without a byte order mark, not packed; at least 10 rows; at most 512 MB
a line         an object with a list ``messages``; where a bound is given, tokens in it
a turn         a known role; text; no key but role, content, name and weight
weight         0 or 1, and on assistant turns alone
to be learned  at least one assistant turn whose weight is not 0, none of them empty;
               the last message is an assistant's

Two things that OpenAI takes are refused, because nothing here could learn them: tool calls, and a
system message after the first turn. A row twice is no breach: cleaning is there for that.

``conversations`` reads more kindly: a line is bad only if no example can be made of it.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from understudy.example import Example
from understudy.formats.json_rows import line_rows
from understudy.formats.source import (
    BadLine,
    BadRow,
    Damaged,
    Item,
    Row,
    check_regular,
    chunks,
    whole,
)
from understudy.formats.turns import (
    NO_QUESTION,
    NO_TOOLS,
    TOOLS,
    Turn,
    nothing_learned,
    read_turns,
    text_of,
    unlearnable,
)

__all__ = ["Conversation", "Rules", "Turn", "check", "conversation_of", "conversations", "examples"]

_ROLES = ("system", "developer", "user", "assistant")
_KEYS = {"role", "content", "name", "weight"}
_TOOL_KEYS = {"tool_calls", "tool_call_id", "function_call"}
_MARKS = {
    codecs.BOM_UTF8: "begins with a byte order mark: save it as UTF-8 without one",
    codecs.BOM_UTF16_LE: "is UTF-16: save it as UTF-8",
    codecs.BOM_UTF16_BE: "is UTF-16: save it as UTF-8",
    b"\x1f\x8b": "is packed by gzip: unpack it",
}
WHOLE = 0
"""Number of a breach that no line is to blame for."""


class Conversation(NamedTuple):
    """The turns of one row; ``number`` is its line, from 1."""

    number: int
    turns: tuple[Turn, ...]


def about_tokens(text: str) -> int:
    """Tokens in ``text``, at four bytes a token: what English comes to, without any tokenizer."""
    return -(-len(text.encode("utf-8", "replace")) // 4)


class Rules(NamedTuple):
    """The bounds a file is held to. None: no bound."""

    min_rows: int = 10
    max_bytes: int = 512 * 1024**2
    max_line_tokens: int | None = None
    count_tokens: Callable[[str], int] = about_tokens
    """Tokens in one text; who has the model's tokenizer counts with it."""


def conversations(path: str | os.PathLike[str]) -> Iterator[Conversation | BadLine]:
    """Yield each line as a Conversation, or as a BadLine if no example can be made of it; streamed.

    Raises UsageError if there is no such file, DiskError if it cannot be read.
    """
    for item in _rows(Path(path)):
        if isinstance(item, BadLine):
            yield item
            continue
        number, row = item
        try:
            yield conversation_of(number, read_turns(row.get("messages"), "messages"))
        except BadRow as bad:
            yield BadLine(number, str(bad))


def conversation_of(number: int, turns: list[Turn]) -> Conversation:
    """The turns as a Conversation. Raises BadRow if no example can be made of it."""
    reasons = [unlearnable(turns[:at], turn) for at, turn in enumerate(turns) if turn.learned]
    if not reasons:
        raise BadRow(nothing_learned(turns))
    if all(reasons):
        raise BadRow(reasons[-1])
    return Conversation(
        number, tuple([turn._replace(content=whole(turn.content)) for turn in turns])
    )


def examples(conversation: Conversation, *, maker: str, source: str) -> list[Example]:
    """One example for each learned turn that answers a user: all turns before it are its messages.

    Where there are several they share a group, so that no split parts them.
    """
    turns = conversation.turns
    answers = [
        at for at, turn in enumerate(turns) if turn.learned and not unlearnable(turns[:at], turn)
    ]
    group = f"conversation:{_digest(turns)}" if len(answers) > 1 else ""
    return [
        Example(
            tuple([turn.message for turn in turns[:at]]),
            turns[at].content,
            "imported",
            group=group,
            maker=maker,
            source=f"{source}:{conversation.number}:{at + 1}",
        )
        for at in answers
    ]


def check(path: str | os.PathLike[str], rules: Rules = Rules()) -> list[BadLine]:  # noqa: B008
    """Every breach of the rules, line by line; those of the whole file come first, as number 0.

    Nothing found means that every line is a Conversation. Raises UsageError if there is no such
    file, DiskError if it cannot be read.
    """
    path = Path(path)
    found: list[BadLine] = []
    rows = 0
    for item in _rows(path):
        rows += 1
        if isinstance(item, BadLine):
            found.append(item)
        else:
            number, row = item
            found += [BadLine(number, reason) for reason in _breaches(row, rules)]
    return [BadLine(WHOLE, reason) for reason in _of_file(path, rows, rules)] + found


def _rows(path: Path) -> Iterator[Item]:
    check_regular(path)
    number = 0
    try:
        for item in line_rows(chunks(path)):
            number = item.number if isinstance(item, BadLine) else item[0]
            yield item
    except Damaged as damage:
        yield BadLine(number + 1, str(damage))


def _of_file(path: Path, rows: int, rules: Rules) -> Iterator[str]:
    with path.open("rb") as file:
        start = file.read(4)
    yield from (f"the file {what}" for mark, what in _MARKS.items() if start.startswith(mark))
    size = path.stat().st_size
    if size > rules.max_bytes:
        yield f"the file has {size} bytes, at most {rules.max_bytes} are taken"
    if rows < rules.min_rows:
        yield f"the file has {rows} rows, at least {rules.min_rows} are needed"


def _breaches(row: Row, rules: Rules) -> Iterator[str]:
    messages = row.get("messages")
    if not isinstance(messages, list):
        yield "messages is missing" if messages is None else "messages is not a list of turns"
        return
    if not messages:
        yield "messages is empty"
        return
    of_turns = [
        f"turn {place}: {reason}"
        for place, turn in enumerate(messages, 1)
        for reason in _of_turn(turn)
    ]
    yield from of_turns
    if not of_turns:
        turns = read_turns(messages, "messages")
        yield from _of_conversation(turns)
        if rules.max_line_tokens is not None:
            tokens = sum(rules.count_tokens(turn.content) for turn in turns)
            if tokens > rules.max_line_tokens:
                yield f"{tokens} tokens, at most {rules.max_line_tokens} are taken"


def _of_turn(turn: Any) -> Iterator[str]:
    if not isinstance(turn, dict):
        yield "not an object"
        return
    role = turn.get("role")
    if role in TOOLS or any(turn.get(key) for key in _TOOL_KEYS):
        yield NO_TOOLS
        return
    if not isinstance(role, str):
        yield "no role"
    elif role not in _ROLES:
        yield f"unknown role {role[:40]!r}"
    given = {key for key, value in turn.items() if value is not None}
    yield from (f"unknown key {key[:40]!r}" for key in sorted(given - _KEYS))
    yield from _of_values(turn)


def _of_values(turn: Row) -> Iterator[str]:
    try:
        text_of(turn.get("content"))
    except BadRow as bad:
        yield str(bad)
    if turn.get("content") is None:
        yield "no content"
    if not isinstance(turn.get("name") or "", str):
        yield "name is not text"
    weight = turn.get("weight")
    if isinstance(weight, bool) or weight not in (None, 0, 1):
        yield "weight is neither 0 nor 1"
    if weight is not None and turn.get("role") != "assistant":
        yield "weight on a turn that is not the assistant's"


def _of_conversation(turns: list[Turn]) -> Iterator[str]:
    reasons = [unlearnable(turns[:at], turn) for at, turn in enumerate(turns) if turn.learned]
    if not reasons:
        yield nothing_learned(turns)
    elif all(reasons):
        yield from dict.fromkeys(reasons)
    else:  # a turn that greets first may be learned, though no example comes of it
        yield from dict.fromkeys(reason for reason in reasons if reason not in ("", NO_QUESTION))
    if turns[-1].role != "assistant":
        yield "the last message is not the assistant's"


def _digest(turns: tuple[Turn, ...]) -> str:
    """Of the content; lengths keep texts that run together apart."""
    text = "".join([f"{role}:{len(content)}:{content}" for role, content, _ in turns])
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
