"""The command line: one command a verb."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from understudy.errors import DiskError, UnderstudyError, UsageError


def main() -> None:
    """Run the command line; every error becomes one line and an exit code."""
    before = _heard(_too_early)
    arguments = _globals_last(sys.argv[1:])
    as_json = "--json" in arguments
    try:
        _register()
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.signal(signal.SIGTERM, _terminated)
        code = _run(arguments, as_json=as_json)
    except BrokenPipeError:
        sys.stderr.close()
        code = 141  # what a shell shows for a writer whose reader went away
    sys.exit(code)


def _heard(handler: Callable[[int, FrameType | None], Any]) -> dict[int, Any]:
    """Have ``handler`` take Ctrl-C and SIGTERM; who had those that were not ignored."""
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in numbers}


def _too_early(number: int, _frame: FrameType | None) -> NoReturn:
    """End while modules are loaded: nothing has begun, and an exception would break an import."""
    os._exit(128 + number)


def _register() -> None:
    """Load the commands."""
    from understudy.cli import (  # noqa: F401
        adopting,
        looking,
        proving,
        reviewing,
        serving,
        students,
        verbs,
    )


def _run(arguments: list[str], *, as_json: bool) -> int:
    from understudy.cli.face import app, fail

    try:
        app(arguments, prog_name="understudy", standalone_mode=True)
    except SystemExit as end:
        code = int(end.code or 0)
        if code == 128 + signal.SIGINT:  # Typer ends so, without a word, on Ctrl-C
            return fail(_Interrupted(signal.SIGINT), as_json=as_json)
        if as_json and code == UsageError.exit_code:  # Typer has told the line on stderr
            print(json.dumps({"error": "usage", "exit_code": code}), flush=True)
        return code
    except BrokenPipeError:
        raise
    except BaseException as error:
        if not isinstance(error, UnderstudyError) and {"-v", "--verbose"} & set(arguments):
            raise
        return fail(_clear(error), as_json=as_json)
    return 0


def _clear(error: BaseException) -> UnderstudyError:
    """The error that a person can read."""
    if isinstance(error, UnderstudyError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return _Interrupted(signal.SIGINT)
    if isinstance(error, OSError):
        return _disk(error)
    what = f"something unforeseen: {type(error).__name__}: {error}"
    return UnderstudyError(what, "Run it again with -v to see where")


class _Interrupted(UnderstudyError):
    def __init__(self, number: int) -> None:
        super().__init__("stopped", "Run the same command to go on")
        self.exit_code = 128 + number


def _terminated(number: int, _frame: FrameType | None) -> NoReturn:
    raise _Interrupted(number)


def _disk(error: OSError) -> DiskError:
    where = f" {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskError(f"the disk is full:{where}", "Free some space; then run it again")
    return DiskError(f"{error.strerror or error}:{where}", "Check the path and its permissions")


_TAKES_VALUE = ("-p", "--project", "--seed")


def _globals_last(arguments: list[str]) -> list[str]:
    """Let global options stand before the verb too: ``understudy -p DIR status``."""
    before: list[str] = []
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] not in ("-h", "--help", "--version"):
        before.append(rest.pop(0))
        if before[-1] in _TAKES_VALUE and rest:
            before.append(rest.pop(0))
    return [*rest[:1], *before, *rest[1:]] if rest else before
