"""The whole way through the real command line, a real server, a real training."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import KEY, PRICES, Done

Cli = Callable[..., Done]
SYSTEMS = {"teacher", "base", "student"}


def test_the_demo_goes_the_whole_way(understudy: Cli, tmp_path: Path) -> None:
    """A small demo: events, then one JSON object with three systems; again: the same."""
    done = understudy("demo", "--task", "durations", "--examples", "150", "--json")
    assert done.code == 0, done.err
    body = done.json
    assert set(body["systems"]) == SYSTEMS
    assert body["items"] == body["systems"]["student"]["items"] >= 10
    assert body["systems"]["teacher"]["score"] == 1
    assert body["systems"]["base"]["score"] == 0
    assert body["verdict"]
    project = tmp_path / body["project"]
    assert project == tmp_path / "understudy-demo" / "durations"
    kinds = [json.loads(line)["event"] for line in done.out.splitlines()[:-1]]
    order = ["task.version", "plan.done", "pilot.quote", "freeze.done", "train.done", "export.done"]
    assert [kind for kind in kinds if kind in order] == order
    calls = understudy("ledger", "-p", project, "--json").json
    assert calls["unknown"] == 0
    assert calls["spent_usd"] > 0
    again = understudy("demo", "--task", "durations", "--examples", "150", "--json")
    assert again.code == 0, again.err
    assert again.json["systems"]["student"]["score"] == body["systems"]["student"]["score"]
    assert understudy("ledger", "-p", project, "--json").json["calls"] == calls["calls"]
    _held_out_by_meaning(project)
    _the_rest_of_the_verbs(understudy, project)


def _held_out_by_meaning(project: Path) -> None:
    """No duration of the test split is trained on in any spelling."""
    answers = {}
    for side in ("train", "validation", "test"):
        rows = (project / "datasets" / "1" / f"{side}.jsonl").read_text().splitlines()
        answers[side] = {json.loads(row)["completion"][0]["content"] for row in rows}
    assert answers["test"].isdisjoint(answers["train"] | answers["validation"])


def _the_rest_of_the_verbs(understudy: Cli, project: Path) -> None:
    """status, predict, export, events on a finished project."""
    status = understudy("status", "-p", project, "--json").json
    assert status["examples"]["accepted"] + status["examples"].get("rejected", 0) == 150
    assert status["runs"][0]["state"] == "succeeded"
    answer = understudy("predict", "3 hours", "-p", project)
    assert answer.code == 0, answer.err
    assert len(answer.out.splitlines()) == 1
    piped = understudy(
        "predict", "-", "-p", project, "--model", "practice:durations", stdin="3 hours"
    )
    assert piped.out == "PT3H\n", piped.err
    rows = project / "rows.csv"
    assert understudy("export", rows, "--examples", "-p", project).code == 0
    assert json.loads((project / "rows.csv.manifest.json").read_text())["examples"] > 100
    text = understudy("status", "-p", project)
    assert "understudy predict" in text.out


def test_run_with_an_endpoint_and_a_key(
    understudy: Cli, server: Callable[..., Any], tmp_path: Path
) -> None:
    """OPENAI_BASE_URL and the key from the environment; small budget first, then enough."""
    project = tmp_path / "p"
    with server("--key", KEY) as provider:
        env = {"OPENAI_BASE_URL": provider.url, "OPENAI_API_KEY": KEY}
        command = ("run", "durations", "-p", project, "--examples", "120", "--teacher", "durations")
        short = understudy(*command, *PRICES, "--budget", "0.003", env=env)
        assert short.code == 4, short.err
        assert "--budget" in short.err
        done = understudy(*command, *PRICES, "--budget", "5", "--json", env=env)
        assert done.code == 0, done.err
        assert set(done.json["systems"]) == SYSTEMS
        answers = [line for line in provider.account() if line["paid"] and line["kind"] == "answer"]
        test_items = done.json["items"]
        # Every answer once, and once more for each test item, which the teacher is asked afresh.
        assert len(answers) == 120 + test_items
        spent = understudy("ledger", "-p", project, "--json", env=env).json["spent_usd"]
    billed = sum(
        0.5 * line["input_tokens"] + 2 * line["output_tokens"]
        for line in provider.account()
        if line["paid"]
    )
    assert billed / 1e6 <= spent <= billed / 1e6 + len(provider.account()) / 1e6
    for path in project.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path


def test_own_examples_alone_need_no_teacher(understudy: Cli, tmp_path: Path) -> None:
    """new, import, freeze, train, evaluate, predict, export, with no key at all."""
    colours = ["red", "green", "blue", "black"]
    rows = [
        {"prompt": f"paint number {n} of the {colour} kind, please", "completion": colour}
        for n in range(40)
        for colour in colours
    ]
    Path(tmp_path, "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    project = tmp_path / "p"
    assert understudy("new", project, "--describe", "Name the colour").code == 0
    first = understudy("import", "rows.jsonl", "-p", project, "--json")
    assert first.code == 0, first.err
    assert first.json["added"] == 160
    assert understudy("import", "rows.jsonl", "-p", project, "--json").json["added"] == 0
    frozen = understudy("freeze", "-p", project, "--json")
    assert frozen.code == 0, frozen.err
    trained = understudy(*("train", "-p", project, "--student", "tiny", "--epochs", "3", "--json"))
    assert trained.code == 0, trained.err
    assert trained.json["state"] == "succeeded"
    assert {"run", "steps", "loss", "tokens_per_s", "peak_memory_mb", "model"} <= set(trained.json)
    report = understudy("evaluate", "-p", project, "--json")
    assert report.code == 0, report.err
    assert set(report.json["systems"]) == {"base", "student"}
    assert report.json["systems"]["student"]["usd_per_1k"] == 0
    predicted = understudy("predict", "paint number 7 of the red kind", "-p", project)
    assert predicted.code == 0, predicted.err
    exported = understudy("export", "-p", project, "--json")
    assert exported.code == 0, exported.err
    assert exported.json["parity"] > 0
    assert list((project / "export").glob("*.safetensors"))


def test_a_changed_spec_is_a_new_version(understudy: Cli, tmp_path: Path) -> None:
    """describe --json, edit, describe --file; the old version stays, a bad one is refused."""
    project = tmp_path / "p"
    teacher = ("--teacher", "practice:dates")
    assert understudy("new", project, "--describe", "dates", *teacher).code == 0
    first = understudy("describe", "-p", project, "--json").json
    again = understudy("describe", "-p", project, "--json").json
    assert again["version"] == first["version"]
    first["spec"]["system_message"] = "Write the date as ISO 8601, nothing else."
    Path(tmp_path, "spec.json").write_text(json.dumps(first))
    changed = understudy("describe", "--file", tmp_path / "spec.json", "-p", project, "--json").json
    assert changed["version"] == first["version"] + 1
    assert changed["author"] == "you"
    with sqlite3.connect(project / "understudy.db") as connection:
        versions = connection.execute("SELECT version FROM task").fetchall()
    assert len(versions) == changed["version"]
    Path(tmp_path, "spec.json").write_text('{"title": "x"}')
    refused = understudy("describe", "--file", tmp_path / "spec.json", "-p", project)
    assert refused.code == 2
    assert "not a spec" in refused.err


@pytest.mark.parametrize("position", ["before", "after"])
def test_global_options_stand_before_or_after_the_verb(
    position: str, understudy: Cli, tmp_path: Path
) -> None:
    """``understudy -p DIR status`` is ``understudy status -p DIR``."""
    assert understudy("new", "p", "--describe", "x").code == 0
    options = ("-p", tmp_path / "p", "--json")
    command = (*options, "status") if position == "before" else ("status", *options)
    assert understudy(*command).json["description"] == "x"


def test_a_practice_task_answers_any_text_without_a_project(understudy: Cli) -> None:
    """The programs know their task; a model that costs money wants a project with a ledger."""
    answered = understudy("predict", "am 3. März 2021, glaube ich", "--model", "practice:dates")
    assert answered.out == "2021-03-03\n", answered.err
    refused = understudy("predict", "x", "--model", "http://127.0.0.1:9/v1#m")
    assert refused.code == 2
    assert "-p DIR" in refused.err


def test_a_description_is_kept_where_there_is_no_teacher(understudy: Cli, tmp_path: Path) -> None:
    """new without one, describe, import: the spec is read off the examples, and shown."""
    assert "understudy describe" in understudy("new", "p").out
    assert understudy("describe", "Name the colour", "-p", "p").code == 0
    rows = "".join(
        f"{n} {colour} things,{colour}\n" for n in range(9) for colour in ("red", "blue")
    )
    Path(tmp_path, "rows.csv").write_text(f"prompt,response\n{rows}")
    assert understudy("import", "rows.csv", "-p", "p").code == 0
    shown = understudy("describe", "-p", "p", "--json")
    assert shown.json["spec"]["labels"] == ["blue", "red"], shown.err
