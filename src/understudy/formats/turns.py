"""The turns of a conversation, read from one JSON list: the one place that knows their shapes.

A turn is ``{"role", "content", "weight"?}`` (OpenAI, TRL) or ``{"from", "value"}`` (ShareGPT). An
assistant turn is learned unless its ``weight`` is 0. Only text can be learned: a turn with a tool
call or an image makes its row bad.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from understudy.example import Message, Role
from understudy.formats.source import BadRow

ROLES: dict[str, Role] = {
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
TOOLS = ("tool", "function", "function_call", "observation", "ipython")
"""Roles of what a tool said or was told."""
NO_TOOLS = "tool calls cannot be learned"
NO_QUESTION = "no user turn before the answer"
_TURN_KEYS = ({"role", "content"}, {"from", "value"})


class Turn(NamedTuple):
    """One turn. ``learned`` is True for an assistant turn that is to be trained on."""

    role: Role
    content: str
    learned: bool

    @property
    def message(self) -> Message:
        """The turn without what is to be done with it."""
        return Message(self.role, self.content)


def is_turn(value: Any) -> bool:
    """True if ``value`` looks like a turn, whatever is in it."""
    return isinstance(value, dict) and any(value.keys() >= keys for keys in _TURN_KEYS)


def read_turns(value: Any, name: str) -> list[Turn]:
    """The turns of the list in column ``name``. Raises BadRow."""
    if not isinstance(value, list):
        raise BadRow(f"{name} is not a list of turns")
    return [read_turn(turn) for turn in value]


def read_turn(turn: Any) -> Turn:
    """One turn of any of the shapes. Raises BadRow."""
    if not isinstance(turn, dict):
        raise BadRow("a turn is not an object")
    name = turn.get("role") or turn.get("from")
    if not isinstance(name, str):
        raise BadRow("a turn without a role")
    if turn.get("tool_calls") or turn.get("function_call") or name in TOOLS:
        raise BadRow(NO_TOOLS)
    role = ROLES.get(name)
    if role is None:
        raise BadRow(f"unknown role {name[:40]!r}")
    weight = turn.get("weight")
    if weight not in (None, 0, 1):
        raise BadRow("weight is neither 0 nor 1")
    content = turn["content"] if "content" in turn else turn.get("value")
    return Turn(role, text_of(content), role == "assistant" and weight != 0)


def text_of(content: Any) -> str:
    """The text of a turn: a string, nothing, or a list of text parts. Raises BadRow."""
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


def unlearnable(before: Sequence[Turn], answer: Turn) -> str:
    """Why no example can be made of ``answer`` and the turns before it; '' if one can."""
    if not before or before[-1].role != "user":
        return NO_QUESTION
    if not before[-1].content.strip():
        return "empty prompt"
    if not answer.content.strip():
        return "empty answer"
    if any(turn.role == "system" for turn in before[1:]):
        return "a system message after the first turn"
    return ""


def nothing_learned(turns: Sequence[Turn]) -> str:
    """Why a conversation without a learned turn has none."""
    answered = any(turn.role == "assistant" for turn in turns)
    return "every assistant turn has weight 0" if answered else "no assistant turn"
