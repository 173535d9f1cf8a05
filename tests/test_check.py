"""The reality check before the spend: a teacher that wavers, one that differs, a base that can."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from conftest import PRICES, Done
from students import make_folder
from understudy.errors import BudgetReached
from understudy.evaluate.reality import Asked, Reality, as_json, from_stored, reality
from understudy.example import Example, Message
from understudy.project import Project
from understudy.report import Outcome
from understudy.score import metric
from understudy.store import examples

Cli = Callable[..., Done]
OURS = {"student_price_in": 0.5, "student_price_out": 2.0, "price_in": 0.5, "price_out": 2.0}


def opened(folder: Path, provider: Any, **flags: Any) -> Project:
    """A project whose teacher is ``provider``'s durations; the pilot has enough to be judged by."""
    flags = {"teacher": provider.teacher("durations"), "pilot": 20, **OURS, **flags}
    return Project.new(folder, "Durations", flags)


def answers(provider: Any) -> int:
    return sum(line["paid"] and line["kind"] == "answer" for line in provider.account())


def examples_of(folder: Path) -> list[tuple[str, str]]:
    with closing(Project(folder)) as project, project.database.read() as connection:
        return [(one.input, one.answer) for one in examples.stream(connection, (1, 2))]


# -- what it finds -----------------------------------------------------------------------------


def test_a_sure_teacher_is_told_with_its_interval(
    understudy: Cli, server: Callable[..., Any], tmp_path: Path
) -> None:
    """Five more calls for a pilot of five; the same again costs nothing; the examples are equal."""
    with server() as provider:
        new = ("--describe", "Durations", "--teacher", provider.teacher("durations"), *PRICES)
        for project in ("p", "q"):
            assert understudy("new", project, *new[:4]).code == 0
        pilot = ("pilot", *PRICES, "--examples", "60")
        done = understudy(*pilot, "-p", "p")
        assert done.code == 0, done.err
        assert "same answer to 5 of 5 items (57-100 %)" in done.err
        assert "tiny begins from nothing" in done.err
        assert "5 items tell little: 20 are judged by" in done.err
        assert done.out.startswith("Quote for the rest: 55 examples")
        assert answers(provider) == 10
        again = understudy(*pilot, "-p", "p", "--json").json
        assert (again["warning"], again["check"]["decision"]) == ("", "no_base")
        assert again["check"]["same"]["score"] == 1
        assert answers(provider) == 10
        assert understudy(*pilot, "-p", "q", "--no-check", "--json").json["check"] is None
        assert answers(provider) == 15
        assert understudy("status", "-p", "p", "--json").json["check"] == again["check"]
        assert understudy("status", "-p", "q", "--json").json["check"] is None
    lines = understudy("ledger", "-p", "p", "--json").json["lines"]
    assert {line["purpose"]: line["calls"] for line in lines}["check"] == 5
    assert examples_of(tmp_path / "p") == examples_of(tmp_path / "q")


def test_a_teacher_that_contradicts_itself(server: Callable[..., Any], tmp_path: Path) -> None:
    """Mend the spec, with items that it answered twice otherwise; a purge takes its words out."""
    with server("--waver", "0.6") as provider:
        project = opened(tmp_path / "p", provider)
        quote = project.pilot(200, check=True)
        found = project.last_check()
        assert found is not None
        assert found.decision == "teacher_unsure"
        assert found.same.high < 0.9
        assert quote.warning == found.warning
        assert "not sure of itself" in quote.warning
        assert "describe --edit" in quote.warning
        assert len(found.contradictions) == 3
        for one in found.contradictions:
            assert one.first != one.second
            told = f"asked twice: {one.input} -> {one.first}, then {one.second}"
            assert told in found.sentences
        project.purge(provider.teacher("durations"))
        purged = project.last_check()
    assert purged is not None
    assert purged.contradictions == ()
    assert (purged.same, purged.decision) == (found.same, found.decision)
    with project.database.read() as connection:
        kept = connection.exec_driver_sql("SELECT data FROM event WHERE kind = 'check.done'")
        assert "asked twice: " not in " ".join(row[0] for row in kept)
    project.close()


