"""The funnel and the coverage: numbers that add up, money, pages that do nothing by themselves."""

from __future__ import annotations

import gzip
import json
import re
import shlex
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import Done, Server, practice_server
from understudy import Project
from understudy.cli.funnel_table import coverage_json
from understudy.cli.words import line
from understudy.errors import BudgetReached, UsageError
from understudy.formats import read_texts
from understudy.models.protocol import Unreadable
from understudy.models.stored import read
from understudy.pages.frame import text
from understudy.project.asked import ours
from understudy.project.counting import Counted
from understudy.project.funnel import as_json, funnel
from understudy.project.funnel_html import write_page
from understudy.project.losses import ADVICE, STORED, Step
from understudy.run import Event
from understudy.store.traces import Call, Made
from understudy.task import Spec, Task

Cli = Callable[..., Done]
FAULTS = ("length:0.08", "500:0.05", "reset_after:0.05", "429:0.05", "empty:0.05", "chatty:0.05")
FLAGS = [part for fault in FAULTS for part in ("--fault", fault)]


def new(folder: Path, teacher: str) -> Project:
    """A project with that teacher, in the folder that the commands of a test are given."""
    flags = {"teacher": teacher, "price_in": 0.5, "price_out": 2.0}
    return Project.new(folder / "p", "a support message", flags)


def adds_up(steps: list[dict[str, Any]]) -> None:
    """What goes into a step is what came out of the one before, and what joined it."""
    before = None
    for step in steps:
        assert step["left"] == step["count"] - sum(loss["count"] for loss in step["losses"]) >= 0
        assert all(loss["count"] >= 0 for loss in step["losses"])
        if before is not None and before["unit"] != "calls":
            assert step["count"] == before["left"] + step["joined"]
        before = step


def step_of(body: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in body["steps"] if one["step"] == name)
    return found


def losses(body: dict[str, Any], step: str) -> dict[str, dict[str, Any]]:
    """The losses of a step by the head of their reason."""
    return {loss["reason"].partition(":")[0]: loss for loss in step_of(body, step)["losses"]}


def count(body: dict[str, Any], step: str) -> int:
    return int(step_of(body, step)["count"])


class Bought(NamedTuple):
    """A project that was made with a teacher which fails in many ways, and that teacher."""

    folder: Path
    teacher: Server


@pytest.fixture(scope="module")
def bought(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bought]:
    """A project that asked for 80 examples. It is not to be changed, but copied."""
    folder = tmp_path_factory.mktemp("bought")
    with practice_server(folder / "log", "--repeat", "0.3", *FLAGS) as teacher:
        project = new(folder, teacher.teacher("support"))
        project.pilot(80)
        project.generate(80)
        project.close()
        yield Bought(folder / "p", teacher)


def test_the_numbers_add_up_with_every_loss_explained(understudy: Cli, bought: Bought) -> None:
    """From the calls to the accepted: equal to what status, ledger and provider count."""
    body = understudy("funnel", "-p", bought.folder, "--json").json
    adds_up(body["steps"])
    status = understudy("status", "-p", bought.folder, "--json").json
    ledger = understudy("ledger", "-p", bought.folder, "--json").json
    assert body["accepted"] == status["examples"]["accepted"] == count(body, "accepted")
    assert count(body, "examples") == sum(status["examples"].values())
    by_head = {head: loss["count"] for head, loss in losses(body, "examples").items()}
    assert by_head == status["reasons"]
    lines = [row for row in ledger["lines"] if row["purpose"] in ("inputs", "answer")]
    cost = sum(step["usd"] for step in body["steps"])
    assert cost == pytest.approx(sum(row["usd"] for row in lines))
    assert body["usd_per_accepted"] == pytest.approx(cost / body["accepted"])
    sent = sum(step["calls"] + step["resent"] for step in body["steps"])
    assert sent == sum(row["calls"] for row in lines)
    assert sum(row["sent"] for row in body["spent"]) == ledger["calls"]
    assert body["unknown"]["calls"] == ledger["unknown"] > 0
    cut = losses(body, "examples")["cut off"]
    assert "--max-answer-tokens" in cut["advice"]
    assert 1 <= len(cut["samples"]) <= 3
    assert all(sample["input"] for sample in cut["samples"])
    lost = losses(body, "inputs sent")["outcome unknown"]
    assert "--resend-unknown" in lost["advice"]
    assert lost["usd"] > 0
    answering = step_of(body, "inputs sent")
    parts = [loss["usd"] for loss in (*answering["losses"], *losses(body, "examples").values())]
    assert sum(parts) < answering["usd"]
    assert body["quote"]["low_usd"] <= body["quote"]["high_usd"]
    # The funnel is of rows alone: the same command again changes nothing in it.
    requests = bought.teacher.requests()
    project = Project(bought.folder)
    assert as_json(funnel(project)) == body
    project.close()
    assert bought.teacher.requests() == requests


