"""Reports as pages: HTML, Markdown, notebooks; harmless, small, and with the report's numbers."""

from __future__ import annotations

import csv
import random
import re
import time
from collections.abc import Callable
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Done
from understudy import Project, Report
from understudy import evaluate as evaluation
from understudy.errors import UsageError
from understudy.evaluate.clusters import Cluster
from understudy.evaluate.slices import Case, confusions, slices
from understudy.example import Example, Message
from understudy.judgement import Calibration, Canary, Judgement
from understudy.money import Quote
from understudy.pages import about_report, html, markdown
from understudy.pages.document import (
    Block,
    Document,
    Facts,
    Interval,
    Lines,
    Paragraph,
    Plot,
    Section,
    Table,
)
from understudy.project import report_page
from understudy.project.failing import Failures
from understudy.project.results import Cleaned, Generated, Imported
from understudy.report import BreakEven, Outcome
from understudy.run import HostedRecipe, HostedRun
from understudy.store import runs
from understudy.task import Spec

Cli = Callable[..., Done]
EVIL = (
    "</td></svg></style><script>alert(1)</script><img src=https://evil.example/x onerror=alert(1)>"
    '" onload="alert(1) ![x](https://evil.example/y) [click](javascript:alert(1)) | a | `b` **c** '
    "www.evil.example \u202e\x1b[31m &amp;"
)
NAMES = {"teacher": "practice:dates", "base": "tiny", "student": "run:1", "other": "other"}
VOID = {"meta"}


