"""The command line, forked from a process that has the libraries loaded: a third of a second.

Every command is a process of its own as the real one is, and dies as told at a point of
crash_at.py. What it lacks is the start itself, which other tests have. One at a time:
``python forked_cli.py`` reads a request a line and answers with the code that it ended with.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import crash_at


class Ended(NamedTuple):
    """A command that ended: its code, negative for a signal, and all that it wrote."""

    code: int
    err: str


@functools.cache
def nursery() -> subprocess.Popen[bytes]:
    """The process that forks; it ends with this one."""
    started = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    atexit.register(started.communicate)
    return started


def understudy(
    folder: Path, *arguments: str, point: str = "", nth: int = 1, env: Mapping[str, str] = {}
) -> Ended:
    """Run a command in ``folder``; with a ``point`` it is killed there when it comes by."""
    server, log = nursery(), folder / "command.log"
    assert server.stdin is not None
    assert server.stdout is not None
    request = {"folder": str(folder), "arguments": arguments, "point": point, "nth": nth}
    line = json.dumps(request | {"env": {**env}, "log": str(log)})
    server.stdin.write(line.encode() + b"\n")
    code = int(server.stdout.readline())
    return Ended(code, log.read_text())


def serve() -> None:
    """Fork a command for each line that comes in; say the code that it ends with."""
    import openai  # noqa: F401

    import understudy.cli.students
    import understudy.project
    import understudy.train.hosted.openai_sdk  # noqa: F401

    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            run(**json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def run(
    folder: str, arguments: list[str], point: str, nth: int, env: dict[str, str], log: str
) -> None:
    from understudy.project import handing

    handing.LOOK_S = (0.0, 0.05, 0.2, 0.4)
    handing.FIRST_WAIT_S = 0.05
    os.chdir(folder)
    os.environ.update(env)
    written = os.open(log, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    for number, to in ((0, os.open(os.devnull, os.O_RDONLY)), (1, written), (2, written)):
        os.dup2(to, number)
    if point:
        crash_at.arm(point, nth)
    sys.argv = ["understudy", *arguments]
    code: Any = 0
    try:
        crash_at.main()
    except SystemExit as ended:
        code = ended.code or 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    serve()
