"""One call to a chat model that was kept: what was asked, and what the model answered.

Shapes that are known, each an object:

* a stored completion (OpenAI's ``GET /chat/completions``) with ``choices`` and, put beside them,
  the ``messages`` that were asked (``GET /chat/completions/ID/messages``)
* a logged call: ``request`` or ``input`` with ``messages``, and ``response`` or ``output`` with
  ``choices``, as proxies and observers of model calls write it

The first choice is the answer and alone is learned: answers before it are rows of their own.
"""

from __future__ import annotations

from typing import Any

from understudy.formats.source import BadRow, Row
from understudy.formats.turns import NO_TOOLS, Turn, read_turn, read_turns

_ASKED = ("request", "input", "body")
_ANSWERED = ("response", "output")
_MESSAGES = ("messages", "input_messages", "input")
_CUT = {"length": "the answer was cut off", "content_filter": "the answer was filtered"}


def is_completion(row: Row) -> bool:
    """True if the row looks like a call that was kept."""
    return isinstance(_answer(row).get("choices"), list)


def completion_turns(row: Row) -> list[Turn]:
    """The turns that were asked, and the answer. Raises BadRow."""
    asked = next((row[name] for name in _ASKED if isinstance(row.get(name), dict)), row)
    messages = next((asked[name] for name in _MESSAGES if isinstance(asked.get(name), list)), None)
    if messages is None:
        raise BadRow("a completion without the messages that were asked")
    before = [turn._replace(learned=False) for turn in read_turns(messages, "messages")]
    return [*before, _chosen(_answer(row)["choices"])]


def _answer(row: Row) -> dict[str, Any]:
    found = next((row[name] for name in _ANSWERED if isinstance(row.get(name), dict)), row)
    body = found.get("body")  # of a batch's output
    return body if isinstance(body, dict) else found


def _chosen(choices: list[Any]) -> Turn:
    choice = choices[0] if choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise BadRow("no answer among the choices")
    finish = choice.get("finish_reason")
    if isinstance(finish, str) and finish in _CUT:
        raise BadRow(_CUT[finish])
    if finish in ("tool_calls", "function_call"):
        raise BadRow(NO_TOOLS)
    if message.get("refusal"):
        raise BadRow("the model refused")
    turn = read_turn({**message, "role": message.get("role") or "assistant", "weight": None})
    if turn.role != "assistant":
        raise BadRow("the answer is not the assistant's")
    return turn
