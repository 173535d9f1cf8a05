"""A teacher that is not sure of itself: a share of its answers are drawn anew each time."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from understudy.practice.chat import Call, Completion, tokens


def waver(call: Call, done: Completion, share: float, seed: int, n: int) -> Completion:
    """Of a ``share`` of answers, settled by the request's number: what another input asks for."""
    if call.kind != "answer" or call.task is None or Random(f"{seed} {n}").random() >= share:
        return done
    [other] = call.task.inputs({}, 1, n)
    text = call.task.answer(other)
    return replace(done, text=text, output_tokens=tokens(text))
