"""Generating through the project: functions, own inputs, cells, filling, quotes, purge."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import select
import sqlite3
import subprocess
import threading
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from conftest import PRICES, Done, understudy_command
from understudy.errors import (
    BudgetReached,
    ProjectBusy,
    SetupError,
    UnderstudyError,
    UsageError,
)
from understudy.project import Project
from understudy.project.asked import inputs_asked
from understudy.project.quoting import input_micro
from understudy.store import account, examples, quotes, tasks
from understudy.task import Attribute, Option, Plan

FLAGS = {"teacher": "practice:durations"}


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project whose teacher is the practice program for durations."""
    made = Project.new(tmp_path / "p", "Durations to ISO 8601", FLAGS)
    yield made
    made.close()


def select_rows(folder: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "understudy.db")) as connection:
        return connection.execute(query).fetchall()


def accepted(project: Project) -> list[Any]:
    with project.database.read() as connection:
        versions = project.versions(connection)
        return list(examples.stream(connection, versions, state="accepted"))


def loud(text: str) -> str:
    """A rule that nobody needs a model for."""
    return text.upper()


def test_a_function_is_a_teacher(tmp_path: Path) -> None:
    """An existing program is distilled: its answers become examples, at no cost, each once."""
    project = Project.new(tmp_path / "p", "Say it loud")
    texts = [f"{hex(n**9)} and {oct(n**7)}" for n in range(2, 32)]
    made = project.generate(teacher=loud, inputs=texts)
    assert (made.made, made.accepted, made.spent_micro) == (30, 30, 0)
    assert {one.input: one.answer for one in accepted(project)} == {t: t.upper() for t in texts}
    assert {one.maker for one in accepted(project)} == {"python:test_making.loud"}
    assert project.generate(teacher=loud, inputs=texts).calls == 0
    assert project.freeze().counts["train"] > 0
    project.close()


def test_the_kind_of_a_functions_answers_is_found_out(tmp_path: Path) -> None:
    """A mapping becomes a JSON answer with its fields; few different texts are labels."""
    as_json = Project.new(tmp_path / "j", "Length")
    as_json.generate(teacher=lambda text: {"length": len(text)}, inputs=["a", "bb", "ccc"])
    assert as_json.spec.kind == "json"
    assert {one.answer for one in accepted(as_json)} == {f'{{"length": {n}}}' for n in (1, 2, 3)}
    as_label = Project.new(tmp_path / "l", "Parity")
    even = [f"input with the number {n}" for n in range(40)]
    as_label.generate(teacher=lambda text: "odd" if text[-1] in "13579" else "even", inputs=even)
    assert as_label.spec.labels == ("even", "odd")
    for one in (as_json, as_label):
        one.close()


def test_an_async_function_and_one_that_fails(tmp_path: Path) -> None:
    """A row that the function cannot answer fails alone, with what it raised."""

    async def slow(text: str) -> str:
        await asyncio.sleep(0)
        if "3" in text:
            raise ValueError("no threes")
        return text

    project = Project.new(tmp_path / "p", "Echo")
    made = project.generate(teacher=slow, inputs=[f"number {n}" for n in range(10)])
    assert made.made == 9
    assert any("no threes" in reason for reason in made.reasons)
    project.close()


def test_a_function_that_never_answers_is_told_before_anything_is_made(tmp_path: Path) -> None:
    """With what it raised."""

    def broken(_: str) -> str:
        raise KeyError("model")

    project = Project.new(tmp_path / "p", "Nothing")
    with pytest.raises(SetupError, match="KeyError"):
        project.generate(teacher=broken, inputs=["one"])
    project.close()


