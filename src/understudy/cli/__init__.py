"""The command line: one command a verb."""

from __future__ import annotations

import errno
import json
import signal
import sys
from types import FrameType
from typing import NoReturn

from understudy.errors import DiskError, UnderstudyError, UsageError


def main() -> None:
    """Run the command line; every error becomes one line and an exit code."""
    signal.signal(signal.SIGTERM, _terminated)
    arguments = _globals_last(sys.argv[1:])
    as_json = "--json" in arguments
    try:
        code = _run(arguments, as_json=as_json)
    except BrokenPipeError:
        sys.stderr.close()
        code = 141  # what a shell shows for a writer whose reader went away
    sys.exit(code)


def _run(arguments: list[str], *, as_json: bool) -> int:
    from understudy.cli import adopting, serving, students, verbs  # noqa: F401 (registers the commands)
    from understudy.cli.face import app, fail
    from understudy.cli.looking import status  # noqa: F401 (registers those that only look)

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
