"""Trainer processes that are forked from one that has the libraries loaded: 1 s each, not 7.

They are processes of their own as the real ones are: killed, limited and waited for alike. What
they lack is the start itself, which other tests have, and the pipe from their parent. One at a
time: ``python forked.py`` reads a request a line, answers with the process's number, and then with
how it ended.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from select import select
from typing import Any

import pytest

from students import few_questions
from understudy import train
from understudy.train.local import clean_environment

Limits = Mapping[str, int]
Nursery = subprocess.Popen[bytes]


@functools.cache
def nursery() -> Nursery:
    """The process that forks trainers; it ends with this one."""
    started = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=clean_environment(os.environ) | {"OMP_NUM_THREADS": "1"},  # idle threads take room
        bufsize=0,
    )
    atexit.register(started.communicate)
    return started


class Forked:
    """As much of ``subprocess.Popen`` as a training needs."""

    stdin = None

    def __init__(self, command: Sequence[str], limits: Limits, log: str, before: str) -> None:
        server = nursery()
        assert server.stdin is not None
        assert server.stdout is not None
        self._answers = server.stdout
        request = json.dumps(
            {"folders": command[-2:], "limits": limits, "log": log, "before": before}
        )
        server.stdin.write(request.encode() + b"\n")
        self.pid = int(self._answers.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self.wait(0)

    def wait(self, timeout: float | None = None) -> int | None:
        if self.returncode is None and select([self._answers], [], [], timeout)[0]:
            self.returncode = int(self._answers.readline())
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def forks(monkeypatch: pytest.MonkeyPatch, *, before: str = "", **limits: int) -> None:
    """From here on ``train.start`` forks a trainer.

    ``before`` is code that it runs first; ``limits`` are the system's, by name (AS, FSIZE).
    """

    nursery()  # it is a process itself
    started = subprocess.Popen

    def popen(command: Sequence[str], **options: Any) -> Any:
        if "understudy.train.local" not in command:
            return started(command, **options)
        return Forked(command, limits, options["stdout"].name, before)

    monkeypatch.setattr(train.subprocess, "Popen", popen)


def serve() -> None:
    """Fork a trainer for each line that comes in; say its number, and the code that it ends with.

    Nothing here has computed yet, so that torch has no threads that a fork would lose.
    """
    import understudy.train.fit
    import understudy.train.tiny  # noqa: F401

    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            os._exit(train_as_asked(**json.loads(line)))
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def train_as_asked(folders: Sequence[str], limits: Limits, log: str, before: str) -> int:
    from understudy.train.local import main

    for number in (0, 1, 2):
        os.dup2(os.open(os.devnull if number == 0 else log, os.O_RDWR | os.O_APPEND), number)
    for name, limit in limits.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (limit, limit))
    exec(before, {})  # noqa: S102  of a test
    with few_questions():
        return main(Path(folders[0]), Path(folders[1]))


if __name__ == "__main__":
    serve()