class Parsed(HTMLParser):
    """A page read strictly: every tag is closed in its order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: dict[str, set[str]] = {}
        self.shown = ""
        self.cells: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, set()).add(value or "")
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.shown += data
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def harmless(page: str) -> Parsed:
    """Parsed; nothing in it runs, loads or leads anywhere."""
    parsed = Parsed(page)
    assert parsed.tags.isdisjoint({"script", "img", "a", "link", "iframe", "object", "form"})
    assert {"src", "href", "action", "onload", "onerror"}.isdisjoint(parsed.attributes)
    values = set().union(*parsed.attributes.values()) - {
        "default-src 'none'; style-src 'unsafe-inline'"
    }
    assert not any("//" in value or "url(" in value for value in values)
    assert "\u202e" not in page
    assert "\x1b" not in page
    return parsed


def a_report(note: str = "gone", number: int = 120, looks: int = 2) -> Report:
    """Four systems on ``number`` items, with everything that a report can have."""
    chance, rates = random.Random(7), {"teacher": 0.95, "base": 0.2, "student": 0.9, "other": 0.6}
    outcomes = []
    for item in range(1, number + 1):
        for system in NAMES:
            right = chance.random() < rates[system]
            missing = system == "teacher" and item % 20 == 0
            outcomes.append(
                Outcome(
                    item,
                    system,
                    None if missing else "a",
                    None if missing else float(right),
                    right,
                    note if missing else "",
                    latency_ms=12.5,
                    cost_micro=None if system == "other" else 150,
                    expected="a",
                    given="a" if right else "",
                )
            )
    context = evaluation.Context(
        looks=looks,
        sizes={"student": 1_800_000},
        conditions=[evaluation.parse("student >= 0.99", NAMES)],
    )
    judge = Judgement(
        "practice:judge",
        decides=True,
        why="",
        sentence=f"The judge says {note}.",
        canaries=(Canary("same", 5, 5, 0),),
        calibration=Calibration(30, 26, 0.7, 0.95, 0.7, 0.5, 0.9),
    )
    made = evaluation.summarise(1, "exact match", outcomes, NAMES, context=context)
    body = {name: getattr(made, name) for name in made.__dataclass_fields__}
    paid = BreakEven(9200, 4.2, 0.43, "It pays off after 9,200 calls.")
    return Report(**body | {"id": 3, "break_even": paid, "judge": judge})


def table_of(text: str, first: str) -> list[dict[str, str]]:
    """The rows of the Markdown table whose head has a column ``first``."""
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("| ")]
    found = next(block for block in blocks if f" {first} |" in block[0])
    head, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in found)
    return [dict(zip(head, row, strict=True)) for row in rows]


# -- what a page says --------------------------------------------------------------------------


def test_a_page_says_everything_in_order_and_needs_nothing() -> None:
    report = a_report()
    page = html.page(about_report.document(report))
    parsed = harmless(page)
    places = [
        parsed.shown.index(said)
        for said in (
            report.verdict,
            "The systems",
            "teacher has no answer to 6 of 120 items; most often: gone",
            "Compared",
            "How much these numbers can show",
            "were looked at 2 times",
            "By a judge",
            "26 of 30 labelled pairs",
            "student >= 0.99: NOT met",
            "It pays off after 9,200 calls.",
        )
    ]
    assert places == sorted(places)
    assert "http" not in page.replace("http-equiv", "")
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page
    assert page.count("<svg") == page.count("<desc>") == 2
    for name, system in report.systems.items():
        told = f"{name}: {system.score:.1%} ({system.low:.1%} to {system.high:.1%})"
        assert told in page, "what is drawn is also said"


def test_what_is_missing_is_no_zero_and_a_first_look_is_said() -> None:
    outcomes = [Outcome(item, "teacher", None, None, None, "gone") for item in range(1, 31)]
    outcomes += [Outcome(item, "student", "a", 1.0, True) for item in range(1, 31)]
    names = {"teacher": "t", "student": "run:1"}
    report = evaluation.summarise(1, "exact match", outcomes, names)
    text = markdown.page(about_report.document(report))
    rows = table_of(text, "score")
    assert [(row["score"], row["95 % interval"], row["missing"]) for row in rows] == [
        ("-", "-", "30"),
        ("100.0%", f"{report.systems['student'].low:.1%} to 100.0%", "0"),
    ]
    assert "This is the first look at these test items." in text
    assert harmless(html.page(about_report.document(report))).shown.count("student: 100.0%") == 1


def test_the_markdown_tables_have_the_numbers_of_the_report() -> None:
    report = a_report()
    text = markdown.page(about_report.document(report))
    assert text.startswith("# Report 3")
    for row, system in zip(table_of(text, "score"), report.systems.values(), strict=True):
        low, high = row["95 % interval"].split(" to ")
        for shown, value in ((row["score"], system.score), (low, system.low), (high, system.high)):
            assert abs(float(shown.rstrip("%")) / 100 - value) <= 0.0005 + 1e-12
        assert row["right"] == f"{system.right}/{system.items - system.missing}"
        assert int(row["missing"]) == system.missing
        price = row["\\$ per 1,000"]
        assert (None if price == "unknown" else float(price)) == system.usd_per_1k
    for row, pair in zip(table_of(text, "adjusted p"), report.comparisons, strict=True):
        assert row["compared"].startswith(f"{pair.first} against {pair.second} ")
        assert abs(float(row["difference"]) / 100 - pair.difference) <= 0.0005 + 1e-12
        assert float(row["p"]) == pytest.approx(pair.p_value, rel=0.005)
        assert int(row["only first right"]) == pair.only_first
        assert int(row["only second right"]) == pair.only_second


def test_comparisons_in_words_go_the_right_way() -> None:
    said = {
        (pair.first, pair.second): about_report.in_words(pair) for pair in a_report().comparisons
    }
    assert re.fullmatch(
        r"student is \d+\.\d points above base \(95 % interval \+.* to \+.*\); "
        r"chance does not explain that \(adjusted p < 0\.0001\)\.",
        said["student", "base"],
    )
    assert "that may be chance (adjusted p = " in said["student", "teacher"]
    assert "student is " in said["student", "teacher"]
    assert " points below teacher" in said["student", "teacher"]


# -- hostile text ------------------------------------------------------------------------------


def every_block(value: str) -> Document:
    """Each kind of block, full of that text."""
    blocks: list[Block] = [
        Paragraph(value),
        Paragraph(value, strong=True),
        Lines([value]),
        Table([value, "n"], [[value, value]]),
        Plot(value, [Interval(value, 0.5, 0.2, 0.9, value)], [(0.0, value), (1.0, value)]),
        Facts([(value, value)]),
    ]
    assert {type(block) for block in blocks} == set(get_args(Block))
    return Document(value, blocks, [Section(value, blocks)])


@given(st.text() | st.just(EVIL))
def test_any_text_in_any_block_is_harmless(value: str) -> None:
    parsed = harmless(html.page(every_block(value)))
    assert parsed.tags <= {
        "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "strong", "ul", "li",
        "div", "table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "svg", "desc",
        "path", "text", "circle", "dl", "dt", "dd",
    }  # fmt: skip


@given(st.text() | st.just(EVIL))
def test_any_text_is_one_line_without_marks_in_markdown(value: str) -> None:
    shown = markdown.text(value)
    assert "\n" not in shown
    assert not re.search(r"(?<!\\)(?:\\\\)*[`*_\[\]|~!$]", shown)
    assert "<" not in shown
    assert "://" not in shown
    rows = [line for line in markdown.page(every_block(value)).splitlines() if line[:2] == "| "]
    assert {len(re.findall(r"(?<!\\)\|", row.replace("\\\\", ""))) for row in rows} == {3}


def test_a_hostile_report_is_harmless_in_a_notebook() -> None:
    shown = a_report(note=EVIL)._repr_html_()
    parsed = harmless(f"<div>{shown}</div>")
    assert "style" not in parsed.tags, "a notebook's own look stays as it is"
    assert "<script>alert(1)</script>" in parsed.shown


def test_what_verbs_hand_back_shows_itself_in_a_notebook(tmp_path: Path) -> None:
    made = Generated(10, 10, 10, 8, 12, 1_230_000, 2.0, {EVIL: 2})
    recipe = HostedRecipe(epochs=1)
    run = HostedRun(7, 1, f"openai:{EVIL}", tmp_path, recipe, "succeeded", {"loss": 0.25})
    cases: dict[str, Any] = {
        "$1.23": made,
        "line 3: no answer": Imported(5, 4, 4, ((3, "no answer"),)),
        "set apart": Cleaned(10, 8, {EVIL: 2}),
        "12 examples: $0.10 to $0.20, 1 s to 2 s": Quote(12, 100_000, 200_000, 1, 2),
        "run:7": run,
    }
    for said, value in cases.items():
        assert said in harmless(value._repr_html_()).shown


# -- as files ----------------------------------------------------------------------------------

ASKED = {
    "billing": ("my invoice {n} is wrong", "charged twice, invoice {n}", "why is bill {n} so high"),
    "shipping": ("parcel {n} never came", "where is my order {n}", "delivery {n} is late"),
    "the <b>rest</b>": ("reset my password, user{n}", "close account {n}", f"user{{n}} {EVIL}"),
}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of own examples with a trained student; nothing is evaluated yet."""
    folder = tmp_path_factory.mktemp("pages")
    chance = random.Random(3)
    with (folder / "mails.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "team"])
        for number in range(240):
            team = chance.choice(list(ASKED))
            asked = chance.choice(ASKED[team]).replace("{n}", str(1000 + 37 * number))
            rows.writerow([asked.replace("\x1b", ""), team])
    project = Project.new(folder / "p", "Name the team", {"student": "tiny"})
    project.import_examples(folder / "mails.csv", prompt="text", response="team")
    project.freeze()
    project.train(epochs=1)
    project.close()
    return folder / "p"


def test_from_own_examples_to_pages(understudy: Cli, evaluated: Path, tmp_path: Path) -> None:
    told = understudy("evaluate", "-p", evaluated, "--json")
    measured: dict[str, Any] = told.json
    assert f"understudy report {measured['report']} --html report.html" in told.err
    assert understudy("report", "-p", evaluated, "--json").json == measured

    page, text = tmp_path / "report.html", tmp_path / "report.md"
    written = understudy("report", "-p", evaluated, "--html", page, "--markdown", text, "--json")
    assert written.json == measured | {"html": str(page), "markdown": str(text)}
    parsed = harmless(page.read_text(encoding="utf-8"))
    for said in (measured["verdict"], "Where the student fails", "the <b>rest</b>"):
        assert said in parsed.shown
    wrong = measured["systems"]["student"]["items"] - measured["systems"]["student"]["right"]
    assert f"{min(wrong, report_page.MISSES)} of {wrong} misses" in parsed.shown
    with closing(Project(evaluated)) as project, project.database.read() as connection:
        items = {one.input: one.answer for one in runs.members(connection, 1, "test")}
    listed = re.findall(r"^- input: (.*)$", text.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(listed) <= {markdown.text(one) for one in items}
    assert len(listed) == min(wrong, report_page.MISSES)
    shown = understudy("report", measured["report"], "-p", evaluated).out
    assert measured["verdict"] in " ".join(shown.split())
    with closing(Project(evaluated)) as project:
        assert project.write_report(page) == page.stat().st_size, "a page of its own is replaced"
        with project.database.read() as connection:
            assert runs.looks(connection, 1) == 2, "the evaluation, and the misses, booked once"


def test_files_that_may_not_be_written_and_reports_that_are_not_there(
    understudy: Cli, evaluated: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "notes.md"
    kept.write_text("my own notes")
    with closing(Project(evaluated)) as project:
        with pytest.raises(UsageError, match="no report 99"):
            project.report(99)
        with pytest.raises(UsageError, match="no page"):
            project.write_report(kept)
    assert kept.read_text() == "my own notes"
    for arguments in (
        ("report", 99, "-p", str(evaluated)),
        ("report", "-p", str(evaluated), "--markdown", "report.txt"),
        ("report", "-p", str(evaluated), "--html", "report.md"),
    ):
        done = understudy(*map(str, arguments))
        assert done.code == 2
        assert len(done.err.splitlines()) == 1


def test_ten_thousand_items_by_four_systems_are_a_small_page() -> None:
    """What is listed is capped, in number and in length, and what is left out is counted."""
    number, labels = 10_000, tuple(f"label {at} <b>" for at in range(50))
    spec = Spec(title="t", input="i", output="o", kind="label", labels=labels, system_message="s")
    report = a_report(note=EVIL * 20, number=number)
    right = {one.example_id: one.score == 1 for one in report.outcomes if one.system == "student"}
    long = EVIL * 6
    cases = [
        Case(
            Example((Message("user", f"{item} {long}"),), labels[item % 50], id=item),
            labels[item % 50] if right[item] else labels[(item + 1) % 50],
            right[item],
        )
        for item in range(1, number + 1)
    ]
    wrong = [case for case in cases if not case.right]
    found = Failures(
        model="run:1",
        dataset=1,
        side="test",
        report=3,
        items=number,
        wrong=len(wrong),
        missing=0,
        slices=slices(cases, spec),
        confusions=confusions(cases, spec),
        clusters=(Cluster("all of them", (), tuple(wrong)),),
    )
    started = time.perf_counter()
    page = html.page(report_page.document(report, found))
    assert time.perf_counter() - started < 5
    assert len(page.encode()) < 5_000_000
    shown = harmless(page).shown
    assert f"{len(wrong) - report_page.MISSES:,} more are left out" in shown
    assert f"… ({len(wrong[0].example.input) - report_page.LONGEST:,} more characters)" in shown
    assert "more rows are left out." in shown
