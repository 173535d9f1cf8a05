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

from collections import Counter
from typing import Literal, NamedTuple

from understudy.dataset import answer_group, asked, dialogue, group_of, input_group, repeats
from understudy.example import Example
from understudy.score import canonical
from understudy.similar import Index
from understudy.task import Spec

_RANK = {"written": 0, "imported": 1, "generated": 2}
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
    return _RANK[example.origin]


class Kept:
    """The examples kept so far, and what a new one has to do with them."""

    def __init__(self, spec: Spec | None, similarity: float) -> None:
        self._similarity = similarity
        self._free_text = spec is None or spec.kind == "text"
        self._by_answer = spec is not None and spec.same_answer_same_meaning
        self._examples: dict[int, Example] = {}
        self._same_input: dict[tuple[str, str], int] = {}
        self._near_input = Index(similarity)
        self._answers: Counter[str] = Counter()
        self._next = 0

    def add(self, example: Example) -> None:
        """Keep ``example``."""
        number, self._next = self._next, self._next + 1
        self._examples[number] = example
        self._same_input[asked(example)] = number
        self._near_input.add(number, dialogue(example))
        if self._by_answer:
            self._answers[canonical(example.answer)] += 1

    def drop(self, near: Near) -> None:
        """Keep ``near`` no longer: it is not found again."""
        del self._examples[near.number]

    def near(self, example: Example) -> list[Near]:
        """Those whose input is the same or near, the nearest first."""
        numbers = [number for number, _ in self._near_input.similar(dialogue(example))]
        same = self._same_input.get(asked(example))  # a crowded index may leave it out
        if same is not None:
            numbers = [same, *(number for number in numbers if number != same)]
        kept = self._examples
        return [Near(number, kept[number], number == same) for number in numbers if number in kept]

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

    def _is_common(self, answer: str) -> bool:
        used = self._answers[answer] + 1
        return used > COMMON_COUNT and used > COMMON_SHARE * (len(self._examples) + 1)
