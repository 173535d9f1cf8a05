"""The verb evaluate on a project: who takes part, what is paid, stored, counted and refused."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import Done
from students import make_folder, recipe
from understudy import Project
from understudy.errors import BudgetReached, UsageError
from understudy.practice import load
from understudy.report import Report
from understudy.store import runs
from understudy.store.database import now
from understudy.store.schema import report as report_table

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries that run models

ROWS = 120


def make(folder: Path, *, trained: bool, **flags: object) -> Project:
    """A project of dates: the teacher knows the task, the student is a model that babbles."""
    task = load("dates")
    project = Project.new(folder, task.DESCRIPTION, {"teacher": "practice:dates", **flags})
    texts = list(dict.fromkeys(task.inputs({}, ROWS, 0)))
    lines = [json.dumps({"prompt": text, "completion": task.answer(text)}) for text in texts]
    (folder / "rows.jsonl").write_text("\n".join(lines))
    project.import_examples(folder / "rows.jsonl")
    short = {"system_message": "Write the date."}  # the babbling model reads 512 tokens
    project.edit_spec(task.spec().model_copy(update=short))
    frozen = project.freeze()
    for _ in range(2 if trained else 0):
        with project.database.write() as connection:
            run = runs.add_run(connection, frozen.id, "tiny", recipe(), folder / "runs")
            runs.set_run(connection, replace(run, state="succeeded"))
        run.folder.mkdir(parents=True)
        make_folder(run.folder / "model")
        make_folder(run.folder / "base")
    return project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with warnings.catch_warnings(action="ignore"):
        made = make(tmp_path_factory.mktemp("judged") / "p", trained=True, test_share=0.3)
    with closing(made) as opened:
        yield opened


@pytest.fixture(scope="module")
def report(project: Project) -> Report:
    with warnings.catch_warnings(action="ignore"):
        return project.evaluate(
            models=["practice:durations", "run:1"],
            few_shot=2,
            gate=["student >= teacher - 0.02", "teacher >= 0.5"],
        )


def test_all_take_part_and_are_compared(report: Report) -> None:
    assert list(report.systems) == [
        *("teacher", "base", "few-shot", "student", "practice:durations", "run:1")
    ]
    assert {one.items for one in report.systems.values()} == {report.items}
    assert report.items >= 20
    assert report.systems["teacher"].score == 1
    pairs = {(pair.first, pair.second) for pair in report.comparisons}
    assert {("student", "few-shot"), ("student", "practice:durations")} <= pairs
    assert all(pair.p_adjusted is not None for pair in report.comparisons)
    assert (report.few_shot, report.graded, report.decision) == (2, False, "not_yet")


def test_local_models_have_a_size_and_remote_ones_a_price(report: Report) -> None:
    for name in ("base", "few-shot", "student", "run:1"):
        assert report.systems[name].size_bytes > 10_000
        assert report.systems[name].usd_per_1k == 0
    for name in ("teacher", "practice:durations"):
        assert report.systems[name].size_bytes is None
        assert report.systems[name].usd_per_1k > 0


def test_every_remote_answer_went_through_the_ledger(project: Project, report: Report) -> None:
    from understudy.project.views import ledger

    lines = [line for line in ledger(project)["lines"] if line["purpose"] == "evaluate"]
    assert {line["model"] for line in lines} == {"practice:dates", "practice:durations"}
    assert sum(line["calls"] for line in lines) >= 2 * report.items
    assert sum(line["usd"] for line in lines) > 0


def test_gates_are_decided_on_the_interval(report: Report) -> None:
    student, teacher = report.gates
    assert (student.met, teacher.met, report.gate_met) == (False, True, False)
    assert "it is not >= -2.0" in student.why


def test_a_report_is_stored_whole(project: Project, report: Report) -> None:
    with project.database.read() as connection:
        assert runs.report(connection, report.id) == report
    written = json.loads((project.folder / "reports" / f"{report.id}.json").read_text())
    assert written["gate"]["met"] is False
    assert written["decision"] == "not_yet"
    assert written["break_even"]["why"].startswith("After about")


def test_looks_are_counted_and_a_function_is_a_metric(project: Project, report: Report) -> None:
    def near(reference: str, answer: str) -> float:
        return (10 + sum(a == b for a, b in zip(reference, answer, strict=False))) / 20

    with warnings.catch_warnings(action="ignore"):
        again = project.evaluate(metric=near)
    assert (report.looks, again.looks) == (1, 2)
    assert any("looked at 2 times by now" in note for note in again.notes)
    assert (again.metric, again.graded) == ("near", True)
    assert list(again.systems) == ["teacher", "base", "student"], "tiny is shown no examples"
    assert again.systems["teacher"].score == 1


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"gate": "student >= judge"}, "names judge"),
        ({"metric": "bleu"}, "no metric bleu"),
        ({"metric": lambda *_: 2}, "gave 2"),
        ({"models": ["run:2"]}, "takes part already, as student"),
        ({"models": ["teacher"]}, "no model name"),
        ({"models": ["run:9"]}, "no trained run:9"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anybody_is_asked(
    project: Project, asked: dict[str, object], said: str
) -> None:
    before = project.last_event()
    with pytest.raises(UsageError, match=said):
        project.evaluate(**asked)  # type: ignore[arg-type]
    kinds = [event.kind for event in project.events(before)]
    assert "evaluate.start" not in kinds


def test_a_report_from_before_still_loads(project: Project, report: Report) -> None:
    system = {
        "model": "run:1",
        "items": 3,
        "right": 2,
        "missing": 0,
        "score": 0.67,
        "low": 0.2,
        "high": 0.9,
        "partial": 0.7,
        "usd_per_1k": None,
        "latency_ms_p50": 3.0,
    }
    body = {
        "dataset_id": report.dataset_id,
        "metric": "exact match",
        "items": 3,
        "id": None,
        "systems": {"student": system},
        "comparisons": [],
        "verdict": "Not yet.",
        "outcomes": None,
        "seconds": 1.0,
    }
    with project.database.write() as connection:
        row = {"dataset_id": report.dataset_id, "report": json.dumps(body), "at": now()}
        number = connection.execute(report_table.insert().values(row)).inserted_primary_key[0]
    with project.database.read() as connection:
        old = runs.report(connection, number)
    assert old is not None
    assert (old.verdict, old.decision, old.systems["student"].interval) == (
        "Not yet.",
        "",
        "Wilson",
    )


def test_the_budget_ends_it_and_what_came_is_a_report(tmp_path: Path) -> None:
    flags = {"budget": 0.0003, "max_answer_tokens": 20, "test_share": 0.3}
    with closing(make(tmp_path / "p", trained=False, **flags)) as project:
        with pytest.raises(BudgetReached):
            project.evaluate(models=["practice:durations"])
        with project.database.read() as connection:
            stored = runs.report(connection)
        assert stored is not None
        assert 0 < len(stored.outcomes) < 2 * ROWS
        assert sum(outcome.cost_micro or 0 for outcome in stored.outcomes) <= 300


def test_a_gate_that_is_not_met_ends_with_7_and_the_report_is_the_last_line(
    understudy, tmp_path: Path
) -> None:
    make(tmp_path / "p", trained=False).close()
    done: Done = understudy("evaluate", "-p", "p", "--gate", "teacher >= 0.999", "--json")
    assert done.code == 7, done.err
    assert done.json["gate"]["met"] is False
    assert done.json["systems"]["teacher"]["score"] == 1
    assert "the gate is not met: teacher >= 0.999: teacher scores 100.0 % (95 %" in done.err
    assert done.err.count("\n") == 1 or "may be chance" in done.err.splitlines()[-1]
    met: Done = understudy("evaluate", "-p", "p", "--gate", "teacher >= 0.5")
    assert met.code == 0, met.err
    assert "gate      teacher >= 0.5: met" in met.out
    assert "looked at 2 times by now" in met.out
