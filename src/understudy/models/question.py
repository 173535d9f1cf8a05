"""How a task's input is put to a model: the same request for teacher, base and student."""

from __future__ import annotations

from typing import Any

from understudy.example import Message
from understudy.models.protocol import Request


def prompt(system_message: str, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages with the task's system message in front, unless they bring their own."""
    if not system_message or messages[0].role == "system":
        return messages
    return (Message("system", system_message), *messages)


def question(
    system_message: str,
    messages: tuple[Message, ...],
    max_tokens: int,
    *,
    schema: dict[str, Any] | None = None,
    sample: int = 0,
    purpose: str = "answer",
) -> Request:
    """The call that asks for the answer to ``messages``; ``sample`` counts independent answers."""
    return Request(
        prompt(system_message, messages),
        max_tokens,
        schema=schema,
        schema_name="answer" if schema else "",
        sample=sample,
        purpose=purpose,
    )
