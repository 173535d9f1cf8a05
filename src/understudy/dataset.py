"""A dataset: accepted examples on three sides of a split that no repetition crosses.

An example's side follows from a hash of its group and the seed alone, so that growing data never
moves it: test below ``test_share``, validation above ``1 - validation_share``, train between.
Changing one share moves only what lies between its old border and its new.

One exception keeps small data usable: where chance gives a side none of the first ten groups, the
one of them whose hash lies nearest sits there for good. Ten is the fewest that are split at all,
and the first ten stay the first as data grows, so no side is ever empty and still nothing moves
(only rejecting one of the ten by hand can). It concerns one or two groups in half of all projects.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b, sha256
from itertools import accumulate
from typing import Any

from understudy.errors import UnderstudyError, UsageError
from understudy.example import Example, Message, Split
from understudy.models import question
from understudy.score import canonical
from understudy.similar import Index, fold, jaccard

MIN_GROUPS = 10
"""Groups below which no split is made: fewer cannot fill three sides and say anything."""

Splits = Mapping[Split, Sequence[Example]]


@dataclass(frozen=True, slots=True)
class Leak:
    """One example that gives away another on the other side of the split."""

    id: int | None
    other_id: int | None
    reason: str


def split_of(group: str, *, seed: int, validation_share: float, test_share: float) -> Split:
    """Side of the split for ``group``: the same whatever else is in the data."""
    place = _place(group, seed)
    if place < test_share:
        return "test"
    return "validation" if place >= 1 - validation_share else "train"


def freeze(
    examples: Iterable[Example],
    *,
    seed: int,
    validation_share: float,
    test_share: float,
) -> dict[Split, list[Example]]:
    """Split the accepted ones of ``examples``; the order on each side is that of their ids.

    Raises UsageError if no example is accepted or there are fewer than 10 groups. Does not look
    for leaks: ``check_leaks`` does, here and again before every training and evaluation.
    """
    usable = sorted(
        (example for example in examples if example.state == "accepted"),
        key=lambda example: (example.id is None, example.id or 0),
    )
    if not usable:
        raise UsageError(
            "No example is accepted, so there is nothing to learn from",
            "`understudy generate` or `understudy import`, then `understudy clean`",
        )
    groups = list(dict.fromkeys(map(group_of, usable)))
    if len(groups) < MIN_GROUPS:
        raise UsageError(
            f"Too few to split: {_count(len(usable), 'accepted example')} in "
            f"{_count(len(groups), 'group')} that say different things, at least {MIN_GROUPS} "
            "are needed",
            f"Add {MIN_GROUPS - len(groups)} or more that differ: understudy import, or generate",
        )
    side = {
        group: split_of(group, seed=seed, validation_share=validation_share, test_share=test_share)
        for group in groups
    }
    side |= _seats(groups[:MIN_GROUPS], side, seed, validation_share, test_share)
    splits: dict[Split, list[Example]] = {"train": [], "validation": [], "test": []}
    for example in usable:
        splits[side[group_of(example)]].append(example)
    return splits


def nested(
    examples: Sequence[Example], shares: Iterable[float], *, seed: int
) -> list[list[Example]]:
    """For each share (0 to 1) that part of ``examples``: whole groups, each part within the larger.

    Groups come in an order by hash, so that the same arguments give the same parts whatever order
    the examples are in; a part ends with the group that brings it to its share. Another ``seed``
    draws other parts. Each part keeps the order of ``examples``.
    """
    sizes = Counter(map(group_of, examples))
    order = sorted(sizes, key=lambda group: (_place(f"part:{group}", seed), group))
    ends = list(accumulate(sizes[group] for group in order))
    parts = []
    for share in shares:
        enough = bisect_left(ends, round(share * len(examples)))
        inside = set(order[: enough + 1])
        parts.append([example for example in examples if group_of(example) in inside])
    return parts


def rows(example: Example, system_message: str) -> dict[str, Any]:
    """One training row: ``{"id", "prompt": [{"role", "content"}], "completion": [...]}``."""
    return {
        "id": example.id,
        "prompt": [turn._asdict() for turn in prompt(example, system_message)],
        "completion": [{"role": "assistant", "content": example.answer}],
    }


def prompt(example: Example, system_message: str) -> tuple[Message, ...]:
    """What a model is asked: the example's messages, the task's system message in front.

    An example that brought a system message keeps its own.
    """
    return question.prompt(system_message, example.messages)


def fingerprint(splits: Splits, system_message: str) -> str:
    """SHA-256 (hex) of what is trained on and tested with, whatever the order and the ids."""
    canon = sorted(
        json.dumps([side, prompt(example, system_message), example.answer])
        for side, examples in splits.items()
        for example in examples
    )
    return sha256("\n".join(canon).encode()).hexdigest()


def leaks(
    train_like: Iterable[Example],
    test: Iterable[Example],
    *,
    similarity: float = 0.8,
    free_text: bool = False,
) -> Iterator[Leak]:
    """Every example of ``train_like`` that gives away one of ``test``.

    It does if it has the same id, the same group, the same input, or a near one (``similarity``,
    Jaccard) with the same answer; near answers count as the same where answers are ``free_text``.
    """
    unseen = Unseen(test, similarity=similarity, free_text=free_text)
    for example in train_like:
        leak = unseen.given_away_by(example)
        if leak is not None:
            yield leak


class Unseen:
    """Examples that must not be given away, and what does; see ``leaks``."""

    def __init__(
        self, examples: Iterable[Example], *, similarity: float = 0.8, free_text: bool = False
    ) -> None:
        self._similarity, self._free_text = similarity, free_text
        self._known = list(examples)
        self._ids = {example.id: example for example in self._known if example.id is not None}
        self._groups = {group_of(example): example for example in self._known}
        self._inputs = {asked(example): example for example in self._known}
        self._index = Index(similarity)
        for position, example in enumerate(self._known):
            self._index.add(position, dialogue(example))

    def given_away_by(self, example: Example) -> Leak | None:
        """The one that ``example`` gives away, and how; None if it gives away none."""
        for reason, other in (
            ("are the same example", None if example.id is None else self._ids.get(example.id)),
            ("are of one group", self._groups.get(group_of(example))),
            ("have the same input", self._inputs.get(asked(example))),
        ):
            if other is not None:
                return Leak(example.id, other.id, reason)
        for position, share in self._index.similar(dialogue(example)):
            near = self._known[position]
            if repeats(example, near, similarity=self._similarity, free_text=self._free_text):
                reason = f"have inputs {share:.0%} alike and the same answer"
                return Leak(example.id, near.id, reason)
        return None


def check_leaks(splits: Splits, *, similarity: float = 0.8, free_text: bool = False) -> None:
    """Raise UnderstudyError naming two examples if one side of ``splits`` gives away another."""
    train, validation, test = (splits.get(s, ()) for s in ("train", "validation", "test"))
    for side, seen, unseen in (
        ("test", [*train, *validation], test),
        ("validation", train, validation),
    ):
        found = list(leaks(seen, unseen, similarity=similarity, free_text=free_text))
        if found:
            first = found[0]
            more = f", and {len(found) - 1} more" if len(found) > 1 else ""
            raise UnderstudyError(
                f"The {side} split is leaked: examples {first.id} and {first.other_id} "
                f"{first.reason}, but lie on two sides{more}",
                "Leave one of each pair out of what you import, into a new project",
            )


def repeats(
    example: Example, other: Example, *, similarity: float, free_text: bool = False
) -> bool:
    """True if the two, whose inputs are known to be near, teach the same thing twice.

    Their answers are the same (near, for free text), and so is the system message they brought.
    """
    same_answer = canonical(example.answer) == canonical(other.answer) or (
        free_text and jaccard(example.answer, other.answer) >= similarity
    )
    return same_answer and setting(example) == setting(other)


def group_of(example: Example) -> str:
    """The example's group; one that was never cleaned goes by its input."""
    return example.group or input_group(example)


