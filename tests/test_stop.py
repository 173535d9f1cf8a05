"""Ctrl-C and SIGTERM: the command stops where it is, what is paid for is kept, the same goes on."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import PRICES, Done, Server, understudy_command

Cli = Callable[..., Done]


def stopped(
    provider: Server, number: int, requests: int, *command: str | Path, times: int = 1
) -> tuple[int, str]:
    """Send the signal once that many requests have come in; exit code and stderr."""
    process = subprocess.Popen(
        understudy_command(*command), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    deadline = time.monotonic() + 60
    while not provider.log.exists() or provider.requests() < requests:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    for _ in range(times):
        process.send_signal(number)
        time.sleep(0.3)
    return process.wait(60), process.communicate()[1]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
@pytest.mark.parametrize("requests", [1, 2, 5], ids=["describe", "plan", "generate"])
def test_a_signal_ends_the_command_wherever_it_is(
    number: int,
    code: int,
    requests: int,
    understudy: Cli,
    server: Callable[..., Any],
    tmp_path: Path,
) -> None:
    """T40, T41: nothing new is sent, replies in flight are stored, no later verb begins."""
    with server("--latency", "0.4") as provider:
        project = tmp_path / "p"
        command = ("run", "durations", "-p", project, "--examples", "40", *PRICES)
        teacher = ("--teacher", provider.teacher("durations"))
        ended, err = stopped(provider, number, requests, *command, *teacher)
        assert ended == code, err
        assert "stopped. Run the same command to go on" in err
        assert "freeze" not in err
        sent = provider.requests()
        ledger = understudy("ledger", "-p", project, "--json").json
        assert (ledger["calls"], ledger["unknown"], ledger["in_flight"]) == (sent, 0, 0)
        done = understudy("generate", "40", "-p", project, "--json")
        assert done.code == 0, done.err
        assert set(provider.paid().values()) == {1}


def test_the_second_one_gives_up_what_is_in_flight(
    understudy: Cli, server: Callable[..., Any], tmp_path: Path
) -> None:
    """It ends at once; the calls are counted as spent, and that is said."""
    with server("--latency", "20") as provider:
        project = tmp_path / "p"
        teacher = ("--teacher", provider.teacher("durations"), *PRICES)
        understudy("new", project, "--describe", "durations", *teacher)
        started = time.monotonic()
        ended, err = stopped(provider, signal.SIGINT, 1, "generate", "9", "-p", project, times=2)
        assert ended == 130, err
        assert time.monotonic() - started < 15
        assert "waiting for 1" in err
        assert "1 calls were given up" in err
        ledger = understudy("ledger", "-p", project, "--json").json
        assert (ledger["in_flight"], ledger["unknown"]) == (0, 1)
        assert ledger["spent_usd"] > 0


def test_in_a_notebook_too(server: Callable[..., Any], tmp_path: Path) -> None:
    """Where an event loop runs already, an interrupt reaches the work in its own thread."""
    with server("--latency", "0.4") as provider:
        code = f"""
import asyncio, os, signal, threading, time
from pathlib import Path
from understudy import Project
flags = {{"teacher": {provider.teacher("durations")!r}, "price_in": 1.0, "price_out": 1.0}}
project = Project.new({str(tmp_path / "p")!r}, "durations", flags)
def interrupt():
    while not Path({str(provider.log)!r}).exists() or project.made() < 3:
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)
async def cell():
    threading.Thread(target=interrupt).start()
    project.generate(500)
try:
    asyncio.run(cell())
except BaseException as error:
    print(type(error).__name__)
