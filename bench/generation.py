"""How fast examples are made: requests completed a second, each reply durably committed.

Against a teacher of 200 ms on loopback, on one core for the client and one for the teacher:

    understudy   `generate` in a project folder: inputs, answers, ledger, examples
    bare         an aiohttp loop that sends the same answer requests and stores nothing
    openai       the openai SDK's AsyncOpenAI, the same (if it is installed)

    .venv/bin/python bench/generation.py [EXAMPLES] [IN_FLIGHT ...]
"""

from __future__ import annotations

import asyncio
import importlib.util
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from teacher import text_of

from understudy.project import Project
from understudy.task import Attribute, Option, Plan, Spec

ROUNDS = 3
LATENCY_S = 0.2
SYSTEM = "Say in one sentence what the customer's e-mail is about, and nothing else."
TEACHER = Path(__file__).with_name("teacher.py")


@contextmanager
def teacher(latency: float = LATENCY_S) -> Iterator[str]:
    """The teacher on the last core; the client keeps the first."""
    cores = sorted(os.sched_getaffinity(0))
    command = [sys.executable, str(TEACHER), str(latency), str(cores[-1])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        os.sched_setaffinity(0, {cores[0]})
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()
            os.sched_setaffinity(0, set(cores))


def body(number: int) -> dict[str, object]:
    """The request that understudy sends for one answer."""
    text = text_of(number)
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]
    return {"model": "m", "messages": messages, "max_tokens": 1024}


async def loop(ask: Callable[[int], Awaitable[object]], calls: int, at_once: int) -> float:
    """Calls a second of so many workers."""
    numbers = iter(range(calls))

    async def worker() -> None:
        for number in numbers:
            await ask(number)

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    return calls / (time.perf_counter() - started)


def bare(url: str, calls: int, at_once: int) -> float:
    """Plain aiohttp."""
    import aiohttp

    async def main() -> float:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def ask(number: int) -> object:
                async with session.post(f"{url}/chat/completions", json=body(number)) as response:
                    found = await response.json()
                    return found["choices"][0]["message"]["content"]

            return await loop(ask, calls, at_once)

    return asyncio.run(main())


def sdk(url: str, calls: int, at_once: int) -> float:
    """The openai SDK."""
    import openai

    async def main() -> float:
        limits = openai.DefaultAsyncHttpxClient(timeout=60)
        async with openai.AsyncOpenAI(
            base_url=url, api_key="none", max_retries=0, http_client=limits
        ) as client:

            async def ask(number: int) -> object:
                found = await client.chat.completions.create(**body(number))  # type: ignore[call-overload]
                return found.choices[0].message.content

            return await loop(ask, calls, at_once)

    return asyncio.run(main())


def understudy(url: str, examples: int, at_once: int) -> float:
    """`generate` in a new project folder, until its last example is on disk; not its cleaning."""
    with tempfile.TemporaryDirectory() as folder:
        flags = {
            "teacher": f"{url}#m",
            "price_in": 0.5,
            "price_out": 2.0,
            "concurrency": at_once,
            "timeout": 60,
        }
        project = Project.new(Path(folder, "p"), "Say what the e-mail is about", flags)
        prepare(project)
        made = project.generate(examples)
        assert made.made == examples, made
        (done,) = (event for event in project.events() if event.kind == "generate.done")
        project.close()
    return made.calls / float(done.data["seconds"])


def prepare(project: Project) -> None:
    """Give the project a spec and a plan, so that only generating is measured."""
    from understudy.store import tasks

    spec = Spec(
        title="Mails", input="an e-mail", output="one sentence", kind="text", system_message=SYSTEM
    )
    project.edit_spec(spec)
    options = tuple(Option(value=f"value {n}") for n in range(5))
    attributes = tuple(Attribute(name=name, values=options) for name in ("topic", "tone", "length"))
    with project.database.write() as connection:
        tasks.add_plan(connection, project.task.version, Plan(attributes=attributes), "bench")


def apart(measure: Callable[[str, int, int], float], url: str, calls: int, at_once: int) -> float:
    """Measure in a process of its own, warm: what one imports is no burden for the others."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.apply(measure, (url, 20, at_once))
        return pool.apply(measure, (url, calls, at_once))


def main(examples: int, in_flight: list[int]) -> None:
    """Measure all three in turn, and print the ratios."""
    kinds = {"bare": bare, "understudy": understudy}
    if importlib.util.find_spec("openai"):
        kinds["openai"] = sdk
    print("requests completed a second (median of 3)")
    print(f"{'in flight':>10}" + "".join(f"{name:>12}" for name in kinds) + "   ratio to bare")
    with teacher() as url:
        for at_once in in_flight:
            rates: dict[str, list[float]] = {name: [] for name in kinds}
            for _ in range(ROUNDS):
                for name, measure in kinds.items():
                    rates[name].append(apart(measure, url, examples, at_once))
            middle = {name: statistics.median(found) for name, found in rates.items()}
            told = f"{at_once:>10}" + "".join(f"{middle[name]:>12,.0f}" for name in kinds)
            told += f"   {middle['understudy'] / middle['bare']:.2f}"
            if "openai" in middle:
                told += f"   {middle['understudy'] / middle['openai']:.1f} times openai"
            print(told, flush=True)


if __name__ == "__main__":
    given = [int(value) for value in sys.argv[1:]]
    main(given[0] if given else 2000, given[1:] or [64, 256, 1000])
