"""Start the practice server: ``python -m understudy.practice --port 0``.

Prints one line of JSON, ``{"url": "http://127.0.0.1:PORT/v1"}``, as soon as it listens.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from understudy.errors import UnderstudyError
from understudy.practice.faults import PAID, parse_fault
from understudy.practice.server import Options, listening


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM, or until stdin closes if asked to. Returns the exit code."""
    given = _parser().parse_args(arguments)
    try:
        options = Options(
            key=given.key,
            faults=tuple(map(parse_fault, given.fault)),
            latency=given.latency,
            refused_parameters=tuple(given.refuse_parameter),
            log=given.log,
            seed=given.seed,
            retry_after=given.retry_after,
        )
        asyncio.run(_serve(options, given.port, until_stdin_closes=given.until_stdin_closes))
    except UnderstudyError as error:
        sys.stderr.write(f"understudy: {error}\n")
        return error.exit_code
    return 0


async def _serve(options: Options, port: int, *, until_stdin_closes: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C ends it anyhow
            loop.add_signal_handler(name, stop.set)
    async with listening(options, port) as url:
        sys.stdout.write(json.dumps({"url": url}) + "\n")
        sys.stdout.flush()
        if until_stdin_closes:
            threading.Thread(target=_wait_for_end, args=(loop, stop), daemon=True).start()
        await stop.wait()


def _wait_for_end(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    with contextlib.suppress(RuntimeError):  # the loop has ended already
        loop.call_soon_threadsafe(stop.set)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m understudy.practice", description=__doc__)
    add = parser.add_argument
    add("--port", type=int, default=0, help="port on 127.0.0.1; 0: any free one (default)")
    add("--key", default="", help="API key that requests must bring")
    add("--seed", type=int, default=0, help="seed of inputs and faults")
    add("--latency", type=float, default=0.0, metavar="SECONDS", help="wait before each reply")
    add("--log", type=Path, metavar="FILE", help="account of every request, as JSON lines")
    add(
        "--fault",
        action="append",
        default=[],
        metavar="KIND:SHARE",
        help=f"fail this share of requests; KIND is one of {', '.join(PAID)}; repeatable",
    )
    add(
        "--retry-after",
        type=float,
        default=0.05,
        metavar="SECONDS",
        help="what a 429 asks for (default: 0.05)",
    )
    add(
        "--refuse-parameter",
        action="append",
        default=[],
        metavar="NAME",
        help="answer 400 to a body that has it, for example max_tokens; repeatable",
    )
    add("--until-stdin-closes", action="store_true", help="end when stdin does, with its parent")
    return parser


if __name__ == "__main__":
    sys.exit(main())
