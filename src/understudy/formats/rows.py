"""From a row to the messages that come in and the answer that goes out.

A conversation gives one example: its last assistant turn that is to be learned (``weight`` is not
0, as in OpenAI's chat format) is the answer, every turn before it the messages, and what comes
after it is left out. Only text can be learned: a row with tool calls or images is bad.
"""

from __future__ import annotations

import json
import math
from typing import Any

from understudy.example import Message, Role
from understudy.formats.columns import Layout
from understudy.formats.source import BadRow, Row
from understudy.formats.turns import (
    Turn,
    is_turn,
    nothing_learned,
    read_turn,
    read_turns,
    unlearnable,
)

_COMPACT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str)


def interpret(row: Row, layout: Layout) -> tuple[tuple[Message, ...], str]:
    """Messages and answer of one row. Raises BadRow with the reason if there are none."""
    return _last_learned(turns_of(row, layout))


def turns_of(row: Row, layout: Layout) -> list[Turn]:
    """Every turn of one row. Raises BadRow if one cannot be read."""
    name = layout.turns
    turns = read_turns(row.get(name), name) if name else _columns(row, layout)
    if layout.system and not (turns and turns[0].role == "system"):
        system = text(row.get(layout.system))
        if system.strip():
            turns.insert(0, Turn("system", system, learned=False))
    return turns


def text(value: Any) -> str:
    """A cell as text: null and NaN are empty, all else that is no text is compact JSON.

    Raises BadRow for bytes.
    """
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bytes):
        raise BadRow("a cell holds bytes, not text")
    if not isinstance(value, (bool, int, float, dict, list)):
        return str(value)  # dates and decimals of Parquet
    try:
        return _COMPACT.encode(value)
    except (RecursionError, ValueError):
        raise BadRow("a value that cannot be written as JSON") from None


def _columns(row: Row, layout: Layout) -> list[Turn]:
    prompt = row.get(layout.prompt)
    more = text(row.get(layout.more)) if layout.more else ""
    if more.strip():
        prompt = "\n".join(part for part in (text(prompt), more) if part.strip())
    before = _history(row.get(layout.history)) if layout.history else []
    if prompt == []:
        raise BadRow("empty prompt")
    before += _turns_or_text(prompt, "user")
    # Whatever was said before the response is no answer to learn.
    before = [turn._replace(learned=False) if turn.learned else turn for turn in before]
    return before + _turns_or_text(row.get(layout.response), "assistant")


def _turns_or_text(value: Any, role: Role) -> list[Turn]:
    """The turns of a list of messages; any other value, also any other list, is one turn."""
    if isinstance(value, list) and value and all(map(is_turn, value)):
        return [read_turn(turn) for turn in value]
    return [_said(role, value)]


def _said(role: Role, value: Any) -> Turn:
    return Turn(role, text(value), role == "assistant")


def _history(pairs: Any) -> list[Turn]:
    """Alpaca's earlier rounds: a list of [question, answer]."""
    if not pairs:
        return []
    if not isinstance(pairs, list) or not all(isinstance(p, list) and len(p) == 2 for p in pairs):
        raise BadRow("history is not a list of [question, answer]")
    return [
        turn
        for question, answer in pairs
        for turn in (_said("user", question), _said("assistant", answer))
    ]


def _last_learned(turns: list[Turn]) -> tuple[tuple[Message, ...], str]:
    last = len(turns) - 1
    while last >= 0 and not turns[last].learned:
        last -= 1
    if last < 0:
        raise BadRow(nothing_learned(turns))
    before, answer = turns[:last], turns[last]
    if reason := unlearnable(before, answer):
        raise BadRow(reason)
    return tuple([turn.message for turn in before]), answer.content
