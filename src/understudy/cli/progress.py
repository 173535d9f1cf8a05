"""Progress of a verb: the project's events, read as they come and shown in the way that fits.

A terminal gets a live line; a pipe gets a quiet line per step and one every ten seconds; ``--json``
gets the events themselves, one JSON object a line.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from understudy.cli.words import Bar, bar, line, printable
from understudy.run import Event

if TYPE_CHECKING:
    from understudy.project import Project

POLL_S = 0.15
QUIET_S = 10.0
"""Seconds between two progress lines in a pipe."""


@contextmanager
def following(project: Project, *, as_json: bool, quiet: bool) -> Iterator[Follower]:
    """Show the project's events for the length of the block."""
    shown = _Nothing()
    if as_json:
        shown = _Json()
    elif not quiet:
        shown = _Terminal() if sys.stderr.isatty() else _Lines()
    follower = Follower(project, shown)
    done = threading.Event()

    def follow() -> None:
        with suppress(BrokenPipeError):  # the verb itself finds that out when it ends
            while not done.wait(POLL_S):
                follower.catch_up()
            follower.catch_up()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield follower
    finally:
        done.set()
        thread.join(5)
        shown.stop()


class Follower:
    """Shows events in order, each once, whichever thread asks."""

    def __init__(self, project: Project, shown: _Nothing) -> None:
        self._project, self._shown = project, shown
        self._seq = project.last_event()
        self._looking = threading.RLock()

    def catch_up(self) -> None:
        """Show what has happened until now."""
        with self._looking:
            for event in self._project.events(self._seq):
                self._seq = event.seq
                self._shown.take(event)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Leave the terminal alone for the length of the block: somebody is asked something."""
        with self._looking:
            self.catch_up()
            self._shown.stop()
            try:
                yield
            finally:
                self._shown.start()


class _Nothing:
    """Shows nothing; what the others build on."""

    _score: float | None = None

    def bar(self, event: Event) -> Bar | None:
        """How far the step is; a training's step has the score of the last evaluation beside it."""
        if event.kind in ("train.start", "train.trial"):
            self._score = None
        elif event.kind == "train.evaluation":
            self._score = event.data["score"]
        elif event.kind == "train.step":
            event = replace(event, data={"score": self._score, **event.data})
        return bar(event)

    def take(self, event: Event) -> None:
        """Show one event."""

    def start(self) -> None:
        """Take the terminal (again)."""

    def stop(self) -> None:
        """Let go of the terminal."""


class _Json(_Nothing):
    def take(self, event: Event) -> None:
        body = {"event": event.kind, "at": event.at, **event.data}
        print(json.dumps(body, ensure_ascii=False), flush=True)


class _Lines(_Nothing):
    """Lines for a pipe or a log."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def take(self, event: Event) -> None:
        text = line(event)
        state = self.bar(event)
        if state is not None and time.monotonic() - self._told > QUIET_S:
            self._told = time.monotonic()
            text = f"{state.label} {state.done:,}/{state.total:,} {state.beside}"
        if text:
            print(printable(text).rstrip(), file=sys.stderr, flush=True)


class _Terminal(_Nothing):
    """One live bar below the lines."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[beside]}", markup=False),
            console=Console(stderr=True, highlight=False),
            transient=True,
        )
        self._tasks: dict[str, int] = {}
        self.start()

    def take(self, event: Event) -> None:
        text = line(event)
        if text:
            self._clear()
            self._progress.console.print(printable(text), markup=False)
        state = self.bar(event)
        if state is None:
            return
        if state.label not in self._tasks:
            self._clear()
            self._tasks[state.label] = self._progress.add_task(state.label, beside="")
        self._progress.update(
            self._tasks[state.label],  # type: ignore[arg-type]
            completed=state.done,
            total=state.total,
            beside=state.beside,
        )

    def start(self) -> None:
        self._progress.start()

    def stop(self) -> None:
        self._clear()
        self._progress.stop()

    def _clear(self) -> None:
        for number in self._tasks.values():
            self._progress.remove_task(number)  # type: ignore[arg-type]
        self._tasks.clear()
