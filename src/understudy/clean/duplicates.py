"""What a new example has to do with those that are kept, and its group.

An example *repeats* another if the input is the same (folded) or near, and so is the answer: the
same answer, or for free text a near one. It *contradicts* another if the input is the same and the
answer is not: both cannot be right. A near input with another answer is neither: that contrast is
worth learning, so it is kept, in the same group. Examples that brought different system messages
never repeat or contradict each other.

Of two, the own one stays (written by hand, then imported, then generated); else the earlier.

A group is what never straddles the split. It is given once, when an example arrives, and never
changes, so it may depend on what came before but not on what comes after:

1. That of the example which it repeats or contradicts, so that accepting it by hand is safe.
2. If the spec says that equal answers mean equal inputs: that of its answer. Not if the answer is
   at that moment the answer of more than 20 and more than 2 % of the kept examples: then it is
   something like "none" or "unknown" and says nothing about the input.
3. That of the nearest of the near inputs.
4. That of its own input.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import fields
from itertools import chain
from operator import attrgetter
from typing import Any, Literal, NamedTuple

from understudy.dataset import answer_group, asked, dialogue, group_of, input_group, repeats
from understudy.example import Example, Message, Origin
from understudy.score import canonical
from understudy.similar import Index
from understudy.task import Spec

ORIGINS: tuple[Origin, ...] = ("written", "imported", "generated")
"""In the order of precedence."""
COMMON_COUNT = 20
COMMON_SHARE = 0.02


class Near(NamedTuple):
    """A kept example whose input is the same or near, and its number among the kept."""

    number: int
    example: Example
    same: bool
    """True if it asks the very same (after folding) under the same system message."""


class Clash(NamedTuple):
    """A kept example that cannot stay beside a new one, and how the two clash."""

    kept: Near
    how: Literal["duplicate of", "contradicts"]


def rank(example: Example) -> int:
    """Precedence of its origin; the smaller wins."""
    return ORIGINS.index(example.origin)


class Kept:
    """The examples kept so far, and what a new one has to do with them.

    Grows as examples are decided, so that it need be built only once for many goes. Holds about
    0.4 kB an example beside its texts, which are packed.
    """

    def __init__(self, spec: Spec | None, similarity: float) -> None:
        self.spec = spec
        self._similarity = similarity
        self._free_text = spec is None or spec.kind == "text"
        self._by_answer = spec is not None and spec.same_answer_same_meaning
        self._packed: list[bytes] = []  # by number
        self._dropped: set[int] = set()
        self._same_input: dict[int, int] = {}  # hash of what is asked, to its number
        self._near_input = Index(similarity, lambda number: _dialogue(self._packed[number]))
        self._answers: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._packed) - len(self._dropped)

    def add(self, example: Example) -> None:
        """Keep ``example``."""
        number = len(self._packed)
        self._packed.append(_pack(example))
        self._same_input[hash(asked(example))] = number
        self._near_input.add(number, dialogue(example))
        if self._by_answer:
            self._answers[canonical(example.answer)] += 1

    def drop(self, near: Near) -> None:
        """Keep ``near`` no longer: it is not found again."""
        self._dropped.add(near.number)

    def near(self, example: Example) -> list[Near]:
        """Those whose input is the same or near, the nearest first."""
        numbers = [number for number, _ in self._near_input.similar(dialogue(example))]
        same = self._same(example)  # a crowded index may leave it out
        if same is not None:
            numbers = [same, *(number for number in numbers if number != same)]
        dropped = self._dropped
        return [
            Near(number, self._example(number), number == same)
            for number in numbers
            if number not in dropped
        ]

    def clashes(self, example: Example, near: list[Near]) -> list[Clash]:
        """Those of ``near`` that ``example`` repeats or contradicts, the nearest first."""
        found = []
        for kept in near:
            other = kept.example
            if repeats(example, other, similarity=self._similarity, free_text=self._free_text):
                found.append(Clash(kept, "duplicate of"))
            elif kept.same:
                found.append(Clash(kept, "contradicts"))
        return found

    def group(self, example: Example, near: list[Near], clashes: list[Clash]) -> str:
        """Return the group of a new example."""
        if clashes:
            return group_of(clashes[0].kept.example)
        if self._by_answer and not self._is_common(canonical(example.answer)):
            return answer_group(example)
        return group_of(near[0].example) if near else input_group(example)

    def _same(self, example: Example) -> int | None:
        """Number of the last one that asks the very same."""
        question = asked(example)
        number = self._same_input.get(hash(question))
        found = number is not None and asked(self._example(number)) == question
        return number if found else None

    def _example(self, number: int) -> Example:
        return _unpack(self._packed[number])

    def _is_common(self, answer: str) -> bool:
        used = self._answers[answer] + 1
        return used > COMMON_COUNT and used > COMMON_SHARE * (len(self) + 1)


_TEXTS = [field.name for field in fields(Example) if field.type in {"str", "Origin", "State"}]
_REST = [field.name for field in fields(Example) if field.name not in {"messages", *_TEXTS}]
_TEXTS_OF, _REST_OF = attrgetter(*_TEXTS), attrgetter(*_REST)
_ENCODER = json.JSONEncoder(separators=(",", ":"), check_circular=False)
_END = b"\xff"
"""Between two texts: no UTF-8 has it."""


def _pack(example: Example) -> bytes:
    """Return the example in a third of the memory; read again only if something is near it."""
    texts = [*_TEXTS_OF(example), *chain.from_iterable(example.messages)]
    packed = [text.encode("utf-8", "surrogatepass") for text in texts]
    return _END.join([_ENCODER.encode(_REST_OF(example)).encode(), *packed])


def _dialogue(packed: bytes) -> str:
    """Return ``dialogue`` of a packed example: most of those that are compared are not near."""
    turns = packed.split(_END)[1 + len(_TEXTS) :]
    said = [text for role, text in zip(turns[::2], turns[1::2], strict=True) if role != b"system"]
    return b"\n".join(said).decode("utf-8", "surrogatepass")


def _unpack(packed: bytes) -> Example:
    rest, *parts = packed.split(_END)
    texts = [text.decode("utf-8", "surrogatepass") for text in parts]
    turns = iter(texts[len(_TEXTS) :])
    values: dict[str, Any] = dict(zip(_TEXTS, texts, strict=False))  # the turns come after them
    values.update(zip(_REST, json.loads(rest), strict=True))
    return Example(tuple(map(Message._make, zip(turns, turns, strict=True))), **values)