def test_a_changed_function_is_asked_anew(tmp_path: Path) -> None:
    """Stored answers belong to the code that gave them."""
    project = Project.new(tmp_path / "p", "Echo")
    project.generate(teacher=lambda text: f"a {text}", inputs=["one", "two"])
    more = project.generate(4, teacher=lambda text: f"b {text}", inputs=["one", "two", "x", "y"])
    assert more.made == 2
    assert Counter(one.answer[0] for one in accepted(project)) == {"a": 2, "b": 2}
    project.close()


def test_the_teacher_writes_inputs_for_a_function(project: Project) -> None:
    """Inputs come from the plan, answers from the function."""
    made = project.generate(20, teacher=loud)
    assert made.made == 20
    with project.database.read() as connection:
        paid = {line["purpose"] for line in account.totals(connection) if line["cost_micro"]}
        free = {line["model"] for line in account.totals(connection) if not line["cost_micro"]}
    assert paid == {"spec", "plan", "inputs"}
    assert "python:test_making.loud" in free


def test_own_inputs_are_labelled_by_the_teacher(project: Project) -> None:
    """Every different one, however alike; none of the plan's."""
    texts = ["90 minutes", "2 hours", "", "2  HOURS", "three days", "2 hours"]
    made = project.generate(inputs=texts)
    assert (made.asked, made.made) == (4, 4)
    assert {one.answer for one in accepted(project)} == {"PT90M", "PT2H", "P3D"}
    assert project.find_plan() is None
    assert project.generate(inputs=texts).calls == 0


def test_one_cell_alone_is_made(project: Project) -> None:
    """Only that value comes, and only such examples count."""
    project.generate(10)
    made = project.generate(12, cell="units=years")
    assert made.total == 12
    with project.database.read() as connection:
        cells = [cell for cell, _ in examples.cells(connection, project.versions(connection))]
    assert sum(cell["units"] == "years" for cell in cells) == 12
    with pytest.raises(UsageError, match="months"):
        project.generate(5, cell="units=month")


def test_filling_takes_what_the_plan_lacks(project: Project) -> None:
    """After much of one value, the others come first."""
    project.generate(30, cell="units=years")
    project.generate(60, fill=True)
    rows = {row.value: row for row in project.coverage(60).values if row.attribute == "units"}
    with project.database.read() as connection:
        cells = [cell for cell, _ in examples.cells(connection, project.versions(connection))]
    assert sum(cell["units"] != "years" for cell in cells) >= 25
    assert rows["years"].accepted >= 20


def test_harder_variants_are_made_of_accepted_examples(tmp_path: Path) -> None:
    """With --evolve the plain ones come first, then variants of those that were accepted."""
    evolving = Project.new(tmp_path / "p", "Durations", {**FLAGS, "evolve": 0.25})
    made = evolving.generate(80)
    assert (made.asked, made.total) == (80, 80)
    found = accepted(evolving)
    parents = [one.parent for one in found if one.parent is not None]
    assert parents
    assert set(parents) <= {one.id for one in found if one.parent is None}
    assert evolving.generate(80).calls == 0
    evolving.close()


def test_what_was_bought_is_found_again_after_an_import(tmp_path: Path) -> None:
    """Own examples that come midway change nothing of the wish under way."""
    path = tmp_path / "own.csv"
    path.write_text("prompt,response\none fortnight,P2W\n")
    project = Project.new(tmp_path / "p", "Durations", {**FLAGS, "budget": 0.02})
    with pytest.raises(BudgetReached):
        project.generate(200)
    assert any(event.kind == "generate.progress" for event in project.events())
    project.import_examples(path)
    project.close()
    rich = Project(tmp_path / "p", {"budget": 5.0})
    rich.generate(200)
    with rich.database.read() as connection:
        inputs = [line for line in account.totals(connection) if line["purpose"] == "inputs"]
    assert sum(line["calls"] for line in inputs if line["state"] == "settled") <= 22
    rich.close()