def test_what_a_crash_left_unstored_is_a_loss_until_it_is_taken_from_disk(
    bought: Bought, tmp_path: Path
) -> None:
    """Answers that were paid for and are no examples yet are told; then they come for nothing."""
    folder = shutil.copytree(bought.folder, tmp_path / "p")
    with sqlite3.connect(next(folder.glob("*.db"))) as connection:
        connection.execute("DELETE FROM example WHERE id > (SELECT max(id) - 7 FROM example)")
    connection.close()
    project = Project(folder)
    crashed = as_json(funnel(project))
    adds_up(crashed["steps"])
    assert losses(crashed, "inputs sent")[STORED]["count"] == 7
    assert count(crashed, "examples") == 73
    paid = bought.teacher.paid()
    project.generate(90)
    after = as_json(funnel(project))
    project.close()
    adds_up(after["steps"])
    assert count(after, "examples") == 90
    assert STORED not in losses(after, "inputs sent")
    assert all(times == bought.teacher.paid()[body] for body, times in paid.items())


def test_what_was_purged_is_in_no_step_but_told(bought: Bought, tmp_path: Path) -> None:
    """Its texts are gone, and no number of what is left changes its meaning."""
    project = Project(shutil.copytree(bought.folder, tmp_path / "p"))
    before = as_json(funnel(project))
    assert project.purge(project.teacher) == 80
    body = as_json(funnel(project))
    project.close()
    adds_up(body["steps"])
    assert count(body, "examples") == body["accepted"] == 0
    assert body["purged"]["examples"] == 80
    assert body["purged"]["usd"] == pytest.approx(sum(step["usd"] for step in before["steps"]))
    assert body["spent"] == before["spent"]


def test_a_newcomer_reads_it_in_the_terminal(understudy: Cli, bought: Bought) -> None:
    """Steps in order, bars, losses with advice under their step, the money, the next step."""
    shown = understudy("funnel", "-p", bought.folder).out
    names = ["calls for inputs", "inputs received", "different inputs", "inputs sent", "accepted"]
    places = [shown.index(f"\n{name} ") for name in names]
    assert places == sorted(places)
    assert "█" in shown
    assert "cut off. Raise --max-answer-tokens" in shown
    assert "for each accepted example" in shown
    assert "quoted $" in shown


def test_hundreds_that_were_not_looked_at_closely(
    understudy: Cli, server: Callable[..., Any], tmp_path: Path
) -> None:
    """Only one in five is after the first: the others say how many repeat, in every form."""
    with server() as teacher:
        project = new(tmp_path, teacher.teacher("durations"))
        project.generate(230, teacher=str.upper)
        project.close()
    body = understudy("funnel", "-p", "p", "--json").json
    assert len(body["hundreds"]) >= 2
    assert {one["number"] for one in body["hundreds"] if one["near"] is not None} == {1}
    shown = understudy("funnel", "-p", "p", "--html", "page.html")
    assert shown.code == 0, shown.err
    terminal = understudy("funnel", "-p", "p").out
    for seen in ((tmp_path / "page.html").read_text(), terminal):
        assert "of the text of the first hundred inputs" in seen
        assert "in the last hundred" in seen


