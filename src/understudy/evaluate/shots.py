"""Few-shot: examples of the training split, put before the question as turns of a chat.

It is what prompting can do without any training, so it is what training has to beat.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from understudy.example import Example, Message
from understudy.score import canonical

FEW = 5
"""Examples that a base is shown unless told otherwise."""


def shots(train: Sequence[Example], number: int, *, seed: int = 0) -> list[Example]:
    """``number`` examples of ``train``, or all if there are fewer.

    Own examples come before generated ones, and answers that differ before those that repeat; else
    they are drawn by ``seed``.
    """
    drawn = list(train)
    random.Random(seed).shuffle(drawn)
    drawn.sort(key=lambda example: example.origin == "generated")
    seen: set[str] = set()
    first: list[Example] = []
    again: list[Example] = []
    for example in drawn:
        answer = canonical(example.answer)
        (again if answer in seen else first).append(example)
        seen.add(answer)
    return [*first, *again][:number]


def shown(messages: tuple[Message, ...], shots: Sequence[Example]) -> tuple[Message, ...]:
    """The messages with each shot's turns and answer behind the system message, if there is one.

    A shot's own system message is left out: the question's holds for all.
    """
    first = 1 if messages[0].role == "system" else 0
    turns = [
        turn
        for shot in shots
        for turn in (
            *(message for message in shot.messages if message.role != "system"),
            Message("assistant", shot.answer),
        )
    ]
    return (*messages[:first], *turns, *messages[first:])