@pytest.mark.parametrize("error", [StopIteration, SystemExit, KeyError])
def test_whatever_a_function_raises_is_a_failed_row(
    error: type[BaseException], tmp_path: Path
) -> None:
    """It neither hangs nor ends the run."""

    def picky(text: str) -> str:
        if text == "two":
            raise error
        return text

    project = Project.new(tmp_path / "p", "Echo")
    made = project.generate(teacher=picky, inputs=["one", "two", "three"])
    assert made.made == 2
    project.close()


def test_a_function_that_hangs_is_given_up(tmp_path: Path) -> None:
    """After the same time-out as any other call."""
    hang = threading.Event()
    project = Project.new(tmp_path / "p", "Echo", {"timeout": 0.2})
    made = project.generate(
        teacher=lambda text: text if text == "one" else str(hang.wait(30)), inputs=["one", "two"]
    )
    hang.set()
    assert made.made == 1
    assert any("within 0.2 s" in reason for reason in made.reasons)
    project.close()


def test_two_threads_do_not_make_the_same_twice(tmp_path: Path) -> None:
    """The second is told that the project is busy."""
    inside, go_on = threading.Event(), threading.Event()

    def slow(text: str) -> str:
        inside.set()
        go_on.wait(20)
        return text

    project = Project.new(tmp_path / "p", "Echo")
    first = threading.Thread(target=lambda: project.generate(teacher=slow, inputs=["one"]))
    first.start()
    assert inside.wait(20)
    with pytest.raises(ProjectBusy):
        project.generate(teacher=slow, inputs=["one"])
    go_on.set()
    first.join()
    assert [one.input for one in accepted(project)] == ["one"]
    project.close()


def test_an_attribute_may_have_any_name(tmp_path: Path) -> None:
    """Quotes, dots and brackets in the plan's names are no SQL and no path."""
    project = Project.new(tmp_path / "p", "Durations", FLAGS)
    project.describe()
    names = ['the "tone"', "a.b[0]", "größe's"]
    options = (Option(value='"dry"'), Option(value="x.y"))
    plan = Plan(attributes=tuple(Attribute(name=name, values=options) for name in names))
    with project.database.write() as connection:
        tasks.add_plan(connection, project.task.version, plan, "test")
    cell = {names[0]: '"dry"', names[1]: "x.y"}
    assert project.generate(6, cell=cell).total == 6
    assert project.generate(6, cell=cell).calls == 0
    project.close()


def cells_of(project: Project) -> list[str]:
    with project.database.read() as connection:
        found = examples.cells(connection, project.versions(connection))
        return [json.dumps(cell, sort_keys=True) for cell, _ in found]


def inputs_bought(project: Project) -> list[int]:
    """How many inputs each call asked for."""
    query = "SELECT request FROM call WHERE purpose = 'inputs' ORDER BY sent_at"
    return [inputs_asked(request)[1] for (request,) in select_rows(project.folder, query)]


def test_few_examples_come_from_many_cells(project: Project) -> None:
    """The pilot's five from five, the next 25 from nine; a large wish asks for ten a call."""
    project.pilot(30)
    assert len(set(cells_of(project))) == 5
    project.generate(30)
    assert inputs_bought(project) == [1] * 5 + [3] * 9
    assert len(set(cells_of(project))) >= 12
    project.generate(120)
    assert inputs_bought(project)[14:] == [10] * 9
    assert project.generate(120).calls == 0


def test_another_wish_on_the_way_loses_no_input(tmp_path: Path) -> None:
    """What was bought for a wish that was stopped serves the smaller one that takes its place."""
    made = Project.new(tmp_path / "p", "Durations", {**FLAGS, "budget": 5.0})
    made.pilot(200)
    made.close()
    poor = Project(tmp_path / "p", {"budget": 0.03, "concurrency": 4})
    with pytest.raises(BudgetReached):
        poor.generate(200)
    poor.close()
    rich = Project(tmp_path / "p", {"budget": 5.0})
    before = len(inputs_bought(rich))
    assert before > 7
    rich.generate(12, cell="units=years")
    other = len(inputs_bought(rich)) - before
    rich.generate(140)
    assert len(inputs_bought(rich)) - other <= 5 + 14
    assert rich.made() == 140
    rich.close()


