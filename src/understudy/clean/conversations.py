"""The group of a whole conversation: its examples share their turns, so no split may part them.

Of an example that stands alone, cleaning decides the group when it arrives. A conversation of
several examples gets one group for all of them, before: that of the nearest known conversation that
went nearly the same way for a question, an answer and another question at least (so that one which
was exported again later, longer, stays with what is known of it), else one of its own. The first
question alone brings nothing together: half of all chats may begin with "Hello". Like every group
it is given once and never changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from understudy.dataset import dialogue, group_of
from understudy.example import Example
from understudy.similar import Index


class Groups:
    """Groups of the examples known so far; ways are near from ``similarity`` (Jaccard) on."""

    def __init__(self, similarity: float, known: Iterable[Example] = ()) -> None:
        self._index = Index(similarity)
        self._groups: list[str] = []
        self._number: dict[str, int] = {}
        for example in known:
            self._add(example, group_of(example))

    def grouped(self, conversation: Sequence[Example]) -> Iterator[Example]:
        """Yield the examples of one conversation, all in its group."""
        ways = [dialogue(example) for example in conversation if _went_on(example)]
        near = [found for way in ways for found in self._index.similar(way)]
        nearest = max(near, key=lambda found: found[1], default=None)
        group = self._groups[nearest[0]] if nearest else group_of(conversation[0])
        for example in conversation:
            self._add(example, group)
            yield replace(example, group=group)

    def _add(self, example: Example, group: str) -> None:
        if not _went_on(example):
            return
        number = self._number.setdefault(group, len(self._groups))
        if number == len(self._groups):
            self._groups.append(group)
        self._index.add(number, dialogue(example))


def _went_on(example: Example) -> bool:
    """True if an answer was given before the question."""
    return any(turn.role == "assistant" for turn in example.messages)
