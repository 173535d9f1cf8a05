"""``doctor --teacher``: what works is told with its cost; what does not, with what to do."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from conftest import KEY, Done
from understudy.practice.server import Options, in_background
from understudy.project import Project
from understudy.project.doctor import Check, doctor
from understudy.project.views import ledger
from understudy.settings import Settings

PRICES: dict[str, Any] = {"price_in": 0.5, "price_out": 2}


@pytest.fixture
def bind(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Bind OpenAI's key to one address."""

    def to(url: str) -> None:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)

    return to


def rows(place: Project | None = None, **settings: Any) -> dict[str, Check]:
    """What is said of the teacher, by name of the check; the key is never in it."""
    checks = doctor(Settings(**{**PRICES, **settings}), place)
    assert KEY not in repr(checks)
    return {
        check.name.removeprefix("teacher "): check
        for check in checks
        if check.name.startswith("teacher")
    }


@pytest.mark.parametrize("adapter", ["openai", "anthropic"])
def test_a_teacher_that_works_is_told_in_full(adapter: str, bind: Callable[[str], None]) -> None:
    """Key and its variable, address, model, text, JSON, quirks, limits, terms, cost."""
    with in_background(Options(key=KEY, requests_per_minute=6000)) as url:
        bind(url)
        told = rows(teacher=f"{adapter}:dates")
    names = ["key", "address", "model", "text", "JSON", "quirks", "limits", "terms", "cost"]
    assert list(told) == names
    assert all(check.ok is not False for check in told.values())
    assert f"{adapter.upper()}_API_KEY" in told["key"].found
    assert url in told["key"].found
    assert "1 out" in told["text"].found
    assert "6,000 requests a minute" in told["limits"].found
    assert "2 calls" in told["cost"].found


def test_what_is_learned_is_told_and_remembered(
    bind: Callable[[str], None], tmp_path: Path
) -> None:
    """In a project, through its ledger: the second time nothing is refused."""
    project = Project.new(tmp_path / "p")
    refused = ("response_format", "max_tokens")
    with in_background(Options(refused_parameters=refused)) as url, closing(project):
        bind(url)
        first = rows(project, teacher="openai:dates")
        second = rows(project, teacher="openai:dates")
        spent = ledger(project)
    assert "says max_completion_tokens" in first["quirks"].found
    assert "asks for JSON" in first["quirks"].found
    assert "learned just now" not in second["quirks"].found
    assert "max_completion_tokens" in second["quirks"].found
    assert spent["received"] == 4
    assert spent["spent_usd"] > 0


FAILURES: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "wrong key": ({"key": "sk-right"}, "openai:dates", "address", "OPENAI_API_KEY"),
    "wrong model": ({}, "openai:datez", "text", "dates"),
    "no credit": ({"faults": [("429_quota", 1.0)]}, "openai:dates", "text", "credit"),
    "busy for hours": (
        {"faults": [("429", 1.0)], "retry_after": "9000"},
        "openai:dates",
        "text",
        "everything so far is saved",
    ),
    "a web page": ({"faults": [("html", 1.0)]}, "openai:dates", "text", "/v1"),
    "no answer": ({"faults": [("empty", 1.0)]}, "openai:dates", "text", "another model"),
    "unknown provider": ({}, "https://user:hunter2@x.example/v1#m", "address", "https://HOST/v1"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_what_does_not_work_is_a_row_with_what_to_do(
    case: str, bind: Callable[[str], None]
) -> None:
    """No error is raised; the row that failed says what to do about it."""
    options, teacher, row, fix = FAILURES[case]
    with in_background(Options(**options)) as url:
        bind(url)
        told = rows(teacher=teacher)
    assert told[row].ok is False
    assert fix in told[row].fix
    assert "hunter2" not in repr(told)


def test_nobody_listens() -> None:
    """The address is named."""
    told = rows(teacher="http://127.0.0.1:9/v1#m")
    assert told["address"].ok is False
    assert "127.0.0.1:9" in told["address"].found


def test_an_unknown_price_is_said_before_anything_is_sent() -> None:
    """With the flags that give it."""
    told = rows(teacher="http://127.0.0.1:9/v1#m", price_in=None, price_out=None)
    assert told["price"].ok is False
    assert "--price-in" in told["price"].fix


def test_no_teacher_is_asked_unless_it_is_named(bind: Callable[[str], None]) -> None:
    """With a key in the environment it is only told which teacher it would be."""
    bind("http://127.0.0.1:9/v1")
    told = rows()
    assert list(told) == ["teacher"]
    assert told["teacher"].ok is None
    assert "openai:" in told["teacher"].found


def test_the_command_ends_with_3_where_something_is_bad(understudy: Callable[..., Done]) -> None:
    """And with 0 where all is well, the checks as JSON."""
    bad = understudy("doctor", "--teacher", "http://127.0.0.1:9/v1#m", "--json")
    assert bad.code == 3
    assert bad.json["ok"] is False
    good = understudy("doctor", "--teacher", "practice:dates", "--json")
    assert good.code == 0
    assert any(check["name"] == "teacher cost" for check in good.json["checks"])