@pytest.mark.parametrize("task", ["dates", "durations", "support"])
def test_a_pilot_of_small_calls_quotes_large_ones(task: str, tmp_path: Path) -> None:
    """One input a call does not make inputs look dear: what is spent lies in the range."""
    project = Project.new(tmp_path / "p", task, {"teacher": f"practice:{task}"})
    told = project.pilot(100)
    dear = input_micro(project, 1)
    assert input_micro(project, 10) < 0.6 * dear
    spent = project.generate(100).spent_micro
    assert told.low_micro <= spent <= told.high_micro
    assert told.high_micro < 1.35 * told.low_micro
    project.close()


def in_file(project: Project) -> dict[str, Any]:
    return tomllib.loads((project.folder / "understudy.toml").read_text())


def test_the_first_teacher_is_remembered(server: Callable[..., Any], tmp_path: Path) -> None:
    """With its prices, once it has answered; a later flag holds for its command alone."""
    Project.new(tmp_path / "p", "Durations").close()
    with server() as provider:
        asked = {"teacher": provider.teacher("durations"), "price_in": 0.5, "price_out": 2.0}
        bad = Project(tmp_path / "p", {**asked, "teacher": f"{provider.url}#nobody"})
        with pytest.raises(UnderstudyError):
            bad.describe()
        assert "teacher" not in in_file(bad)
        bad.close()
        first = Project(tmp_path / "p", asked)
        first.generate(3)
        assert {name: in_file(first)[name] for name in asked} == asked
        first.close()
        other = Project(tmp_path / "p", {"teacher": "practice:durations"})
        assert other.settings.price_in is None  # that was the price of the first
        other.generate(8)
        other.close()
        again = Project(tmp_path / "p")
        assert again.teacher == asked["teacher"]
        assert again.generate(12).made == 4
        assert in_file(again) == asked
        again.close()


def test_the_quote_is_kept_and_compared(project: Project) -> None:
    """When all that was quoted is made, what it cost is told beside the quote, once."""
    told = project.pilot(40)
    assert told.examples == 35
    with project.database.read() as connection:
        kept = quotes.last(connection, "practice:durations")
    assert kept is not None
    assert (kept.wanted, kept.low_micro, kept.high_micro) == (40, told.low_micro, told.high_micro)
    project.generate(20)
    assert [e for e in project.events() if e.kind == "quote.compared"] == []
    project.generate(40)
    project.generate(40)
    (compared,) = (e for e in project.events() if e.kind == "quote.compared")
    assert compared.data["text"].startswith("quoted $")
    assert told.low_micro <= compared.data["spent_micro"] <= told.high_micro


def test_terms_are_told_once_and_kept_with_the_examples(project: Project) -> None:
    """Who made an example, and what the maker says of training on it, goes with it."""
    project.generate(5)
    project.generate(8)
    told = [e for e in project.events() if e.kind == "teacher.terms"]
    assert len(told) == 1
    assert {one.terms for one in accepted(project)} == {told[0].data["terms"]}


def test_purging_a_teacher_leaves_nothing_of_its_text(project: Project) -> None:
    """Not in the examples, nor in the stored replies, nor in the files of datasets."""
    project.generate(40)
    frozen = project.freeze()
    words = [one.input for one in accepted(project)][:5]
    assert project.purge("practice:durations") == 40
    with project.database.write() as connection:
        connection.exec_driver_sql("UPDATE purse SET id = id")  # nothing of it waits in the log
    project.close()
    raw = b"".join(path.read_bytes() for path in project.folder.rglob("*") if path.is_file())
    assert not (project.folder / "datasets" / str(frozen.id)).exists()
    again = Project(project.folder)
    assert accepted(again) == []
    with again.database.read() as connection:
        assert account.adds_up(connection)
        assert account.totals(connection)
    assert again.generate(40).made == 40
    again.close()
    with pytest.raises(UsageError, match="practice:durations"):
        Project(project.folder).purge("openai:gpt-x")
    assert [word for word in words if word.encode() in raw] == []


