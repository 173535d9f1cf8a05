"""What tests share: the real command line, the real practice server, a clean environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

KEY = "sk-canary-0123456789abcdef"
SETTINGS = ("OPENAI_", "UNDERSTUDY_", "ANTHROPIC_", "GEMINI_", "HF_", "HTTP", "http")


class Done(NamedTuple):
    """A finished command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out.strip().splitlines()[-1])


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(SETTINGS):
            monkeypatch.delenv(name)


def understudy_command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "understudy", *map(str, arguments)]


@pytest.fixture
def understudy(tmp_path: Path) -> Callable[..., Done]:
    """Run the command line in a process of its own, in an empty folder."""

    def run(*arguments: str | Path, env: dict[str, str] | None = None, stdin: str = "") -> Done:
        done = subprocess.run(
            understudy_command(*arguments),
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, **(env or {})},
            input=stdin,
            timeout=280,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    return run


class Server(NamedTuple):
    """A practice server in a process of its own, and its own account of what it billed."""

    url: str
    log: Path

    def teacher(self, task: str) -> str:
        return f"{self.url}#{task}"

    def account(self) -> list[dict[str, Any]]:
        whole = self.log.read_bytes().split(b"\n")[:-1]  # it may be writing a line
        return [json.loads(line) for line in whole]

    def requests(self) -> int:
        """How many requests came in."""
        return sum(line["phase"] == "received" for line in self.account())

    def paid(self) -> dict[str, int]:
        """How often each request body was billed."""
        times: dict[str, int] = {}
        for line in self.account():
            if line["paid"]:
                times[line["body_sha256"]] = times.get(line["body_sha256"], 0) + 1
        return times


@contextmanager
def practice_server(log: Path, *options: str) -> Iterator[Server]:
    """Start ``python -m understudy.practice`` with those options."""
    command = [sys.executable, "-m", "understudy.practice", "--until-stdin-closes"]
    with subprocess.Popen(
        [*command, "--log", str(log), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield Server(json.loads(process.stdout.readline())["url"], log)
        process.terminate()


@pytest.fixture
def server(tmp_path: Path) -> Callable[..., Any]:
    """Start practice servers that log to this test's folder."""

    def start(*options: str) -> Any:
        return practice_server(tmp_path / "provider.jsonl", *options)

    return start


PRICES = ("--price-in", "0.5", "--price-out", "2")