def test_inputs_of_a_wish_that_is_not_reached_are_still_needed(tmp_path: Path) -> None:
    """Stopped by its budget: what was not sent yet is told as that, until the wish is reached."""
    dear = {"teacher": "practice:durations", "budget": 0.02, "max_answer_tokens": 9000}
    project = Project.new(tmp_path / "p", "Durations", dear)
    with pytest.raises(BudgetReached):
        project.generate(200)
    stopped = as_json(funnel(project))
    project.close()
    adds_up(stopped["steps"])
    waiting = losses(stopped, "different inputs")
    assert "not needed any more" not in waiting
    assert waiting["not sent yet"]["count"] > 0
    assert "understudy generate" in waiting["not sent yet"]["advice"]
    rich = Project(tmp_path / "p", {"budget": 5.0, "max_answer_tokens": 500})
    rich.generate(203)
    reached = as_json(funnel(rich))
    rich.close()
    assert losses(reached, "different inputs").keys() == {"not needed any more"}


def test_a_quote_is_for_what_was_missing_and_says_what_may_not_be_owed(
    understudy: Cli, bought: Bought
) -> None:
    """Not for all; and of what was spent, what no reply came for is the worst case."""
    body = understudy("funnel", "-p", bought.folder, "--json").json
    shown = understudy("funnel", "-p", bought.folder).out
    quote = body["quote"]
    missing = quote["wanted"] - quote["made"]
    told = next(line for line in shown.splitlines() if line.startswith("quoted $"))
    assert f"for the last {missing} of 80 examples" in told
    assert 0 < quote["unknown_usd"] <= body["unknown"]["usd"]
    assert quote["unknown_usd"] < quote["spent_usd"]
    assert "of unknown outcome" in told


def test_several_answers_are_one_input(
    understudy: Cli, server: Callable[..., Any], tmp_path: Path
) -> None:
    """With --answers 3 every input is sent three times, and the agreement is told."""
    with server("--fault", "chatty:0.15") as teacher:
        project = new(tmp_path, teacher.teacher("support"))
        done = understudy("generate", "20", "--answers", "3", "-p", "p", "--json")
        assert done.json["total"] == 20, done.err
    body = as_json(funnel(project))
    project.close()
    adds_up(body["steps"])
    sent = step_of(body, "inputs sent")
    assert sent["calls"] == 3 * sent["count"]
    assert 0.5 < body["agreement"] <= 1


def test_other_versions_of_the_task_are_left_out_and_told(
    server: Callable[..., Any], tmp_path: Path
) -> None:
    """A changed system message: what was made before is counted apart, inputs on disk are not."""
    with server() as teacher:
        project = new(tmp_path, teacher.teacher("dates"))
        project.generate(12)
        changed = f"{project.spec.system_message} Be exact."
        project.edit_spec(project.spec.model_copy(update={"system_message": changed}))
        empty = as_json(funnel(project))
        assert empty["accepted"] == 0
        assert empty["usd_per_accepted"] is None
        assert empty["left_out"]["examples"] == empty["left_out"]["calls"] == 12
        project.generate(12)
    body = as_json(funnel(project))
    project.close()
    adds_up(body["steps"])
    assert count(body, "examples") == 12
    assert step_of(body, "different inputs")["joined"] == 0
    assert body["left_out"] == empty["left_out"]


def test_coverage_says_what_is_thin_and_its_command_fills_it(
    understudy: Cli, server: Callable[..., Any], tmp_path: Path
) -> None:
    """The command that the table gives makes what that value lacks."""
    with server() as teacher:
        project = new(tmp_path, teacher.teacher("support"))
        none = understudy("coverage", "-p", "p")
        assert none.code == 2
        assert "understudy plan -p p" in none.err
        project.generate(20, cell="intent=refund")
        body = understudy("coverage", "-p", "p", "--json", "--examples", "20").json
        lean = body["thin"][0]
        row = value_of(body, lean)
        assert row["thin"]
        assert row["accepted"] < 0.5 * row["wanted"]
        table = understudy("coverage", "-p", "p").out
        assert " thin" in table
        assert lean["command"] in table
        assert body["fill"] in table
        done = understudy(*shlex.split(lean["command"])[1:])
        assert done.code == 0, done.err
        again = coverage_json(project.coverage(20), "")
        assert value_of(again, lean)["made"] >= row["wanted"]
    adds_up(as_json(funnel(project))["steps"])
    project.close()


def value_of(body: dict[str, Any], lean: dict[str, Any]) -> dict[str, Any]:
    """The row of a thin value."""
    named = ("attribute", "value")
    return next(row for row in body["values"] if all(row[key] == lean[key] for key in named))