def test_a_teacher_is_purged_by_the_name_under_which_it_answers(
    server: Callable[..., Any], tmp_path: Path
) -> None:
    """By the short name as much goes as by the full one: replies to spec, plan and inputs too."""
    with server() as provider:
        flags = {"teacher": provider.teacher("dates"), "price_in": 0.5, "price_out": 2.0}
        project = Project.new(tmp_path / "p", "Dates", flags)
        project.generate(12)
        project.generate(20, teacher=loud)
        assert project.purge("dates") == 12
    rows = select_rows(project.folder, "SELECT model, request, raw FROM call")
    assert {row[1:] for row in rows if not row[0].startswith("python:")} == {("[]", None)}
    assert all(row[2] for row in rows if row[0].startswith("python:"))
    assert select_rows(
        project.folder, "SELECT count(*) FROM example WHERE reason != 'purged' AND answer != ''"
    ) == [(8,)]
    project.close()


def test_purge_says_what_it_would_erase_before_it_asks(
    understudy: Callable[..., Done], tmp_path: Path
) -> None:
    """How many, by whom; without a name it lists the names; a wrong one is no question."""
    project = Project.new(tmp_path / "p", "Durations", FLAGS)
    project.generate(3)
    project.close()
    for given in ((), ("--teacher", "openai:gpt-x")):
        done = understudy("purge", "-p", "p", *given)
        assert (done.code, "practice:durations" in done.err) == (2, True)
    asked = understudy("purge", "-p", "p", "--teacher", "durations")
    assert asked.code == 2
    assert "3 examples" in asked.err
    assert "practice:durations" in asked.err
    done = understudy("purge", "-p", "p", "--teacher", "durations", "-y")
    assert done.code == 0
    assert "understudy generate" in done.out
    assert "freeze" not in done.out


def test_the_last_line_of_generate_counts_the_pilots_share(
    understudy: Callable[..., Done], tmp_path: Path
) -> None:
    """What the command made, called and spent is all of it; nothing only if nothing was made."""
    (tmp_path / "in.txt").write_text("90 minutes\n2 hours\nthree days\n")
    understudy("new", "p", "--describe", "Durations", "--teacher", "practice:durations")
    first = understudy("generate", "--inputs", "in.txt", "-p", "p")
    assert first.out.startswith("3 made, 3 accepted, "), first.out
    again = understudy("generate", "--inputs", "in.txt", "-p", "p")
    assert "nothing was made" in again.out
    before = understudy("ledger", "-p", "p", "--json").json
    body = understudy("generate", "12", "-p", "p", "--json").json
    after = understudy("ledger", "-p", "p", "--json").json
    assert body["made"] == body["total"] - 3
    assert body["calls"] == after["calls"] - before["calls"]
    assert body["spent_usd"] == pytest.approx(after["spent_usd"] - before["spent_usd"])


def test_status_says_how_far_it_is_and_what_it_cost(
    understudy: Callable[..., Done], tmp_path: Path
) -> None:
    """Stopped midway: not freeze but the same generate is next; the money is there."""
    folder = tmp_path / "my project"
    project = Project.new(folder, "Durations", {**FLAGS, "budget": 0.025})
    with pytest.raises(BudgetReached):
        project.generate(200)
    project.close()
    body = understudy("status", "-p", folder, "--json").json
    assert body["generating"]["wanted"] == 200
    assert 10 < body["generating"]["made"] < 200
    assert body["next"] == f"understudy generate 200 -p '{folder}'"
    assert 0 < body["spent_usd"] <= body["budget_usd"] == 0.025
    shown = understudy("status", "-p", folder).out
    assert f"{body['generating']['made']} of 200" in shown
    assert "budget $0.0250" in shown
    assert "budget $0.0250" in understudy("ledger", "-p", folder).out


