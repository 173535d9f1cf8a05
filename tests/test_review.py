"""review: a person decides between pairs, blind, by one key; stored at once, taken back."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest

from conftest import Done
from judging import Answers, answers, reported, text_project
from rehearsal import one_line, select
from understudy.errors import UsageError
from understudy.project import Project

Cli = Callable[..., Done]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a report of student and teacher."""
    folder = tmp_path_factory.mktemp("review")
    project = text_project(folder)
    reported(project, answers(project, equal=9))
    project.close()
    return folder / "p"


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A project of its own."""
    return copytree(made, tmp_path / "p")


def stored(folder: Path) -> list[tuple[int, str]]:
    rows = select(folder, "SELECT example_id, said FROM label ORDER BY at, id")
    return [(row["example_id"], row["said"]) for row in rows]


def test_the_loop_stores_each_label_at_once_and_goes_on(understudy: Cli, folder: Path) -> None:
    done = understudy("review", "5", "-p", folder, stdin="a\nb\nx\nt\ns\nu\nu\nb\nq\n")
    assert done.code == 0, done.err
    # a, b, tie, skip; the skip and the tie are taken back; then b in place of the tie
    assert len(stored(folder)) == 3
    assert "3 labels, 3 of them new; the same command goes on" in done.out
    assert "That is none of" in done.err
    again = understudy("review", "5", "-p", folder, "--json", stdin="a\na\n")
    assert again.json == {"labels": 5, "new": 2, "left": 0}
    assert len({number for number, _ in stored(folder)}) == 5
    nothing = understudy("review", "5", "-p", folder, "--json", stdin="")
    assert nothing.json == {"labels": 5, "new": 0, "left": 0}


def test_nobody_is_told_whose_answer_it_is(understudy: Cli, folder: Path) -> None:
    done = understudy("review", "60", "-p", folder, stdin="s\n" * 60)
    assert not re.search("student|teacher|run:1|openai", done.out + done.err)
    assert done.err.count("Reference:") > 30
    assert "there are no more pairs that differ" in done.out


def test_the_end_of_the_input_ends_it_and_nothing_is_lost(understudy: Cli, folder: Path) -> None:
    done = understudy("review", "-p", folder, stdin="a\n")
    assert done.code == 0
    assert len(stored(folder)) == 1


def test_without_a_report_it_says_what_to_do(understudy: Cli, tmp_path: Path) -> None:
    text_project(tmp_path).close()
    done = understudy("review", "-p", tmp_path / "p")
    one_line(done, 2, "there are no answers to compare yet", "understudy evaluate")


def test_pairs_come_in_random_order_and_places_and_say_what_was_meant(folder: Path) -> None:
    project = Project(folder)
    shown = project.review.questions()
    texts = answers(project, equal=9)
    assert len(shown) == len(texts.student) - 9, "equal answers are not asked about"
    assert 0.25 < sum(question.swapped for question in shown) / len(shown) < 0.75
    assert [one.example_id for one in shown] != sorted(one.example_id for one in shown)
    assert "teacher" not in repr(shown[0])
    assert project.review.questions() == shown, "the same each time"
    for question in shown:
        project.review.label(question, "a")
    by_id = {question.example_id: question for question in shown}
    for number, said in stored(folder):
        assert said == ("second" if by_id[number].swapped else "first")
    assert project.review.questions() == []
    assert project.review.decided() == len(shown)
    taken = project.review.undo()
    assert taken is not None
    assert project.review.questions() == [taken]
    with pytest.raises(UsageError):
        project.review.label(taken, "c")  # type: ignore[arg-type]
    project.close()


def test_another_answer_to_the_same_item_is_another_pair(folder: Path) -> None:
    project = Project(folder)
    for question in project.review.questions():
        project.review.label(question, "tie")
    texts = answers(project, equal=9)
    changed = dict(texts.student)
    number = next(iter(reversed(changed)))
    changed[number] = "something else"
    reported(project, Answers(changed, texts.teacher))
    assert [question.example_id for question in project.review.questions()] == [number]
    project.close()
