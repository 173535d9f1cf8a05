"""Pairs of answers for a person to decide between, without names and in random order."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Literal

from understudy.errors import UsageError
from understudy.evaluate.contest import matches
from understudy.example import Example
from understudy.project.here import here
from understudy.project.workplace import Workplace
from understudy.report import Report
from understudy.store import examples, labels, runs
from understudy.store.labels import Label, Said

Answer = Literal["a", "b", "tie", "skip"]
"""Which answer is better; ``tie``: neither; ``skip``: not decided, and not shown again."""


@dataclass(frozen=True, slots=True)
class Question:
    """Two answers to one input, as they are shown: which is whose is not told."""

    input: str
    reference: str
    a: str
    b: str
    example_id: int
    swapped: bool = field(repr=False)
    """True if ``a`` is the second system's."""
    systems: tuple[str, str] = field(repr=False)


class Review:
    """A person's labels in a project."""

    def __init__(self, place: Workplace) -> None:
        self._place = place

    def questions(self) -> list[Question]:
        """The pairs of the newest report that nobody has decided, in random order.

        Student against teacher; without a student, the first two systems. Equal answers are left
        out. The order is drawn by the seed and the pairs, so it is the same each time, and the
        labelled ones are a random sample of all. Raises UsageError if there is no report of two
        systems.
        """
        report, items = _newest(self._place)
        answers: dict[str, dict[int, str]] = {}
        for outcome in report.outcomes:
            if outcome.answer is not None:
                answers.setdefault(outcome.system, {})[outcome.example_id] = outcome.answer
        pairs = matches(answers.keys())
        if not pairs:
            raise UsageError("the newest report has answers of one system alone", "Train a student")
        first, second = pairs[0]
        with self._place.database.read() as connection:
            seen = {(one.example_id, one.first, one.second) for one in labels.labels(connection)}
        found: list[tuple[str, Question]] = []
        for number in answers[first].keys() & answers[second].keys():
            texts = answers[first][number], answers[second][number]
            if texts[0].strip() == texts[1].strip() or (number, *texts) in seen:
                continue
            drawn = _drawn(self._place.settings.seed, number, texts)
            swapped = int(drawn[:2], 16) % 2 == 1
            shown = _shown(items[number], texts, (first, second), swapped=swapped)
            found.append((drawn[2:], shown))
        return [question for _, question in sorted(found, key=lambda pair: pair[0])]

    def label(self, question: Question, answer: Answer) -> None:
        """Store what a person said of a pair."""
        said: dict[Answer, Said] = {"a": "first", "b": "second", "tie": "tie", "skip": "skip"}
        if answer not in said:
            raise UsageError(f"no such answer: {answer}", "a, b, tie or skip")
        texts = (question.a, question.b)
        if question.swapped:
            said |= {"a": "second", "b": "first"}
            texts = (question.b, question.a)
        with self._place.database.write() as connection:
            labels.add(
                connection, Label(question.example_id, *texts, question.systems, said[answer])
            )

    def undo(self) -> Question | None:
        """Take the newest label back; its pair, to be shown again. None if there is none."""
        with self._place.database.write() as connection:
            taken = labels.remove_newest(connection)
            if taken is None:
                return None
            [item] = examples.by_id(connection, [taken.example_id])
        texts = (taken.first, taken.second)
        drawn = _drawn(self._place.settings.seed, taken.example_id, texts)
        return _shown(item, texts, taken.systems, swapped=int(drawn[:2], 16) % 2 == 1)

    def decided(self) -> int:
        """How many pairs people have decided; skipped ones are not."""
        with self._place.database.read() as connection:
            return sum(one.said != "skip" for one in labels.labels(connection))


def _newest(place: Workplace) -> tuple[Report, dict[int, Example]]:
    with place.database.read() as connection:
        report = runs.report(connection)
        if report is None:
            evaluate = f"understudy evaluate{here(place.folder)}"
            raise UsageError("there are no answers to compare yet", evaluate)
        items = runs.members(connection, report.dataset_id, "test")
        return report, {item.id: item for item in items if item.id is not None}


def _shown(
    item: Example, texts: tuple[str, str], systems: tuple[str, str], *, swapped: bool
) -> Question:
    a, b = reversed(texts) if swapped else texts
    return Question(item.input, item.answer, a, b, item.id or 0, swapped, systems)


def _drawn(seed: int, number: int, texts: tuple[str, str]) -> str:
    canon = json.dumps([seed, number, *texts])
    return hashlib.sha256(canon.encode()).hexdigest()
