"""The server over HTTP: chat completions a second, and a minute of streaming clients.

    plain      `model.generate`, one prompt after another, in this process: the reference
    8 clients  `understudy serve` in a process of its own, whole answers and streams
    a minute   50 clients that stream without a pause: what was dropped, how long the first
               token took, what the server's memory did

The student is the demo's in size and untrained, so that every answer has the full length; the
answers of the 8 clients are compared with the reference's. One processor thread for the model.

    .venv/bin/python bench/serving_load.py [SECONDS] [CLIENTS]
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import torch
from serving import PROMPTS, REQUESTS, SYSTEM, TEXTS, Plain, student

from understudy import Project
from understudy.run import Recipe
from understudy.store import runs
from understudy.task import Spec

TOKENS = 64
ROUNDS = 3


class Home(NamedTuple):
    """A running server."""

    url: str
    token: str
    pid: int

    def rss_mb(self) -> float:
        """Its resident memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024


def project(folder: Path) -> Path:
    """A project whose run 1 is the student."""
    recipe = Recipe(
        method="full", epochs=1, batch_size=1, learning_rate=1, max_tokens=99, save_steps=1
    )
    with closing(Project.new(folder, "Write a date as ISO 8601", {})) as made:
        rows = folder / "rows.jsonl"
        rows.write_text(
            "\n".join(json.dumps({"prompt": text, "completion": "x"}) for text in TEXTS)
        )
        made.import_examples(rows)
        made.edit_spec(Spec(title="x", input="x", output="x", kind="text", system_message=SYSTEM))
        frozen = made.freeze()
        with made.database.write() as connection:
            run = runs.add_run(connection, frozen.id, "tiny", recipe, folder / "runs")
            runs.set_run(connection, replace(run, state="succeeded"))
        student(run.folder / "model")
    return folder


@contextmanager
def serving(folder: Path) -> Iterator[Home]:
    """``understudy serve``."""
    command = [sys.executable, "-m", "understudy", "serve", "-p", str(folder), "--port", "0"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, env=env) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        yield Home(told["url"], told["token"], process.pid)
        process.terminate()


@asynccontextmanager
async def client(home: Home) -> AsyncIterator[aiohttp.ClientSession]:
    """What all clients share."""
    headers = {"Authorization": f"Bearer {home.token}"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
        yield session


def body(number: int, **more: Any) -> dict[str, Any]:
    """One of the reference's questions."""
    messages = [{"role": "user", "content": TEXTS[number % REQUESTS]}]
    return {"model": "run:1", "messages": messages, "max_tokens": TOKENS, **more}


async def whole(session: aiohttp.ClientSession, home: Home, number: int) -> str:
    """The answer to a request that is no stream."""
    async with session.post(f"{home.url}/chat/completions", json=body(number)) as answer:
        answer.raise_for_status()
        said = (await answer.json())["choices"][0]["message"]["content"]
    return str(said)


class Streamed(NamedTuple):
    """What one stream brought."""

    text: str
    first_s: float
    complete: bool


async def streamed(session: aiohttp.ClientSession, home: Home, number: int) -> Streamed:
    """A stream, read to its end."""
    began, first_s, text, complete = time.perf_counter(), 0.0, "", False
    asked = body(number, stream=True)
    async with session.post(f"{home.url}/chat/completions", json=asked) as answer:
        answer.raise_for_status()
        async for line in answer.content:
            if line == b"data: [DONE]\n":
                complete = True
            elif line.startswith(b"data: "):
                choice = json.loads(line[6:])["choices"][0]
                text += choice["delta"].get("content") or ""
                if text and not first_s:
                    first_s = time.perf_counter() - began
    return Streamed(text, first_s, complete)


async def rate(home: Home, clients: int, *, stream: bool) -> tuple[float, list[str]]:
    """Requests a second of so many clients, and the answers."""
    answers, numbers = [""] * REQUESTS, iter(range(REQUESTS))

    async def ask(session: aiohttp.ClientSession) -> None:
        for number in numbers:
            if stream:
                answers[number] = (await streamed(session, home, number)).text
            else:
                answers[number] = await whole(session, home, number)

    async with client(home) as session:
        began = time.perf_counter()
        await asyncio.gather(*(ask(session) for _ in range(clients)))
        return REQUESTS / (time.perf_counter() - began), answers


def compare(home: Home, folder: Path) -> None:
    """Print the rates beside that of the plain loop."""
    torch.set_num_threads(1)
    plain = Plain(folder / "runs" / "1" / "model", TOKENS)
    rates: dict[str, list[float]] = {"plain": [], "8 clients": [], "8 clients, streaming": []}
    plain.round()
    for _ in range(ROUNDS):
        base, expected = plain.round()
        rates["plain"].append(base)
        for name, stream in (("8 clients", False), ("8 clients, streaming", True)):
            found, answers = asyncio.run(rate(home, 8, stream=stream))
            assert [answer.strip() for answer in answers] == expected, "the answers differ"
            rates[name].append(found)
    base = statistics.median(rates["plain"])
    for name, several in rates.items():
        found = statistics.median(several)
        print(f"{name:24} {found:7.1f} chat completions/s {found / base:6.2f} x")


async def load(home: Home, seconds: float, clients: int) -> None:
    """Print what so many streaming clients saw."""
    found: list[Streamed] = []
    failed: list[str] = []
    memory: list[float] = []
    end = time.perf_counter() + seconds

    async def ask(session: aiohttp.ClientSession, number: int) -> None:
        while time.perf_counter() < end:
            try:
                found.append(await streamed(session, home, number))
            except (aiohttp.ClientError, OSError) as error:
                failed.append(type(error).__name__)

    async def watch() -> None:
        while time.perf_counter() < end:
            memory.append(home.rss_mb())
            await asyncio.sleep(1)

    async with client(home) as session:
        await asyncio.gather(watch(), *(ask(session, number) for number in range(clients)))
    firsts = sorted(one.first_s for one in found)
    dropped = sum(not one.complete for one in found) + len(failed)
    tokens = len(found) * TOKENS / seconds
    middle, late = statistics.median(firsts), firsts[int(len(firsts) * 0.95)]
    print(f"{clients} streaming clients for {seconds:g} s:")
    print(f"  streams {len(found)}, dropped {dropped} {failed[:3] or ''}")
    print(f"  {len(found) / seconds:.1f} answers/s, {tokens:,.0f} tokens/s")
    print(f"  first token after {middle * 1000:.0f} ms (median), {late * 1000:.0f} ms (95%)")
    start = memory[min(len(memory) - 1, int(len(memory) * 0.2))]
    print(f"  memory {start:.0f} MB after a fifth of it, {memory[-1]:.0f} MB at the end")


def main() -> None:
    """Read the command line."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60
    clients = int(sys.argv[2]) if len(sys.argv) > 2 else 50
    assert len(PROMPTS) == REQUESTS
    with tempfile.TemporaryDirectory() as where:
        folder = project(Path(where) / "p")
        with serving(folder) as home:
            compare(home, folder)
            asyncio.run(load(home, seconds, clients))


if __name__ == "__main__":
    main()