def input_group(example: Example) -> str:
    """Key of the group that shares this input."""
    return "input:" + _digest(fold(dialogue(example)))


def answer_group(example: Example) -> str:
    """Key of the group that shares this answer."""
    return "answer:" + _digest(canonical(example.answer))


def asked(example: Example) -> tuple[str, str]:
    """Two examples with equal ``asked`` ask the same thing."""
    return setting(example), fold(dialogue(example))


def dialogue(example: Example) -> str:
    """Everything said before the answer, without the system message."""
    return "\n".join([turn.content for turn in example.messages if turn.role != "system"])


def setting(example: Example) -> str:
    """The system message that the example brought, folded; '' if none."""
    return fold("\n".join([turn.content for turn in example.messages if turn.role == "system"]))


def _place(group: str, seed: int) -> float:
    """Where the group lies in [0, 1), evenly spread."""
    digest = blake2b(f"{seed}:{group}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / 2**53


def _seats(
    first: Sequence[str],
    side: Mapping[str, Split],
    seed: int,
    validation_share: float,
    test_share: float,
) -> dict[str, Split]:
    """For each side that none of the ``first`` groups fell to, the one that sits there."""
    middle: dict[Split, float] = {
        "test": test_share / 2,
        "validation": 1 - validation_share / 2,
        "train": (test_share + 1 - validation_share) / 2,
    }
    if not validation_share:
        del middle["validation"]
    members = {name: [group for group in first if side[group] == name] for name in middle}
    seats: dict[str, Split] = {}
    for name, place in middle.items():
        if not members[name]:
            richest = max(members.values(), key=len)
            chosen = min(richest, key=lambda group: abs(_place(group, seed) - place))
            richest.remove(chosen)
            members[name].append(chosen)
            seats[chosen] = name
    return seats


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
