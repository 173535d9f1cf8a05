"""A student at its host, asked through this machine's server: answered, booked, bounded."""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hosts import frozen_project, opened, practice_host
from serving_project import TOKEN, inside
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
