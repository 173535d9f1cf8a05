"""Input -> answer: the teacher answers under the student's own system message.

So its answer is exactly the behaviour to learn, and the same request later scores teacher, base and
student alike.
"""

from __future__ import annotations

import json

from understudy.example import Example, Message, valid
from understudy.generate.ask import json_in
from understudy.models.protocol import Model, Reply
from understudy.models.question import question
from understudy.task import Cell, Spec


async def answer(
    model: Model, spec: Spec, text: str, cell: Cell, *, max_tokens: int, task_version: int
) -> Example:
    """Ask for the answer to one input. A useless one is an Example too, rejected with its reason.

    Raises CallFailed if none came.
    """
    messages = (Message("user", text),)
    reply = await model.complete(
        question(spec.system_message, messages, max_tokens, schema=spec.answer_schema())
    )
    text, reason = usable(spec, reply)
    return Example(
        messages=messages,
        answer=text,
        origin="generated",
        state="rejected" if reason else "new",
        reason=reason,
        maker=reply.model or model.name,
        source=reply.key,
        cell=cell,
        task_version=task_version,
    )


def usable(spec: Spec, reply: Reply) -> tuple[str, str]:
    """The answer in canonical form, and why it cannot be used ('' if it can)."""
    text = reply.text.strip()
    if reply.refusal or reply.finish == "content_filter":
        return text, "refusal"
    if reply.finish == "length":
        return text, "cut off"
    if not text.strip("\u200b\ufeff"):
        return "", "empty"
    if spec.kind == "json":
        try:
            return valid(json.dumps(json_in(text), ensure_ascii=False)), ""
        except ValueError:
            return text, "malformed"
    return text, ""
