"""Memory and speed of generating many examples: the whole of `generate`, with its cleaning.

Against a teacher of 10 ms on loopback, in a process of its own for each size; the smaller one is
the reference. For every 10,000 examples a line: how many a second, and the memory until then.

    .venv/bin/python bench/memory.py [EXAMPLES] [REFERENCE]
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from generation import prepare, teacher

from understudy.project import Project
from understudy.run import Event

LATENCY_S, IN_FLIGHT, STEP, EVERY_S = 0.01, 64, 10_000, 0.1


class Measured(NamedTuple):
    """What one process found; memory in MB, times in seconds."""

    start_mb: float
    peak_mb: float
    seconds: float
    generating: float
    cleaning: float
    steps: list[tuple[int, float, float]]
    """Examples until then, how many a second since the step before, highest memory so far."""


class Watch(threading.Thread):
    """Looks at the resident memory again and again."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: list[tuple[float, float]] = []

    def run(self) -> None:
        """Until the process ends."""
        while True:
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
            self.seen.append((time.time(), pages * os.sysconf("SC_PAGE_SIZE") / 2**20))
            time.sleep(EVERY_S)

    def until(self, moment: float) -> float:
        """Highest memory until then."""
        return max(memory for at, memory in self.seen if at <= moment + EVERY_S)


def measure(url: str, examples: int) -> Measured:
    """Generate so many in a new project folder."""
    flags = {
        "teacher": f"{url}#m",
        "price_in": 0.5,
        "price_out": 2.0,
        "concurrency": IN_FLIGHT,
        "timeout": 60,
    }
    with tempfile.TemporaryDirectory() as folder:
        project = Project.new(Path(folder, "p"), "Say what the e-mail is about", flags)
        prepare(project)
        watch, start = Watch(), peak()
        watch.start()
        began, started = time.time(), time.perf_counter()
        made = project.generate(examples)
        seconds = time.perf_counter() - started
        highest = peak()
        assert made.made == examples, made
        happened = list(every_event(project))
        project.close()
    ends = {event.kind: moment(event) for event in happened}
    return Measured(
        start,
        highest,
        seconds,
        ends["generate.done"] - began,
        ends["clean.done"] - ends["generate.done"],
        list(steps(happened, watch, began)),
    )


def steps(happened: list[Event], watch: Watch, began: float) -> Iterator[tuple[int, float, float]]:
    """Every so many examples, from what `generate` told."""
    before, at = 0, began
    for event in happened:
        if event.kind == "generate.progress" and event.data["made"] // STEP > before // STEP:
            made, now = event.data["made"], moment(event)
            yield made, (made - before) / (now - at), watch.until(now)
            before, at = made, now


def every_event(project: Project) -> Iterator[Event]:
    """All events, oldest first; they are read a thousand at a time."""
    seen = 0
    while found := project.events(seen):
        yield from found
        seen = found[-1].seq or 0


def moment(event: Event) -> float:
    """Seconds since 1970."""
    return datetime.fromisoformat(event.at or "").timestamp()


def peak() -> float:
    """Highest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_a_process(url: str, examples: int) -> Measured:
    """Measure in a fresh one, so that the memory is that of these examples alone."""
    command = [sys.executable, __file__, url, str(examples)]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return Measured(*json.loads(found.splitlines()[-1]))


def report(examples: int, found: Measured) -> None:
    """Print one size."""
    print(f"{examples:,} examples: {found.start_mb:.0f} MB at the start")
    for made, rate, memory in found.steps:
        print(f"  {made:>9,}  {rate:>7,.0f} examples/s  {memory:>6.0f} MB", flush=True)
    print(
        f"  {found.seconds:.1f} s in all: generating {found.generating:.1f} s, cleaning "
        f"{found.cleaning:.1f} s; {found.seconds / examples * 1e6:,.0f} us an example; "
        f"peak {found.peak_mb:.0f} MB",
        flush=True,
    )


def main(examples: int, reference: int) -> None:
    """Measure both sizes, and print the ratios."""
    with teacher(LATENCY_S) as url:
        few = in_a_process(url, reference)
        report(reference, few)
        many = in_a_process(url, examples)
        report(examples, many)
    slower = (many.seconds / examples) / (few.seconds / reference)
    more = many.peak_mb - few.peak_mb
    print(f"time an example {slower:.2f} times the reference's; memory {more:+.0f} MB")


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[1].startswith("http"):
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
    else:
        given = [int(value) for value in sys.argv[1:]]
        main(*(given + [100_000, 10_000][len(given) :]))
