"""A student at its host, asked through this machine's server: answered, booked, bounded."""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hosts import frozen_project, opened, practice_host, spent_and_held
from serving_project import TOKEN, inside, serving, until
from understudy import Project
from understudy.practice.faults import parse_fault
from understudy.practice.options import At
from understudy.project import views

ASK = {"model": "run:latest", "messages": [{"role": "user", "content": "3 hours and 4 minutes"}]}


def post(host: str, **changes: Any) -> tuple[int, dict[str, Any] | str]:
    """The status and the answer: JSON, or the text of a stream."""
    connection = http.client.HTTPConnection(host, timeout=60)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    connection.request("POST", "/v1/chat/completions", json.dumps({**ASK, **changes}), headers)
    answer = connection.getresponse()
    raw = answer.read().decode()
    connection.close()
    return answer.status, raw if raw.startswith("data: ") else json.loads(raw)


def test_questions_are_handed_on_and_booked(tmp_path: Path) -> None:
    """The same question is bought once; what cannot be passed on is refused; no host, no answer."""
    folder = frozen_project(tmp_path / "p")
    with practice_host(tmp_path / "log.jsonl") as host, closing(opened(folder, host)) as project:
        project.train()
        with inside(folder) as home:
            status, body = post(home.host)
            assert status == 200
            assert isinstance(body, dict)
            assert body["choices"][0]["message"]["content"] == "PT3H4M"
            assert body["usage"]["prompt_tokens"] > 0
            _, again = post(home.host, n=2, stop="M")
            assert isinstance(again, dict)
            assert [one["message"]["content"] for one in again["choices"]] == ["PT3H4"] * 2
            _, events = post(home.host, stream=True)
            assert isinstance(events, str)
            assert "PT3H4M" in events
            assert events.endswith("data: [DONE]\n\n")
            for changes in ({"logprobs": True}, {"top_p": 0.5}):
                status, body = post(home.host, **changes)
                assert isinstance(body, dict)
                assert (status, body["error"]["param"]) == (400, next(iter(changes)))
        bought = [row for row in views.ledger(project)["lines"] if row["purpose"] == "serve"]
        assert sum(row["calls"] for row in bought) <= 3


@pytest.mark.parametrize("stream", [False, True])
def test_a_host_that_is_gone_is_told(stream: bool, tmp_path: Path) -> None:
    folder = frozen_project(tmp_path / "p")
    with practice_host(tmp_path / "log.jsonl") as host, closing(opened(folder, host)) as project:
        project.train()
    with inside(folder) as home:
        status, body = post(home.host, stream=stream)
        assert isinstance(body, dict)
        assert (status, body["error"]["code"]) == (502, "host_failed")


PRICED = {"student_price_in": 1.0, "student_price_out": 1.0}
QUESTION = [{"role": "user", "content": "5 hours and 6 minutes"}]


def began(host: str, messages: Any = ASK["messages"]) -> http.client.HTTPConnection:
    """A question whose answer nobody has read yet."""
    connection = http.client.HTTPConnection(host, timeout=60)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    connection.request(
        "POST", "/v1/chat/completions", json.dumps({**ASK, "messages": messages}), headers
    )
    return connection


def calls_of(project: Project) -> list[str]:
    """The states of all questions that were handed on, oldest first."""
    with project.database.read() as connection:
        query = "SELECT state FROM call WHERE purpose = 'serve' ORDER BY sent_at"
        return [row.state for row in connection.exec_driver_sql(query)]


def test_a_client_that_leaves_loses_nothing_that_is_paid_for(tmp_path: Path) -> None:
    """Its answer is stored, and given to whoever asks the same: at that moment, or later."""
    folder = frozen_project(tmp_path / "p")
    with (
        practice_host(tmp_path / "log.jsonl", latency=0.5) as host,
        closing(opened(folder, host, **PRICED)) as project,
    ):
        project.train()
        with inside(folder) as home:
            leaves, stays = began(home.host), began(home.host)
            assert until(lambda: calls_of(project) == ["sent"])
            leaves.close()
            with project.writing():  # another process takes it for a dead one's
                assert calls_of(project) == ["unknown"]
            assert stays.getresponse().status == 200
            stays.close()
            alone = began(home.host, QUESTION)
            assert until(lambda: "sent" in calls_of(project))
            alone.close()
            assert until(lambda: calls_of(project) == ["settled"] * 2)
            assert post(home.host, messages=QUESTION)[0] == 200
        assert [line["kind"] for line in host.account()].count("answer") == 2
        spent, held = spent_and_held(project)
        assert spent > 0
        assert held == 0


def test_what_a_killed_server_had_on_its_way_counts_as_spent(tmp_path: Path) -> None:
    """The next one counts it when it is asked, and keeps to the budget of the settings."""
    folder = frozen_project(tmp_path / "p")
    with (
        practice_host(tmp_path / "log.jsonl", latency=1.0) as host,
        closing(opened(folder, host, **PRICED)) as project,
    ):
        project.train()
        with serving(folder) as home:
            waiting = began(home.host)
            assert until(lambda: calls_of(project) == ["sent"])
            home.process.kill()
            home.process.wait()
            waiting.close()
        with (folder / "understudy.toml").open("a") as file:
            file.write("\nbudget = 0.000001\n")
        with inside(folder) as home:
            status, body = post(home.host, messages=QUESTION)
            assert isinstance(body, dict)
            assert (status, body["error"]["code"]) == (429, "insufficient_quota")
        assert calls_of(project) == ["unknown"]


def test_a_torn_answer_is_no_fault_of_the_clients(tmp_path: Path) -> None:
    folder, torn = frozen_project(tmp_path / "p"), (parse_fault("reset_after:1"),)
    with (
        practice_host(tmp_path / "log.jsonl", faults=torn) as host,
        closing(opened(folder, host)) as project,
    ):
        project.train()
        with inside(folder) as home:
            status, body = post(home.host)
        assert isinstance(body, dict)
        assert (status, body["error"]["code"]) == (502, "host_failed")


def test_a_student_that_comes_back_answers_again(tmp_path: Path) -> None:
    """Deployed late, or gone for an hour: nobody has to start the server anew."""
    folder = frozen_project(tmp_path / "p")
    with (
        practice_host(tmp_path / "log.jsonl", faults=[At("404_model", 1, 1)]) as host,
        closing(opened(folder, host)) as project,
    ):
        project.train()
        with inside(folder) as home:
            assert [post(home.host)[0] for _ in range(2)] == [502, 200]
