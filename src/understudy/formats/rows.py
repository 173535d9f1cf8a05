"""From a row to the messages that come in and the answer that goes out.

A conversation gives one example: its last assistant turn that is to be learned (``weight`` is not
0, as in OpenAI's chat format) is the answer, every turn before it the messages, and what comes
after it is left out. Only text can be learned: a row with tool calls or images is bad.
"""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

from understudy.example import Message, Role
from understudy.formats.columns import Layout
from understudy.formats.source import BadRow, Row

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}
_COMPACT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str)
_TURN_KEYS = ({"role", "content"}, {"from", "value"})
_TOOLS = ("tool", "function", "function_call", "observation", "ipython")


class _Turn(NamedTuple):
    message: Message
    learned: bool


def interpret(row: Row, layout: Layout) -> tuple[tuple[Message, ...], str]:
    """Messages and answer of one row. Raises BadRow with the reason if there are none."""
    name = layout.turns
    turns = _turns(row.get(name), name) if name else _columns(row, layout)
    if layout.system and not (turns and turns[0].message.role == "system"):
        system = text(row.get(layout.system))
        if system.strip():
            turns.insert(0, _Turn(Message("system", system), learned=False))
    return _last_learned(turns)


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


def _columns(row: Row, layout: Layout) -> list[_Turn]:
    prompt = row.get(layout.prompt)
    more = text(row.get(layout.more)) if layout.more else ""
    if more.strip():
        prompt = "\n".join(part for part in (text(prompt), more) if part.strip())
    before = _history(row.get(layout.history)) if layout.history else []
    if prompt == []:
        raise BadRow("empty prompt")
    before += _turns_or_text(prompt, "user")
    # Whatever was said before the response is no answer to learn.
    before = [turn if not turn.learned else _Turn(turn.message, learned=False) for turn in before]
    return before + _turns_or_text(row.get(layout.response), "assistant")


def _turns_or_text(value: Any, role: Role) -> list[_Turn]:
    """The turns of a list of messages; any other value, also any other list, is one turn."""
    if isinstance(value, list) and value and all(map(_is_turn, value)):
        return [_turn(turn) for turn in value]
    return [_said(role, value)]


def _said(role: Role, value: Any) -> _Turn:
    return _Turn(Message(role, text(value)), role == "assistant")


def _history(pairs: Any) -> list[_Turn]:
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


def _is_turn(value: Any) -> bool:
    return isinstance(value, dict) and any(value.keys() >= keys for keys in _TURN_KEYS)


def _turns(value: Any, name: str) -> list[_Turn]:
    if not isinstance(value, list):
        raise BadRow(f"{name} is not a list of turns")
    return [_turn(turn) for turn in value]


def _turn(turn: Any) -> _Turn:
    """One turn: role and content (OpenAI, TRL) or from and value (ShareGPT)."""
    if not isinstance(turn, dict):
        raise BadRow("a turn is not an object")
    name = turn.get("role") or turn.get("from")
    if not isinstance(name, str):
        raise BadRow("a turn without a role")
    if turn.get("tool_calls") or turn.get("function_call") or name in _TOOLS:
        raise BadRow("tool calls cannot be learned")
    role = _ROLES.get(name)
    if role is None:
        raise BadRow(f"unknown role {name[:40]!r}")
    weight = turn.get("weight")
    if weight not in (None, 0, 1):
        raise BadRow("weight is neither 0 nor 1")
    content = turn["content"] if "content" in turn else turn.get("value")
    return _Turn(Message(role, _content(content)), role == "assistant" and weight != 0)


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if not isinstance(content, list):
        raise BadRow("the content of a turn is not text")
    return "".join(_part(part) for part in content)


def _part(part: Any) -> str:
    """The text of one part of a turn, as in https://platform.openai.com/docs/api-reference/chat."""
    if isinstance(part, dict) and isinstance(part.get("text"), str):
        return str(part["text"])
    kind = part.get("type") if isinstance(part, dict) else None
    raise BadRow(
        f"a part of type {kind[:40] if isinstance(kind, str) else '?'!r}, only text is read"
    )


def _last_learned(turns: list[_Turn]) -> tuple[tuple[Message, ...], str]:
    last = len(turns) - 1
    while last >= 0 and not turns[last].learned:
        last -= 1
    if last < 0:
        answered = any(turn.message.role == "assistant" for turn in turns)
        raise BadRow("every assistant turn has weight 0" if answered else "no assistant turn")
    answer = turns[last].message.content
    messages = tuple([turn.message for turn in turns[:last]])
    if not messages or messages[-1].role != "user":
        raise BadRow("no user turn before the answer")
    if not messages[-1].content.strip():
        raise BadRow("empty prompt")
    if not answer.strip():
        raise BadRow("empty answer")
    if "system" in [message.role for message in messages[1:]]:
        raise BadRow("a system message after the first turn")
    return messages, answer