def test_own_inputs_come_from_a_file(
    understudy: Cli, server: Callable[..., Any], tmp_path: Path
) -> None:
    """Each line is answered; the funnel says who brought them, and no call asked for inputs."""
    (tmp_path / "mine.txt").write_text("3 May 2021\n\n4 June 1999\n3 May 2021\n")
    with server() as teacher:
        project = new(tmp_path, teacher.teacher("dates"))
        project.describe()
        done = understudy("generate", "--inputs", "mine.txt", "-p", "p", "--json")
        assert done.json["total"] == 2, done.err
    body = as_json(funnel(project))
    project.close()
    adds_up(body["steps"])
    different = step_of(body, "different inputs")
    assert (different["joined"], different["joined_how"]) == (2, "brought by you")
    assert count(body, "calls for inputs") == 0
    bad = understudy("generate", "--inputs", "none.txt", "-p", "p")
    assert bad.code == 2
    assert len(bad.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", b"one\r\n two \n\n"),
        ("a", b"\xef\xbb\xbfone\ntwo"),
        ("a.jsonl", b'{"id": 1, "input": "one"}\n{"Prompt": "two"}\n'),
        ("a.log", b'{"text": "one"}\n{"input": "two", "text": "x"}\n'),
        ("a.json", b'[{"text": "one"}, {"text": "two"}]'),
        ("a.csv", b'id;Text\n1;one\n2;"two"\n'),
        ("a.tsv", b"prompt\tn\none\t1\ntwo\t2\n"),
        ("a.jsonl.gz", gzip.compress(b'{"input": "one"}\n{"input": "two"}\n', mtime=0)),
    ],
)
def test_inputs_are_read_from_any_of_these(tmp_path: Path, name: str, content: bytes) -> None:
    """Lines, JSON rows and tables give the same inputs."""
    (tmp_path / name).write_bytes(content)
    assert read_texts(tmp_path / name) == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.txt", b"one\n\xff\xfe\n", "a.txt:2: not UTF-8"),
        ("a.txt", b" \n", "empty"),
        ("a.jsonl", b'{"input": "one"}\n{"input": \n', "a.jsonl:2: not JSON"),
        ("a.jsonl", b'{"input": "one"}\n{"other": "two"}\n', "a.jsonl:2: no column"),
        ("a.jsonl", b'{"input": 3}\n', 'a.jsonl:1: "input" is no text'),
        ("a.csv", b"id,body\n1,one\n", "no column for the inputs among: 'id', 'body'"),
        ("a.csv.gz", gzip.compress(b"text\n" + b"one\n" * 999, mtime=0)[:-9], "cut off"),
    ],
)
def test_a_bad_file_of_inputs_is_one_clear_line(
    tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    """What would be left out in silence is told, with its line, before anything is spent."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=re.escape(told)):
        read_texts(tmp_path / name)


EVIL = (
    "<script>alert(1)</script><img src=x onerror=alert(1)> ![x](http://127.0.0.1:9/leak) \"'>&"
    " \x1b]0;owned\x07\x1b[2J \u202etxt.exe\u2066 \x00 [red]rich[/red]"
)


class Tags(HTMLParser):
    """Every tag and attribute of a page, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.shown = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.shown += data


def evil_project(folder: Path) -> Project:
    """A project in which the texts of strangers are hostile, in inputs, answers and failures."""

    def answer(given: str) -> str:
        if given.startswith("raise"):
            raise ValueError(EVIL)
        return "" if given.startswith("empty") else EVIL

    project = Project.new(folder, f"hostile {EVIL}")
    texts = [f"empty {EVIL}", f"raise {EVIL}", f"fine {EVIL}"]
    project.generate(inputs=[given.replace("\x00", "") for given in texts], teacher=answer)
    return project


def test_hostile_text_does_nothing_in_page_or_terminal(understudy: Cli, tmp_path: Path) -> None:
    """T86: no tag, address or control character of a stranger gets through; the text is seen."""
    evil_project(tmp_path / "p").close()
    done = understudy("funnel", "-p", "p", "--html", "page.html", "--json")
    assert done.code == 0, done.err
    page = (tmp_path / "page.html").read_text()
    tags = Tags()
    tags.feed(page)
    assert tags.tags <= {
        *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "ul", "li"),
        *("section", "div", "span", "b", "details", "summary", "table", "tr", "th", "td"),
    }
    assert tags.attributes <= {"lang", "charset", "http-equiv", "content", "name", "class", "style"}
    assert "default-src 'none'; style-src 'unsafe-inline'" in page
    assert "<script>alert(1)</script>" in tags.shown
    assert "url(" not in page
    terminal = understudy("funnel", "-p", "p").out
    assert "[red]rich[/red]" in terminal
    for seen in (page, terminal):
        assert all(character == "\n" or character.isprintable() for character in seen)


