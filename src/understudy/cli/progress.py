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
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Protocol

from understudy.cli.words import bar, line, printable
from understudy.run import Event

if TYPE_CHECKING:
    from understudy.project import Project

POLL_S = 0.15
QUIET_S = 10.0
"""Seconds between two progress lines in a pipe."""


@contextmanager
def following(project: Project, *, as_json: bool, quiet: bool) -> Iterator[Shown]:
    """Show the project's events for the length of the block."""
    if quiet and not as_json:
        yield _Nothing()
        return
    shown = _Json() if as_json else _Terminal() if sys.stderr.isatty() else _Lines()
    done = threading.Event()
    seq = project.last_event()

    def follow() -> None:
        with suppress(BrokenPipeError):  # the verb itself finds that out when it ends
            look()

    def look() -> None:
        nonlocal seq
        while True:
            last_look = done.wait(POLL_S)
            for event in project.events(seq):
                seq = event.seq
                shown.take(event)
            if last_look:
                return

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield shown
    finally:
        done.set()
        thread.join(5)
        shown.end()


class Shown(Protocol):
    """A way to show events."""

    def take(self, event: Event) -> None:
        """Show one."""

    def pause(self) -> AbstractContextManager[None]:
        """Leave the terminal alone for the length of the block: somebody is asked something."""

    def end(self) -> None:
        """Show no more."""


class _Nothing:
    def take(self, event: Event) -> None:
        pass

    def pause(self) -> AbstractContextManager[None]:
        return nullcontext()

    def end(self) -> None:
        pass


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
        state = bar(event)
        if state is not None and time.monotonic() - self._told > QUIET_S:
            self._told = time.monotonic()
            text = f"{state.label} {state.done:,}/{state.total:,} {state.beside}"
        if text:
            print(printable(text).rstrip(), file=sys.stderr, flush=True)


class _Terminal:
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
        self._progress.start()
        self._tasks: dict[str, int] = {}

    def take(self, event: Event) -> None:
        text = line(event)
        if text:
            self._clear()
            self._progress.console.print(printable(text), markup=False)
        state = bar(event)
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

    @contextmanager
    def pause(self) -> Iterator[None]:
        time.sleep(2 * POLL_S)  # what was said before the question comes before it
        self._progress.stop()
        try:
            yield
        finally:
            self._progress.start()

    def _clear(self) -> None:
        for number in self._tasks.values():
            self._progress.remove_task(number)  # type: ignore[arg-type]
        self._tasks.clear()

    def end(self) -> None:
        self._clear()
        self._progress.stop()