def test_a_teacher_that_differs_from_the_user(server: Callable[..., Any], tmp_path: Path) -> None:
    """Own examples are asked about twice, twenty at the most; sure and yet not of their answers."""
    rows = [{"prompt": f"{n} hours", "completion": f"{n}:00"} for n in range(2, 27)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with server() as provider:
        project = opened(tmp_path / "p", provider, pilot=5)
        project.import_examples(tmp_path / "own.jsonl")
        quote = project.pilot(60, check=True)
        assert answers(provider) == 5 + 20 + 25
        found = project.last_check()
    assert found is not None
    assert found.decision == "teacher_differs"
    assert (found.items, found.same.score) == (25, 1)
    assert found.yours is not None
    assert (found.yours.items, found.yours.score) == (20, 0)
    assert "0 of 20 own examples (0-16 %)" in quote.warning
    project.close()


@pytest.mark.parametrize(
    ("base", "decision", "score"), [("durations", "prompting", 1), ("novice", "train", 0)]
)
def test_prompting_that_is_as_good_is_said(
    server: Callable[..., Any], tmp_path: Path, base: str, decision: str, score: float
) -> None:
    """A hosted base is asked by name through the ledger, without and with examples."""
    with server() as provider:
        project = opened(tmp_path / "p", provider, student=f"{provider.url}#{base}")
        quote = project.pilot(200, check=True)
        found = project.last_check()
        assert answers(provider) == 80
        project.check()
        assert answers(provider) == 80
    assert found is not None
    assert found.decision == decision, found
    assert {name: share.score for name, share in found.systems.items()} == {
        "teacher": 1,
        "base": score,
        "few-shot": score,
    }
    assert quote.warning == (found.verdict if decision == "prompting" else "")
    assert found.verdict in found.sentences
    project.close()


def test_the_question_before_the_spend_says_it(
    understudy: Cli, server: Callable[..., Any], tmp_path: Path
) -> None:
    """Above a dollar ``generate`` and ``run`` check by themselves, and ask with what was found."""
    with server() as provider:
        prices = ("--price-in", "50", "--price-out", "100")
        flags = {"student_price_in": 0.5, "student_price_out": 2.0, "pilot": 20}
        flags |= {"teacher": provider.teacher("durations"), "student": f"{provider.url}#durations"}
        Project.new(tmp_path / "p", "Durations", flags).close()
        done = understudy("generate", "400", "-p", "p", *prices)
        assert done.code == 2
        question = done.err.splitlines()[-1]
        assert question.startswith("understudy: Do not fine-tune: "), done.err
        assert "380 examples: $" in question
        bought = answers(provider)
        assert bought == 80
        assert understudy("generate", "30", "-p", "p", *prices, "--yes").code == 0
        assert answers(provider) == bought + 10


def test_a_check_that_was_stopped_goes_on(server: Callable[..., Any], tmp_path: Path) -> None:
    """The budget ends it; with a larger one only what is missing is bought."""
    with server() as provider:
        project = opened(tmp_path / "p", provider, concurrency=1, budget=5.0)
        project.generate(20)
        bought = answers(provider)
        with project.database.read() as connection:
            spent = connection.exec_driver_sql("SELECT spent_micro FROM purse").scalar_one()
        project.close()
        poor = Project(tmp_path / "p", {"budget": spent / 1e6 + 0.0030})
        with pytest.raises(BudgetReached):
            poor.check()
        poor.close()
        some = answers(provider)
        assert bought < some < bought + 20
        rich = Project(tmp_path / "p", {"budget": 5.0})
        assert rich.check().same.items == 20
        assert answers(provider) == bought + 20
        assert max(provider.paid().values()) == 2  # once to be used, once for the check
        rich.close()


def test_a_base_on_this_disk_is_asked_and_none_is_fetched(
    server: Callable[..., Any], tmp_path: Path
) -> None:
    """A model of the hub that is not in the cache is left out, and that is said."""
    with server() as provider:
        here = make_folder(tmp_path / "student")
        project = opened(tmp_path / "p", provider, student=f"hf:{here}", pilot=4)
        project.pilot(60)
        found = project.check()
        assert found.systems["base"].items == found.systems["few-shot"].items == 4
        assert found.decision == "too_few"
        project.close()
        far = Project(tmp_path / "p", {"student": "hf:nobody/nothing"})
        found = far.check()
        assert found.no_base.startswith("hf:nobody/nothing is not on this disk")
        assert set(found.systems) == {"teacher"}
        far.close()


# -- the sums ----------------------------------------------------------------------------------


def summed(first: list[str | None], second: list[str | None], own: int = 0) -> Reality:
    """What comes of these answers to items of which ``own`` are the user's, answered ``a``."""
    items = [
        Example(
            (Message("user", f"q{n}"),),
            "a" if n < own else text or "a",
            origin="imported" if n < own else "generated",
            id=n + 1,
        )
        for n, text in enumerate(first)
    ]
    outcomes = [
        Outcome(n + 1, "teacher", text, None if text is None else 1.0, None)
        for n, text in enumerate(second)
    ]
    known = {n + 1: text for n, text in enumerate(first) if text is not None}
    asked = Asked(items, known, outcomes, "there is none")
    found = reality(asked, metric(None, None), teacher="t", student="s", task_version=1)
    assert from_stored(json.loads(json.dumps(as_json(found)))) == found
    return found


def test_only_what_is_beyond_chance_makes_a_teacher_unsure() -> None:
    """4 of 5 may be 9 of 10; 3 of 5 may not. A missing answer is no contradiction."""
    assert summed(list("aaaaa"), list("aaaab")).decision == "no_base"
    assert summed(list("aaaaa"), list("aaabb")).decision == "teacher_unsure"
    found = summed([*"aaaa", None], ["a", "a", "a", None, "b"])
    assert (found.same.items, found.same.missing, found.same.score) == (5, 2, 1)
    assert found.contradictions == ()
    assert "3 of 3 items (44-100 %, 2 missing)" in found.sentences[0]


def test_own_answers_are_held_against_the_first() -> None:
    """Four of six differ: beyond chance."""
    found = summed(list("aabbbb"), list("aabbbb"), own=6)
    assert (found.decision, found.same.score) == ("teacher_differs", 1)
    assert found.yours is not None
    assert found.yours.score == pytest.approx(1 / 3)
