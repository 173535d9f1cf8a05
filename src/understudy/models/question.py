"""How a task's input is put to a model: the same request for teacher, base and student."""

from __future__ import annotations

from understudy.example import Message
from understudy.models.protocol import Request
from understudy.task import Spec


def prompt(system_message: str, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages with the task's system message in front, unless they bring their own."""
    if not system_message or messages[0].role == "system":
        return messages
    return (Message("system", system_message), *messages)


def question(
    spec: Spec,
    messages: tuple[Message, ...],
    max_tokens: int,
    *,
    sample: int = 0,
    purpose: str = "answer",
) -> Request:
    """The call that asks for the answer to ``messages``; ``sample`` counts independent answers."""
    return Request(
        prompt(spec.system_message, messages),
        max_tokens,
        schema=spec.answer_schema(),
        schema_name="answer" if spec.kind == "json" else "",
        sample=sample,
        purpose=purpose,
    )
