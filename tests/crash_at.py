"""``understudy`` that kills itself at a named point: ``crash_at.py POINT N ARGUMENTS``.

A point is a function of the product, before or after it runs; there the process gets SIGKILL when
it comes by for the N-th time. ``flying`` lets the call go out first.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from understudy.cli import main
from understudy.models.http import HttpEndpoint
from understudy.models.openai_compatible import OpenAICompatible
from understudy.project import folder
from understudy.store import calls, events, examples, hosted, spool, tasks
from understudy.store.database import Database
from understudy.train.hosted.openai_sdk import OpenAIHost

POINTS = {
    "begin": (calls, "begin"),
    "send": (HttpEndpoint, "send"),
    "receive": (calls, "receive"),
    "read": (OpenAICompatible, "read"),
    "end": (calls, "end"),
    "commit": (Database, "finish"),
    "examples": (examples, "add"),
    "decide": (examples, "decide"),
    "event": (events, "add"),
    "task": (tasks, "add"),
    "plan": (tasks, "add_plan"),
    "recover": (calls, "recover"),
    "spool": (spool, "save"),
    "settings": (folder, "write_settings"),
    "hold": (hosted, "hold"),
    "change": (hosted, "change"),
    "settle": (hosted, "settle"),
    "upload": (OpenAIHost, "upload"),
    "create": (OpenAIHost, "create"),
    "job": (OpenAIHost, "job"),
    "host_events": (OpenAIHost, "events"),
}
FLYING_S = 0.1


def die() -> None:
    """As a power cut would have it: nothing is run, closed or flushed any more."""
    os.kill(os.getpid(), signal.SIGKILL)


def arm(point: str, nth: int) -> None:
    """Replace the function by one that dies."""
    when, _, name = point.partition(":")
    owner, attribute = POINTS[name]
    real: Callable[..., Any] = getattr(owner, attribute)
    seen = 0

    def now() -> bool:
        nonlocal seen
        seen += 1
        return seen == nth

    @functools.wraps(real)
    def around(*given: Any, **named: Any) -> Any:
        hit = now()
        if hit and when == "before":
            die()
        result = real(*given, **named)
        if hit:
            die()
        return result

    @functools.wraps(real)
    async def around_async(*given: Any, **named: Any) -> Any:
        hit = now()
        if hit and when == "before":
            die()
        if hit and when == "flying":
            asyncio.get_running_loop().call_later(FLYING_S, die)
        result = await real(*given, **named)
        if hit:
            die()
        return result

    setattr(owner, attribute, around_async if inspect.iscoroutinefunction(real) else around)


if __name__ == "__main__":
    arm(sys.argv[1], int(sys.argv[2]))
    del sys.argv[1:3]
    main()
