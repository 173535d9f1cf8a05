"""Signals, pauses and races: hang-up, SIGSTOP, starts at the same moment (T12, T40, T41, T43)."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from conftest import Done, understudy_command
from rehearsal import (
    asked,
    examples,
    in_environment,
    made_project,
    must_agree,
    serving,
    states,
    teacher,
    until,
)
from understudy.practice.faults import At

Cli = Callable[..., Done]


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.sweep),  # quick ones in test_stop.py
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.sweep),
        (signal.SIGHUP, 129),
    ],
    ids=["INT", "TERM", "HUP"],
)
def test_one_signal_drains(number: int, code: int, understudy: Cli, tmp_path: Path) -> None:
    """T40, T41: with eight calls in flight: nothing new is sent, all eight replies are kept."""
    at_once = 8
    with serving(tmp_path / "bill", latency=0.4) as provider:
        project = made_project(understudy, tmp_path / "p")
        command = ("generate", "300", "-p", project, *teacher(provider, "durations"))
        with subprocess.Popen(
            understudy_command(*command),
            stderr=subprocess.PIPE,
            text=True,
            env=in_environment(concurrency=at_once),
        ) as process:
            until(lambda: asked(provider) > 20)
            process.send_signal(number)
            err = process.communicate(timeout=60)[1]
        assert process.returncode == code, err
        assert "stopped. Run the same command to go on" in err
        assert states(project) == {"settled": provider.requests()}
        assert provider.requests() <= 21 + 2 * at_once
        must_agree(project, provider)


def test_ctrl_c_where_every_slot_hangs(understudy: Cli, tmp_path: Path) -> None:
    """T12, T40: 64 calls that are never answered; twice Ctrl-C ends in less than five seconds."""
    with serving(tmp_path / "bill", faults=(At("hang", 4, float("inf")),)) as provider:
        project = made_project(understudy, tmp_path / "p")
        command = ("generate", "800", "-p", project, "--per-call", "100")
        with subprocess.Popen(
            understudy_command(*command, *teacher(provider, "durations"), "-q"),
            env=in_environment(concurrency=64, pilot=800),
        ) as process:
            until(lambda: asked(provider) >= 64)
            started = time.monotonic()
            process.send_signal(signal.SIGINT)
            until(lambda: process.poll() is None)
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
            assert time.monotonic() - started < 5
        assert states(project)["settled"] == 3
        assert understudy("clean", "-p", project).code == 0
        assert states(project)["unknown"] == provider.requests() - 3
        must_agree(project, provider)


def test_a_process_that_was_stopped_wakes_to_no_storm(understudy: Cli, tmp_path: Path) -> None:
    """T41: after SIGSTOP for longer than the deadline no more than the slots are filled at once;
    what came meanwhile or was given up is booked, and nothing is sent twice."""
    at_once, stopped_s = 8, 2.0
    with serving(tmp_path / "bill", latency=0.2) as provider:
        project = made_project(understudy, tmp_path / "p")
        command = ("generate", "120", "-p", project, *teacher(provider, "durations"), "-q")
        with subprocess.Popen(
            understudy_command(*command), env=in_environment(concurrency=at_once, timeout=1.5)
        ) as process:
            until(lambda: asked(provider) > 40)
            process.send_signal(signal.SIGSTOP)
            time.sleep(stopped_s)
            process.send_signal(signal.SIGCONT)
            assert process.wait(60) == 0
        came = sorted(line["t"] for line in provider.account() if line["phase"] == "received")
        gaps = [(late - early, late) for early, late in pairwise(came)]
        asleep, woke = max(gaps)
        assert asleep > stopped_s / 2
        assert sum(woke <= at < woke + 0.15 for at in came) <= at_once
        assert set(provider.paid().values()) == {1}
        assert states(project)["unknown"] <= at_once
        assert len(examples(project)) == 120
        must_agree(project, provider)


RACE = """
import os, sys
from pathlib import Path
from understudy.errors import ProjectBusy
from understudy.store.lock import locked

path = Path(sys.argv[1])
for race in range(int(sys.argv[2])):
    go, told, end = os.pipe(), os.pipe(), os.pipe()
    children = []
    for _ in range(2):
        child = os.fork()
        if not child:
            os.close(go[1]); os.close(end[1])
            os.read(go[0], 1)
            try:
                with locked(path):
                    os.write(told[1], b"1")
                    os.read(end[0], 1)
                    if race % 2:
                        os.kill(os.getpid(), 9)
            except ProjectBusy:
                os.write(told[1], b"0")
            os._exit(0)
        children.append(child)
    os.close(go[1])
    said = os.read(told[0], 1) + os.read(told[0], 1)
    print(bytes(sorted(said)).decode())
    os.close(end[1])
    for child in children:
        os.waitpid(child, 0)
    for handle in (go[0], end[0], *told):
        os.close(handle)
"""


def test_of_two_that_start_together_one_runs(tmp_path: Path) -> None:
    """T43: a hundred races for the lock; every second winner is killed, and the kernel frees it."""
    done = subprocess.run(
        [sys.executable, "-c", RACE, tmp_path / "lock", "100"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["01"] * 100, done.stderr


@pytest.mark.parametrize(
    "pair", [0, *(pytest.param(n, marks=pytest.mark.sweep) for n in range(19))]
)
def test_two_commands_that_start_together(pair: int, understudy: Cli, tmp_path: Path) -> None:
    """T43: one generates, the other ends with 8 and the first one's pid; no call is double."""
    with serving(tmp_path / "bill", latency=1) as provider:
        project = made_project(understudy, tmp_path / "p")
        command = understudy_command(
            *("generate", "9", "-p", project, *teacher(provider, "durations"), "--seed", str(pair))
        )
        both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        told = {one.pid: one.communicate(timeout=60)[1] for one in both}
        codes = {one.returncode: one.pid for one in both}
        assert codes.keys() == {0, 8}, told
        assert f"in use by process {codes[0]}" in told[codes[8]]
        assert set(provider.paid().values()) == {1}
        must_agree(project, provider)