@given(st.text())
def test_any_text_is_harmless_and_readable_in_a_page(value: str) -> None:
    """Parsed again it is the same text, but for characters that cannot be seen."""
    shown = text(value)
    assert not set("<>\"'") & set(shown)
    parsed = Tags()
    parsed.feed(shown)
    parsed.close()
    assert parsed.tags == set()
    seen = [one if one in "\n\t" or one.isprintable() else "\ufffd" for one in value]
    assert parsed.shown == "".join(seen)
    shown.encode()


def test_the_page_is_written_whole_and_only_where_it_may(tmp_path: Path) -> None:
    """A link, a folder, another file and a missing folder are refused; nothing half is left."""
    project = evil_project(tmp_path / "p")
    report = funnel(project)
    project.close()
    page, notes, link = (tmp_path / name for name in ("page.html", "notes.txt", "link.html"))
    assert write_page(page, report) == page.stat().st_size
    first = page.read_bytes()
    assert write_page(page, report) == len(first)
    assert page.read_bytes() == first
    notes.write_text("mine")
    link.symlink_to(notes)
    for target in (notes, link, tmp_path / "p", tmp_path / "none" / "page.html"):
        with pytest.raises(UsageError, match=str(tmp_path)):
            write_page(target, report)
    assert notes.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("link.html", "notes.txt", "p", "page.html")
    ]


SPEC = Spec(title="t", input="i", output="o", kind="text", system_message="s")
OURS = ours([Task("d", SPEC)], [("2026", "2027")])
TEXTS = st.sampled_from(["a", "A ", "b", "c", "d", " ", "e\u200b", "e"])
STATES = st.sampled_from(["sent", "batched", "received", "settled", "failed_unpaid", "unknown"])


def reply(content: str, finish: str = "stop") -> bytes:
    choice = {"message": {"content": content}, "finish_reason": finish}
    return json.dumps({"choices": [choice]}).encode()


@st.composite
def calls(draw: st.DrawFn, purpose: str) -> Call:
    if purpose == "answer":
        system = draw(st.sampled_from(["s", "s", "s", "another"]))
        request = [["system", system], ["user", draw(TEXTS)]]
        raw = draw(st.sampled_from([reply("x"), b"{}", b""]))
    else:
        asked = {"batch": 0, "cell": {"x": "y"}, "how_many": draw(st.integers(1, 3))}
        request = [["system", "prompts of old"], ["user", f"q\n\n{json.dumps(asked)}\n"]]
        inputs = [{"text": one, "probability": 0.1} for one in draw(st.lists(TEXTS, max_size=5))]
        found = reply(json.dumps({"inputs": inputs}))
        raw = draw(st.sampled_from([found, found, found, reply("no"), reply("{", "length"), b""]))
    return Call(
        state=draw(STATES),
        note=draw(st.sampled_from(["", "HTTP 500: id 12345678", "connection lost"])),
        finish=draw(st.sampled_from(["stop", "stop", None])),
        request=draw(st.sampled_from([json.dumps(request, ensure_ascii=False)] * 5 + ["[]"])),
        raw=raw,
        cost_micro=draw(st.integers(0, 9)),
        sendings=draw(st.integers(1, 3)),
        sent_at=draw(st.sampled_from(["2026-05", "2026-06", "2025-01"])),
    )


MADE = st.builds(
    Made,
    id=st.integers(1, 99),
    input=TEXTS,
    answer=st.just("x"),
    generated=st.sampled_from([True, True, False]),
    state=st.sampled_from(["new", "accepted", "rejected"]),
    reason=st.sampled_from(["duplicate of 7", "breaks the spec: not JSON", "no majority: 1 of 3"]),
    twin=st.none(),
    agreement=st.none() | st.floats(0, 1),
)


