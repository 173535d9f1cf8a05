"""Trainer processes that are forked from one that has the libraries loaded: 1 s each, not 7.

They are processes of their own as the real ones are: killed, limited and waited for alike. What
they lack is the start itself, which other tests have, and the pipe from their parent.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from understudy import train
from understudy.train.local import clean_environment

LOADED = ["understudy.train.fit", "understudy.train.tiny", "accelerate.utils", "tokenizers"]
Limits = Mapping[int, int]


class Forked:
    """As much of ``subprocess.Popen`` as a training needs."""

    stdin = None

    def __init__(self, command: Sequence[str], limits: Limits, log: str, **_: Any) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(LOADED)
        with mock.patch.dict(os.environ, clean_environment(os.environ), clear=True):
            forkserver.ensure_running()
        self._process = context.Process(target=_main, args=(*command[-2:], dict(limits), log))
        self._process.start()
        self.pid = self._process.pid
        self.kill, self.terminate = self._process.kill, self._process.terminate

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        self._process.join(timeout)
        return self.returncode


def forks(monkeypatch: pytest.MonkeyPatch, *, limits: Limits | None = None) -> None:
    """From here on ``train.start`` forks a trainer, under ``limits`` of the system if given."""

    def popen(command: Sequence[str], *, stdout: Any, **_: Any) -> Forked:
        return Forked(command, limits or {}, stdout.name)

    monkeypatch.setattr(train.subprocess, "Popen", popen)


def _main(run_folder: str, dataset_folder: str, limits: Limits, log: str) -> None:
    from understudy.train.local import main

    with Path(log).open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for name, limit in limits.items():
        resource.setrlimit(name, (limit, limit))
    sys.exit(main(Path(run_folder), Path(dataset_folder)))
