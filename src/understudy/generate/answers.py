"""Input -> answer: the teacher answers under the student's own system message.

So its answer is exactly the behaviour to learn, and the same request later scores teacher, base and
student alike. Asked several times, the answer of the majority is kept (self-consistency: Wang et
al., 2022, https://arxiv.org/abs/2203.11171), and the share that agreed is kept with it: a student
cannot be expected to agree with its teacher more often than the teacher does with itself.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable

from understudy.example import Example, Message, valid
from understudy.generate.inputs import Candidate
from understudy.models.protocol import CallFailed, Model, Reply
from understudy.models.question import question
from understudy.models.typed import json_in
from understudy.score import canonical
from understudy.task import Spec

Answer = Callable[[Candidate], Awaitable[Example]]


def answering(
    model: Model,
    spec: Spec,
    *,
    max_tokens: int,
    task_version: int,
    answers: int = 1,
    terms: str = "",
) -> Answer:
    """A function from candidate to example, asking each input ``answers`` times.

    A useless answer is an Example too, rejected with its reason. The function raises CallFailed if
    no answer came.
    """
    schema = spec.answer_schema()

    async def ask(messages: tuple[Message, ...], sample: int) -> Reply:
        request = question(spec.system_message, messages, max_tokens, schema=schema, sample=sample)
        return await model.complete(request)

    async def answer(candidate: Candidate) -> Example:
        messages = (Message("user", candidate.text),)
        if answers == 1:
            reply = await ask(messages, 0)
            (text, reason), agreement = usable(spec, reply), None
        else:
            reply, text, reason, agreement = await _majority(
                spec, [ask(messages, sample) for sample in range(answers)]
            )
        return Example(
            messages=messages,
            answer=text,
            origin="generated",
            state="rejected" if reason else "new",
            reason=reason,
            maker=reply.model or model.name,
            source=reply.key,
            cell=candidate.cell,
            task_version=task_version,
            agreement=agreement,
            parent=candidate.parent,
            terms=terms,
        )

    return answer


async def _majority(
    spec: Spec, asked: list[Awaitable[Reply]]
) -> tuple[Reply, str, str, float | None]:
    """Reply, answer, reason and agreement of the commonest answer; the first reply that gave it.

    Set apart if no answer was given by more than half of all. Raises CallFailed if none came, and
    whatever ends all calls.
    """
    came = await asyncio.gather(*asked, return_exceptions=True)
    for error in came:
        if isinstance(error, BaseException) and not isinstance(error, CallFailed):
            raise error
    replies = [one for one in came if isinstance(one, Reply)]
    if not replies:
        raise next(one for one in came if isinstance(one, CallFailed))
    read = [(reply, *usable(spec, reply)) for reply in replies]
    votes = Counter(canonical(text) for _, text, reason in read if not reason)
    if not votes:
        return *read[0], None
    winner, number = votes.most_common(1)[0]
    reply, text = next(
        (reply, text) for reply, text, reason in read if not reason and canonical(text) == winner
    )
    reason = "" if 2 * number > len(asked) else f"no majority: {number} of {len(asked)} agree"
    return reply, text, reason, number / len(asked)


def usable(spec: Spec, reply: Reply) -> tuple[str, str]:
    """The answer in canonical form, and why it cannot be used ('' if it can)."""
    text = reply.text.strip()
    if reply.refusal or reply.finish == "content_filter":
        return text, "refusal"
    if reply.finish == "length":
        return text, "cut off"
    if not text.strip("\u200b\ufeff"):
        return "", "empty"
    if reply.finish not in ("stop", "end_turn", "eos"):
        return text, f"ended by {reply.finish}"
    if spec.kind == "json":
        try:
            return valid(json.dumps(json_in(text), ensure_ascii=False)), ""
        except ValueError:
            return text, "malformed"
    return text, ""