@settings(max_examples=80)
@given(st.lists(MADE), st.lists(calls("answer")), st.lists(calls("inputs")))
def test_whatever_the_rows_hold_the_steps_add_up(
    made: list[Made], answers: list[Call], inputs: list[Call]
) -> None:
    """In = out + losses at every step, money too; every example and call is counted once."""
    counted = Counted()
    counted.take_examples(made)
    counted.take_answers(answers, OURS)
    counted.take_inputs(inputs, OURS)
    steps = {step.name: step for step in counted.steps()}
    before: Step | None = None
    for step in steps.values():
        assert step.left >= 0
        assert 0 <= step.joined <= step.count
        if before is not None and before.unit != "calls":
            assert step.count == before.left + step.joined
        before = step
    generated = [one for one in made if one.generated]
    assert steps["examples"].count == len(generated)
    assert steps["accepted"].count == sum(one.state == "accepted" for one in generated)
    seen = (
        steps["calls for inputs"].calls
        + steps["inputs sent"].calls
        + counted.others.calls
        + counted.purged.calls
    )
    assert seen == len(answers) + len(inputs)
    cost = sum(step.cost_micro for step in steps.values())
    cost += counted.others.cost_micro + counted.purged.cost_micro
    assert cost == sum(call.cost_micro for call in (*answers, *inputs))
    lost = (*steps["inputs sent"].losses, *steps["examples"].losses)
    assert sum(loss.cost_micro for loss in lost) <= steps["inputs sent"].cost_micro
    told = {loss.reason.partition(":")[0] for step in steps.values() for loss in step.losses}
    assert told <= set(ADVICE)


@pytest.mark.parametrize(
    "raw",
    [
        reply("hello"),
        b'{"content": [{"type": "text", "text": "hello"}], "stop_reason": "end_turn"}',
        b'{"answer": "hello"}',
    ],
)
def test_a_stored_reply_is_read_by_its_shape(raw: bytes) -> None:
    """OpenAI's, Anthropic's and a function's, without a key or an address."""
    assert (read(raw).text, read(raw).finish) == ("hello", "stop")


@pytest.mark.parametrize("raw", [b"", b"null", b'{"error": {"message": "no"}}', b"[" * 100_000])
def test_a_stored_reply_without_an_answer_is_no_answer(raw: bytes) -> None:
    """Whatever the bytes are."""
    with pytest.raises(Unreadable):
        read(raw)


HUNDRED = {"number": 2, "size": 100, "repeats": 30, "near": 12, "novelty": 0.1}


@pytest.mark.parametrize(
    ("kind", "data", "told"),
    [
        ("generate.hundred", HUNDRED, "30 came before and 12 nearly"),
        ("generate.hundred", {**HUNDRED, "repeats": 3}, ""),
        ("generate.hundred", {**HUNDRED, "number": 17}, ""),
        ("generate.exhausted", {"reason": "it repeats"}, "ends early: it repeats"),
        ("quote.compared", {"text": "quoted $1, spent $2"}, "quoted $1, spent $2"),
        (
            "rates.limit",
            {"requests_per_minute": 3000.0, "tokens_per_minute": None},
            "allows 3,000 requests a minute",
        ),
        ("rates.cut", {"requests_per_minute": 90.5, "wait_s": None}, "90 requests a minute"),
        ("rates.cut", {"requests_per_minute": None, "wait_s": 3.0}, "fewer calls, after 3 s"),
        (
            "teacher.quirk",
            {"teacher": "t", "learned": "leaves out x", "why": "no x (t leaves out x)"},
            "t leaves out x, since it says: no x",
        ),
        ("teacher.other_model", {"asked": "a", "answered": "b"}, "a was asked, b answers"),
        (
            "ledger.stopping",
            {"in_flight": 4, "wait_s": 10},
            "waiting for 4 replies that are paid for, up to 10 s",
        ),
    ],
)
def test_events_are_told_in_a_line(kind: str, data: dict[str, Any], told: str) -> None:
    """What happened in words; nothing where nothing is worth a word."""
    found = line(Event(kind, data))
    assert told in found
    assert bool(told) == bool(found)
