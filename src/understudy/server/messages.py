"""The messages of a chat request, as this server takes them: text in three roles."""

from __future__ import annotations

from typing import Any

from understudy.example import Message, Role
from understudy.server.errors import ApiError, bad

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",  # what newer models call it
    "user": "user",
    "assistant": "assistant",
}
CALLS = ("tool_calls", "function_call", "audio")
"""What an assistant's turn may hold beside text, elsewhere."""


def messages(given: Any) -> tuple[Message, ...]:
    """The conversation. Raises ApiError 400 whose param is the place: ``messages[2].content``."""
    if not isinstance(given, list) or not given:
        raise bad("messages is a list of at least one message", "messages")
    found = tuple(_message(one, f"messages[{number}]") for number, one in enumerate(given))
    if found[-1].role == "assistant":
        raise bad("the last message is the assistant's: there is nothing to answer", "messages")
    return found


def _message(given: Any, place: str) -> Message:
    if not isinstance(given, dict):
        raise bad(f"{place} is not an object", place)
    role = given.get("role")
    if role in ("tool", "function"):
        raise bad("tools cannot be used with the models of this server", f"{place}.role")
    if not isinstance(role, str) or role not in ROLES:
        raise bad(f"{place}.role is not one of {', '.join(ROLES)}", f"{place}.role")
    for name in CALLS:
        if given.get(name):
            raise bad(f"{name} cannot be used with the models of this server", f"{place}.{name}")
    content = given.get("content")
    if content is None and role == "assistant":
        content = given.get("refusal")
    return Message(ROLES[role], _text(content, f"{place}.content"))


def _text(content: Any, place: str) -> str:
    """The text of a content that is a string, or a list of text parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise bad(f"{place} is neither a text nor a list of text parts", place)
    return "".join(_part(part, f"{place}[{number}]") for number, part in enumerate(content))


def _part(part: Any, place: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind not in ("text", "refusal"):
        raise _no_text(kind, place)
    text = part.get(kind)
    if not isinstance(text, str):
        raise bad(f"{place}.{kind} is not a text", f"{place}.{kind}")
    return text


def _no_text(kind: Any, place: str) -> ApiError:
    known = {"image_url": "images", "input_audio": "audio", "file": "files"}
    if isinstance(kind, str) and kind in known:
        return bad(f"the models of this server read text, no {known[kind]}", f"{place}.type")
    return bad(f"{place} is no text part", f"{place}.type")