def test_status_sends_nobody_to_freeze_too_few(understudy: Callable[..., Done]) -> None:
    """Fewer accepted than freeze needs: more are next, each command with its project."""
    understudy("new", "p", "--describe", "Durations", "--teacher", "practice:durations")
    understudy("generate", "3", "-p", "p")
    told = understudy("status", "-p", "p", "--json").json["next"]
    assert "freeze" not in told
    assert told.count("-p p") == 2
    understudy("generate", "20", "-p", "p")
    assert understudy("status", "-p", "p", "--json").json["next"] == "understudy freeze -p p"


def test_status_says_who_is_at_work(understudy: Callable[..., Done], tmp_path: Path) -> None:
    """A process that holds the project is named, one that is gone is not."""
    project = Project.new(tmp_path / "p", "Durations", FLAGS)
    with project.writing():
        held = understudy("status", "-p", "p", "--json").json
        assert held["in_use_by"] == os.getpid()
        assert str(os.getpid()) in understudy("status", "-p", "p").out
    project.close()
    assert understudy("status", "-p", "p", "--json").json["in_use_by"] is None


def talk(arguments: list[str | Path], say: list[str], cwd: Path) -> str:
    """Run a command in a real terminal, answering each question; what it printed."""
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover
        os.chdir(cwd)
        command = understudy_command(*arguments)
        os.execvp(command[0], command)  # noqa: S606
    printed = b""
    while True:
        ready, _, _ = select.select([terminal], [], [], 60)
        try:
            piece = os.read(terminal, 4096) if ready else b""
        except OSError:
            break
        if not piece:
            break
        printed += piece
        if say and printed.count(b"as assumed)") > 0 and b"as assumed)" in piece:
            os.write(terminal, f"{say.pop(0)}\n".encode())
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, printed.decode(errors="replace")
    return printed.decode(errors="replace")


def test_the_spec_is_talked_over_in_a_terminal(
    understudy: Callable[..., Done], tmp_path: Path
) -> None:
    """Assumptions are shown, questions asked; an answer makes a new version of the spec."""
    understudy("new", "p", "--describe", "Durations", "--teacher", "practice:durations")
    seen = talk(["describe", "-p", "p"], ["It becomes PT1H30M"], tmp_path)
    assert "1:30 without seconds means hours and minutes" in seen
    assert "Should ninety minutes stay PT90M" in seen
    body = understudy("describe", "-p", "p", "--json").json
    assert body["version"] == 3
    found = Project(tmp_path / "p")
    with found.database.read() as connection:
        assert account.totals(connection)[0]["calls"] == 2
    found.close()


def test_nobody_is_asked_where_nobody_is_there(understudy: Callable[..., Done]) -> None:
    """In a pipe, or with --yes, the assumptions are taken."""
    understudy("new", "p", "--describe", "Durations", "--teacher", "practice:durations")
    done = understudy("describe", "-p", "p")
    assert done.code == 0
    assert understudy("describe", "-p", "p", "--json").json["version"] == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("max_chars=many", "max_chars"),
        ("colour=red", "no field 'colour'"),
        ("kind=label", "two different labels"),
        ("max_chars", "FIELD=VALUE"),
    ],
)
def test_one_field_is_set_or_refused_in_a_line(
    understudy: Callable[..., Done], change: str, told: str
) -> None:
    """A bad value is named; a good one makes a new version, under which later verbs work."""
    understudy("new", "p", "--describe", "Durations", "--teacher", "practice:durations")
    understudy("describe", "-p", "p")
    refused = understudy("describe", "-p", "p", "--set", change)
    assert (refused.code, told in refused.err) == (2, True)
    changed = understudy("describe", "-p", "p", "--set", "max_chars=30", "--json").json
    assert (changed["version"], changed["spec"]["max_chars"]) == (3, 30)
    made = understudy("generate", "6", "-p", "p", "--json")
    starts = [json.loads(line) for line in made.out.splitlines() if "generate.start" in line]
    assert {event["spec"] for event in starts} == {3}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("rules=one rule", """--set 'rules=["one rule", "another"]'"""),
        ("kind=foo", "There are: text, label, json"),
    ],
)
def test_a_refused_field_comes_with_what_would_do(
    understudy: Callable[..., Done], change: str, told: str
) -> None:
    """A list where a list belongs, a kind where a kind does; no word of Python's."""
    understudy("new", "p", "--describe", "Durations", "--teacher", "practice:durations")
    understudy("describe", "-p", "p")
    refused = understudy("describe", "-p", "p", "--set", change)
    assert refused.code == 2
    assert told in refused.err
    assert "tuple" not in refused.err