time.sleep(1.5)
from understudy.project.views import ledger
found = ledger(project)
print(found["in_flight"], found["unknown"], found["calls"])
"""
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
        )
        name, counts = done.stdout.split("\n")[:2]
        assert name == "Interrupted", done.stdout + done.stderr
        in_flight, unknown, calls = map(int, counts.split())
        assert (in_flight, unknown) == (0, 0)
        assert calls == provider.requests() < 400


def test_a_killed_run_finishes_however_far_it_was(
    understudy: Cli, server: Callable[..., Any], tmp_path: Path
) -> None:
    """More batches lie on disk than fruitless ones are allowed; it goes on all the same."""
    with server() as provider:
        project = tmp_path / "p"
        teacher = ("--teacher", provider.teacher("dates"), *PRICES, "--per-call", "5")
        understudy("new", project, "--describe", "dates", *teacher[:-2])
        assert understudy("generate", "300", "-p", project, *teacher[-2:]).code == 0
        more = understudy("generate", "450", "-p", project, *teacher[-2:], "--json")
        assert more.code == 0, more.err
        assert (more.json["total"], more.json["made"]) == (450, 150)
        again = understudy("generate", "450", "-p", project, *teacher[-2:], "--json")
        assert (again.code, again.json["made"], again.json["calls"]) == (0, 0, 0)


def test_examples_of_an_older_spec_are_left_out(understudy: Cli, tmp_path: Path) -> None:
    """What was answered under another system message is another behaviour (and stays stored)."""
    project = tmp_path / "p"
    understudy("new", project, "--describe", "dates", "--teacher", "practice:dates")
    assert understudy("generate", "60", "-p", project).code == 0
    spec = understudy("describe", "-p", project, "--json").json
    spec["spec"]["title"] = "another title"
    Path(tmp_path, "spec.json").write_text(json.dumps(spec))
    assert understudy("describe", "--file", "spec.json", "-p", project).code == 0
    same = understudy("generate", "60", "-p", project, "--json")
    assert (same.json["total"], same.json["calls"]) == (60, 0)
    spec["spec"]["system_message"] += " Say nothing else."
    Path(tmp_path, "spec.json").write_text(json.dumps(spec))
    assert understudy("describe", "--file", "spec.json", "-p", project).code == 0
    assert understudy("generate", "80", "-p", project).code == 0
    frozen = understudy("freeze", "-p", project, "--json")
    assert frozen.code == 0, frozen.err
    assert sum(frozen.json["counts"].values()) <= 80
    assert '"of_older_specs": 60' in frozen.out
    with sqlite3.connect(project / "understudy.db") as connection:
        versions = connection.execute(
            "SELECT DISTINCT task_version FROM example JOIN member ON example_id = example.id"
        ).fetchall()
    assert versions == [(4,)]


def test_own_examples_bind_the_teacher_and_nothing_is_bought_twice(
    understudy: Cli, tmp_path: Path
) -> None:
    """Importing, then generating again and again, stays with one version of the task."""
    project = tmp_path / "p"
    understudy("new", project, "--describe", "dates", "--teacher", "practice:dates")
    Path(tmp_path, "own.csv").write_text(
        "prompt,response\n1 May 2001,2001-05-01\n2 May 2002,2002-05-02\n"
    )
    assert understudy("import", "own.csv", "-p", project).code == 0
    assert understudy("generate", "20", "-p", project).code == 0
    version = understudy("status", "-p", project, "--json").json["task_version"]
    for _ in range(2):
        again = understudy("generate", "20", "-p", project, "--json")
        assert (again.json["made"], again.json["calls"]) == (0, 0)
    assert understudy("status", "-p", project, "--json").json["task_version"] == version


@pytest.mark.parametrize("flag", [("--budget", "-5"), ("--price-in", "inf")])
def test_a_refused_flag_leaves_the_project_as_it_was(
    flag: tuple[str, str], understudy: Cli, tmp_path: Path
) -> None:
    """Settings are checked before they are written down."""
    project = tmp_path / "p"
    understudy("new", project, "--describe", "dates", "--teacher", "practice:dates")
    before = (project / "understudy.toml").read_text()
    assert understudy("run", "dates", "-p", project, *flag).code == 2
    assert understudy("demo", "--task", "support", "-p", project).code == 2
    assert (project / "understudy.toml").read_text() == before
    assert understudy("status", "-p", project).code == 0
