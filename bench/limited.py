"""How well a rate limit is used: `generate` against a real server that allows so many a minute.

The practice server enforces the limit over short slices and tells it in headers, as OpenAI does; or
without headers, so that only its refusals teach it. The reference in the same run is a loop with
the same number in flight that obeys Retry-After.

    .venv/bin/python bench/limited.py [EXAMPLES] [REQUESTS_PER_MINUTE]
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
from generation import body, prepare

from understudy.project import Project

IN_FLIGHT = 64
LATENCY_S = 0.2


@contextmanager
def server(log: Path, *options: str) -> Iterator[str]:
    """The practice server, in a process of its own."""
    command = [sys.executable, "-m", "understudy.practice", "--until-stdin-closes", *options]
    command += ["--latency", str(LATENCY_S), "--log", str(log)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield str(json.loads(process.stdout.readline())["url"])
        process.terminate()


def understudy(url: str, examples: int) -> None:
    """`generate`; every example must be there exactly once."""
    with tempfile.TemporaryDirectory() as folder:
        flags = {"teacher": f"{url}#support", "price_in": 0.5, "price_out": 2.0}
        flags["concurrency"] = IN_FLIGHT
        project = Project.new(Path(folder, "p"), "Say what the e-mail is about", flags)
        prepare(project)
        made = project.generate(examples)
        assert made.total == examples, made
        project.close()


def fixed(url: str, examples: int) -> None:
    """So many workers; each waits as it is told and sends again."""

    async def main() -> None:
        numbers = iter(range(examples))
        async with aiohttp.ClientSession() as session:

            async def worker() -> None:
                for number in numbers:
                    while True:
                        asked = body(number) | {"model": "support"}
                        path = f"{url}/chat/completions"
                        async with session.post(path, json=asked) as response:
                            await response.read()
                            if response.status == 200:
                                break
                            wait = float(response.headers.get("Retry-After", 1))
                        await asyncio.sleep(wait)

            await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))

    asyncio.run(main())


def told(log: Path, allowed_a_minute: float) -> str:
    """Share of the limit used and of requests refused, after the first minute."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    arrived = [line for line in lines if line["phase"] == "received"]
    answered = [line for line in lines if line["phase"] == "answered"]
    first = min(line["t"] for line in arrived)
    end = max(line["t"] for line in arrived)
    late = [line for line in answered if line["t"] - first >= 60]
    refused = sum(line["fault"] == "limit" for line in late)
    seconds = end - first - 60
    used = (len(late) - refused) / (allowed_a_minute / 60 * seconds)
    share = refused / max(len(late), 1)
    return (
        f"after the first minute: used {used:6.1%} of the limit, {share:6.2%} refused; "
        f"{len(answered):,} requests in {end - first:.0f} s"
    )


def main(examples: int, per_minute: int) -> None:
    """Each in turn, with headers and without."""
    for name, options in {"headers": [], "no headers": ["--no-limit-headers"]}.items():
        for kind in (understudy, fixed):
            with tempfile.TemporaryDirectory() as folder:
                log = Path(folder, "bill.jsonl")
                limit = ["--requests-per-minute", str(per_minute)]
                with server(log, *limit, *options) as url:
                    started = time.perf_counter()
                    kind(url, examples)
                    seconds = time.perf_counter() - started
                label = f"{kind.__name__}, {name}"
                print(f"{label:24} {told(log, per_minute)} ({seconds:.0f} s in all)", flush=True)


if __name__ == "__main__":
    given = [int(value) for value in sys.argv[1:]]
    main(*(given or [6000, 3000]))