def test_the_spec_is_shown_once(understudy: Callable[..., Done]) -> None:
    """Where nobody is asked about the assumptions they are not shown before the spec, too."""
    understudy("new", "p", "--describe", "Durations", "--teacher", "practice:durations")
    done = understudy("describe", "-p", "p", "-y")
    assert done.out.count("without seconds means") == 1
    assert "without seconds means" not in done.err


def test_too_few_to_train_with_is_told_before_anything_is_paid(
    server: Callable[..., Any], understudy: Callable[..., Done]
) -> None:
    """The whole way with three examples cannot end well: no request is sent."""
    with server() as provider:
        given = ["--teacher", provider.teacher("durations"), *PRICES]
        done = understudy("run", "Durations", "-p", "p", "--examples", "3", *given)
        assert (done.code, "at least 10" in done.err) == (2, True)
        assert provider.requests() == 0


def test_one_setting_that_was_changed_is_told_alone(understudy: Callable[..., Done]) -> None:
    """Not the table of all; without a name that is shown."""
    understudy("new", "p")
    done = understudy("config", "examples", "30", "-p", "p")
    assert done.out == "examples = 30 (from understudy.toml)\n"
    assert len(understudy("config", "-p", "p").out.splitlines()) > 10


def test_a_reader_that_goes_away_is_no_failure(
    understudy: Callable[..., Done], tmp_path: Path
) -> None:
    """``events | head`` ends as a shell expects (141), without a word."""
    understudy("new", "p", "--describe", "Durations", "--teacher", "practice:durations")
    understudy("describe", "-p", "p")
    reader, writer = os.pipe()
    os.close(reader)
    command = understudy_command("events", "-p", "p")
    done = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, cwd=tmp_path, check=False, timeout=60
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_the_quote_is_confirmed_above_a_dollar(
    server: Callable[..., Any], understudy: Callable[..., Done]
) -> None:
    """Where nobody is there to ask, it stops before the spend; --yes goes on."""
    with server() as provider:
        given = ["--teacher", provider.teacher("durations"), "--price-in", "900"]
        given += ["--price-out", "900"]
        understudy("new", "p", "--describe", "Durations", *given)
        stopped = understudy("generate", "200", "-p", "p", *given)
        assert stopped.code == 2
        assert "200 examples" in stopped.err or "195 examples" in stopped.err
        before = provider.requests()
        assert before < 20
        assert understudy("generate", "20", "-p", "p", "--yes", *given).code == 0


def test_options_of_generate_that_exclude_each_other(understudy: Callable[..., Done]) -> None:
    """One line says which to choose from."""
    understudy("new", "p", "--describe", "Durations", "--teacher", "practice:durations", *PRICES)
    refused = understudy("generate", "5", "-p", "p", "--fill", "--cell", "units=years")
    assert (refused.code, "do not go together" in refused.err) == (2, True)
