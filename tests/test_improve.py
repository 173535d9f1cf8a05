"""A round against the misses, with the practice teacher over HTTP: nothing held out gets out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Done
from rehearsal import must_agree, select, serving, teacher
from understudy.dataset import leaks
from understudy.errors import UsageError
from understudy.project import Project
from understudy.store import runs

Cli = Callable[..., Done]
QUICK = {"epochs": 1}
CANARY = "canary{number} minutes and {number} seconds"


def sides(project: Path, dataset: int) -> dict[str, dict[int, str]]:
    """Input by id of each side."""
    rows = select(
        project,
        "SELECT m.split, e.id, e.messages FROM member m JOIN example e ON e.id = m.example_id "
        "WHERE m.dataset_id = ?",
        dataset,
    )
    found: dict[str, dict[int, str]] = {"train": {}, "validation": {}, "test": {}}
    for row in rows:
        found[row["split"]][row["id"]] = json.loads(row["messages"])[-1][1]
    return found


def asked_for_inputs(project: Path, after: int) -> list[str]:
    """What the teacher was sent to write inputs by, from that call on."""
    query = "SELECT request FROM call WHERE purpose = 'inputs' AND rowid > ?"
    return [row["request"] for row in select(project, query, after)]


def kinds(project: Path, kind: str) -> list[Any]:
    return [
        json.loads(row["data"])
        for row in select(project, "SELECT data FROM event WHERE kind = ?", kind)
    ]


def test_a_round_adds_near_the_misses_and_nothing_held_out(understudy: Cli, tmp_path: Path) -> None:
    """Held-out items stay, are never shown and never repeated; flips are those of the reports."""
    folder = tmp_path / "p"
    own = [
        {"prompt": CANARY.format(number=n), "completion": f"PT{n}M{n}S"} for n in range(100, 130)
    ]
    Path(tmp_path, "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
    with serving(tmp_path / "provider.jsonl") as provider:
        flags = (*teacher(provider, "durations"), "--student", "tiny", "--validation-share", "0.2")
        assert understudy("new", folder, "--describe", "durations", *flags).code == 0
        assert understudy("import", "own.jsonl", "-p", folder).code == 0
        assert understudy("generate", "50", "-p", folder).code == 0
        project = Project(folder)
        with pytest.raises(UsageError, match="no report"):
            project.improve(10)
        first = project.freeze()
        project.train(**QUICK)
        before = project.evaluate()
        found = project.failures()
        assert (found.report, found.wrong) == (before.id, before.items)
        assert sum(len(cluster.misses) for cluster in found.clusters) == found.wrong
        held_out = sides(folder, first.id)
        hidden = [*held_out["test"].values(), *held_out["validation"].values()]
        assert any(text.startswith("canary") for text in hidden)
        calls = len(select(folder, "SELECT 1 FROM call"))
        quotes: list[str] = []
        done = project.improve(24, confirm=lambda quote: quotes.append(str(quote)), **QUICK)
        must_agree(folder, provider)
        after = sides(folder, done.report.dataset_id)
        assert done.side == "validation"
        assert done.made == sum(aim.examples for aim in done.aims) == 24
        assert "24 examples" in quotes[0]
        assert (after["test"], after["validation"]) == (held_out["test"], held_out["validation"])
        new = after["train"].keys() - held_out["train"].keys()
        assert len(new) == done.accepted > 0
        sent = asked_for_inputs(folder, calls)
        assert sent
        for text in hidden:
            assert all(json.dumps(text)[1:-1] not in request for request in sent), text
        with project.database.read() as connection:
            test = list(runs.members(connection, done.report.dataset_id, "test"))
            train = list(runs.members(connection, done.report.dataset_id, "train"))
        assert not list(leaks(train, test))
        _flips_are_those_of_the_reports(before, done)
        # The first look was the report's, the second that at its failures, the third the new one.
        assert done.report.looks == 3
        assert [one["by"] for one in kinds(folder, "test.looked")] == ["failures"]
        _chosen_by_the_test(project)
        project.close()
    shown = understudy("failures", "-p", folder)
    assert shown.code == 0, shown.err
    assert "wears the test" in shown.out
    assert "single misses" in shown.out or "misses;" in shown.out


def _flips_are_those_of_the_reports(before: Any, done: Any) -> None:
    def right(report: Any) -> set[int]:
        return {
            one.example_id for one in report.outcomes if one.system == "student" and one.score == 1
        }

    assert {one.example_id for one in done.flips.newly_right} == right(done.report) - right(before)
    assert {one.example_id for one in done.flips.newly_wrong} == right(before) - right(done.report)
    assert done.flips.items == before.items


def _chosen_by_the_test(project: Project) -> None:
    """Chosen on the test: it is booked, once, and the same call goes on with that round."""

    class No(Exception):
        pass

    def refuse(_quote: object) -> None:
        raise No

    for _ in range(2):
        with pytest.raises(No):
            project.improve(6, side="test", confirm=refuse)
    assert [one["by"] for one in kinds(project.folder, "test.looked")] == ["failures", "improve"]
    assert kinds(project.folder, "improve.begun")[-1]["side"] == "test"
