"""What the tests of the judge share: a project of free text, answers to its test items, a judge."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import NamedTuple

from understudy.errors import UnderstudyError
from understudy.evaluate import summarise
from understudy.example import Example
from understudy.judgement import Judgement
from understudy.money import Quote
from understudy.project import Project, jury
from understudy.project.shelf import checked_splits, newest_dataset
from understudy.report import Outcome
from understudy.store import runs
from understudy.task import Spec

SPEC = Spec(
    title="Explain a term",
    input="A term",
    output="What it means, in one sentence",
    kind="text",
    rules=("Say what it is for.",),
    system_message="Explain the term in one sentence.",
)
LETTERS = "abcdefghijklmnoprstuvwz"


def text_project(folder: Path, rows: int = 150) -> Project:
    """A frozen project of free text; four tenths of its rows are the test."""
    rng = Random(7)

    def word() -> str:
        return "".join(rng.choices(LETTERS, k=rng.randint(3, 9)))

    made = [
        (f"{word()} {word()} {word()}", " ".join(word() for _ in range(9)) + ".")
        for _ in range(rows)
    ]
    with (folder / "own.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("prompt", "response"), *made])
    project = Project.new(folder / "p", "Explain a term", {"test_share": 0.4})
    project.edit_spec(SPEC)
    project.import_examples(folder / "own.csv")
    project.freeze()
    return project


def items(project: Project) -> list[Example]:
    """The test items."""
    return checked_splits(project, newest_dataset(project))["test"]


class Answers(NamedTuple):
    """Student's and teacher's answers by item."""

    student: Mapping[int, str]
    teacher: Mapping[int, str]

    def outcomes(self) -> list[Outcome]:
        return [
            Outcome(number, system, text, 0.0, exact=False)
            for system, texts in (("student", self.student), ("teacher", self.teacher))
            for number, text in texts.items()
        ]


def answers(project: Project, *, equal: int = 0) -> Answers:
    """The first ``equal`` are the same; of the others a third is better, worse, or as good."""
    student, teacher = {}, {}
    for place, item in enumerate(items(project)):
        assert item.id is not None
        words = item.answer.split()
        good, bad = " ".join(words[:7]), " ".join(words[:2])
        first, second = [(good, bad), (bad, good), (good, f"{good} ")][place % 3]
        if place % 3 == 2:
            second = " ".join([*words[:6], words[6].upper()])  # as near, but not the same
        student[item.id], teacher[item.id] = first, good if place < equal else second
        if place < equal:
            student[item.id] = good
    return Answers(student, teacher)


def judged(
    folder: Path,
    url: str,
    given: Answers,
    judge: str = "judge",
    confirm: Callable[[Quote], None] = lambda _: None,
    **flags: object,
) -> tuple[Judgement, UnderstudyError | None]:
    """Put the answers to a practice judge, as ``evaluate`` does with what the systems said."""
    prices = {"judge_price_in": 0.5, "judge_price_out": 2.0}
    project = Project(folder, {"judge": f"{url}#{judge}", **prices, **flags})
    names = {"student": "run:1", "teacher": "openai:somebody"}
    try:
        court = jury.opened(project, SPEC)
        assert court is not None
        with project.writing():
            return jury.judge(court, items(project), given.outcomes(), names, confirm)
    finally:
        project.close()


def reported(project: Project, given: Answers) -> None:
    """Store those answers as the newest report."""
    names = {"student": "run:1", "teacher": "openai:somebody"}
    report = summarise(newest_dataset(project).id, "exact match", given.outcomes(), names)
    with project.database.write() as connection:
        runs.add_report(connection, report)
