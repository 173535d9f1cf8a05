"""What a call of generation asked for, and what came: read from its row alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import ValidationError

from understudy.generate import prompts
from understudy.generate.inputs import Inputs
from understudy.models.protocol import Unreadable
from understudy.models.stored import read
from understudy.models.typed import json_in
from understudy.project.losses import STORED, why_no_reply
from understudy.store.traces import Call
from understudy.task import Spec, Task


class Written(NamedTuple):
    """The inputs in a reply."""

    texts: tuple[str, ...]
    wanted: int
    """How many were asked for: those beyond are not taken."""


@dataclass(frozen=True, slots=True)
class Ours:
    """Which calls belong to these versions of the task."""

    heads: dict[str, tuple[str, ...]]
    """By purpose: how their messages begin."""
    spans: tuple[tuple[str, str], ...]
    """When inputs were asked for by prompts that are no longer known."""

    def has(self, call: Call, purpose: str) -> bool:
        """True if the call is one of theirs: by what it says, or by when it was sent.

        An answer belongs to whoever has its system message. A call for inputs may be found on disk
        by a later version of the task, so it can belong to several.
        """
        if call.request.startswith(self.heads[purpose]):
            return True
        return purpose == "inputs" and any(start <= call.sent_at < end for start, end in self.spans)


def ours(tasks: Sequence[Task], spans: Sequence[tuple[str, str]]) -> Ours:
    """Calls for these versions of the task, which were the newest in these spans of time."""
    specs = [task.spec for task in tasks if task.spec is not None]
    heads = {
        "answer": tuple({_head(spec.system_message) for spec in specs}),
        "inputs": tuple({_head(system) for spec in specs for system in _writing(spec)}),
    }
    return Ours(heads, tuple(spans))


def _writing(spec: Spec) -> list[str]:
    """What the writer of inputs is told for that spec."""
    slots = {"input": spec.input, "language": spec.language or "any"}
    return [prompts.fill(text, **slots) for text in (prompts.INPUTS, prompts.VARIANTS)]


def _head(system: str) -> str:
    return json.dumps([["system", system]], ensure_ascii=False)[:-1]


def is_purged(call: Call) -> bool:
    """True if nothing is left of the call but what it cost."""
    return call.request == "[]"


def question_of(call: Call) -> str:
    """The input that a call asks the answer to."""
    return str(json.loads(call.request)[-1][1])


def how_far(call: Call) -> tuple[int, str]:
    """Of a call for an answer that no example came from: how far it came, and why no further."""
    why = why_no_reply(call)
    if not why and call.state == "received":
        try:
            read(call.raw or b"")
        except Unreadable as error:
            why = f"unreadable: {error.what}"
    if not why:
        return 3, STORED
    return {"sent": 2, "batched": 2, "failed_unpaid": 0}.get(call.state, 1), why


def inputs_in(call: Call) -> Written | str:
    """The inputs that a call brought, or why it brought none."""
    why = why_no_reply(call)
    if why:
        return why
    try:
        reply = read(call.raw or b"")
    except Unreadable as error:
        return f"unreadable: {error.what}"
    if reply.finish == "length":
        return "cut off while writing inputs"
    try:
        found = Inputs.model_validate(json_in(reply.text))
    except (ValueError, ValidationError):
        declined = reply.refusal or reply.finish == "content_filter"
        return "refusal" if declined else "not the JSON asked for"
    texts = tuple(one.text for one in found.inputs)
    return Written(texts, int(_order(call.request).get("how_many", len(texts))))


def cell_of(call: Call) -> str:
    """The cell that inputs were asked for, in words."""
    cell = _order(call.request).get("cell")
    if not isinstance(cell, dict) or not cell:
        return "harder variants" if _order(call.request).get("harder_than") else "inputs"
    return ", ".join(f"{name}={value}" for name, value in cell.items())


def inputs_asked(request: str) -> tuple[str, int]:
    """The question of a call for inputs, and how many it asks for; ``request`` as it is stored.

    A correction has the question that it belongs to. Nothing (0) where the call was purged.
    """
    messages = json.loads(request)
    if len(messages) < 2:
        return "", 0
    return str(messages[1][1]), int(_order(request).get("how_many", 0))


def _order(request: str) -> dict[str, Any]:
    """The line of JSON in a question for inputs; empty if it has none."""
    lines = json.loads(request)[1][1].split("\n")
    line = next((line for line in lines if line.startswith('{"batch"')), "{}")
    try:
        body = json.loads(line)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
