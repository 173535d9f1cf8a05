"""Which models a project serves, under which names; each is opened when it is first asked.

run:7, run:latest    a trained student; one that a host trained is asked there, and paid for
ft:BASE:...          the name that a fine-tuning job gave to its student
a name of ``bases``  whatever student the settings map it to: ``gpt-3.5-turbo = "hf:org/name"``
tiny                 always there to be trained; there is nothing to talk to before
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from understudy import models
from understudy.errors import UsageError
from understudy.models.local import Local
from understudy.models.protocol import Generation, Piece
from understudy.project.shelf import all_runs, dataset_of, run_named, spec_of
from understudy.project.workplace import Workplace
from understudy.run import AnyRun, HostedRun
from understudy.store import jobs
from understudy.train.recipe import TINY

MOST_OPEN = 4
"""Models in memory at the most, but for those that are being asked."""


class Served(NamedTuple):
    """A name, and what stands behind it."""

    name: str
    """As it is asked for."""
    model: str
    """The model name that it means here: ``run:7``, ``hf:org/name@commit``, ``tiny``."""
    created: int = 0
    """Seconds since 1970; 0 for a base."""
    system_message: str = ""
    """The task's, for requests that bring none."""
    folder: Path | None = None
    """Where a trained student lies; None for a base."""
    remote: str = ""
    """Its model name at the host that trained it; empty for what runs here."""

    @property
    def answers(self) -> bool:
        """False for a student that is made from its data: it can be trained, not asked."""
        return self.model != TINY


def check_bases(bases: Mapping[str, str]) -> None:
    """Raise SetupError if a name is mapped to what can be no student, such as a slip of the pen.

    Neither the hub nor a run is asked for: they may be there later.
    """
    for student in bases.values():
        if student != TINY and not student.startswith("run:") and not models.is_hub_id(student):
            models.local_folder(student)


class Writer(Protocol):
    """A model that writes an answer, whole or piece by piece."""

    async def write(self, generation: Generation) -> Piece:
        """All of an answer; cancelling it ends the writing."""
        ...

    def stream(self, generation: Generation) -> AsyncGenerator[Piece, None]:
        """The pieces of an answer; closing it ends the writing."""
        ...

    async def close(self) -> None:
        """Let go of the memory."""
        ...


@dataclass
class _Open:
    """A model in memory, or on its way there."""

    coming: asyncio.Task[Writer]
    users: int = 0


class Serving:
    """The models of one project."""

    def __init__(self, place: Workplace, *, most_open: int = MOST_OPEN) -> None:
        self.place = place
        self._most_open = most_open
        self._open: dict[str, _Open] = {}  # the one used last is the last
        self._closing: set[asyncio.Task[None]] = set()

    # -- names -----------------------------------------------------------------------------

    def served(self) -> list[Served]:
        """Every name: the newest run first, then the bases."""
        trained = [run for run in reversed(all_runs(self.place)) if run.state == "succeeded"]
        with self.place.database.read() as connection:
            given = [job.model for job in jobs.page(connection) if job.model]
        runs = [run.model for run in trained] + (["run:latest"] if trained else [])
        names = [*runs, *given, *self.place.settings.bases, TINY]
        found = (self.find(name) for name in dict.fromkeys(names))
        return [served for served in found if served is not None]

    def find(self, name: str) -> Served | None:
        """What a name stands for; None if nothing does."""
        student = self.place.settings.bases.get(name, name if name == TINY else "")
        if student and not student.startswith("run:"):
            return Served(name, student)
        run = self._run(student or name)
        return None if run is None else self._student(name, run)

    def _run(self, name: str) -> AnyRun | None:
        if not name.startswith("run:"):
            with self.place.database.read() as connection:
                job = jobs.of_model(connection, name)
            name = "" if job is None else f"run:{job.run_id}"
        try:
            return run_named(self.place, name)
        except UsageError:
            return None

    def _student(self, name: str, run: AnyRun) -> Served:
        if isinstance(run, HostedRun):
            spec = spec_of(self.place, dataset_of(self.place, run))
            return Served(name, run.model, 0, spec.system_message, remote=run.remote)
        folder = run.folder / "model"
        created = int(folder.stat().st_mtime) if folder.is_dir() else 0
        spec = spec_of(self.place, dataset_of(self.place, run))
        return Served(name, run.model, created, spec.system_message, folder)

    # -- models ----------------------------------------------------------------------------

    @asynccontextmanager
    async def opened(self, served: Served) -> AsyncIterator[Writer]:
        """The model, for the length of the block. Raises SetupError if it cannot be opened.

        Whoever asks for one that is on its way waits for it, and keeps nobody else waiting.
        """
        entry = self._open.pop(served.model, None)
        if entry is None or _failed(entry):
            entry = _Open(asyncio.create_task(self._load(served)))
        self._open[served.model] = entry
        entry.users += 1
        try:
            yield await asyncio.shield(entry.coming)
        finally:
            entry.users -= 1
            self._close_the_oldest()

    async def _load(self, served: Served) -> Writer:
        """Open a folder; a model of the hub is fetched first if need be."""
        if served.remote:
            from understudy.project.relaying import Relayed  # it speaks HTTP

            return Relayed(self.place, served.remote)
        folder, offline = served.folder, self.place.settings.offline
        if folder is None:
            folder = await asyncio.to_thread(models.local_folder, served.model, offline=offline)
        return await asyncio.to_thread(Local, folder, name=served.model)

    def _close_the_oldest(self) -> None:
        idle = [name for name, entry in self._open.items() if not entry.users]
        for name in idle[: max(0, len(self._open) - self._most_open)]:
            task = asyncio.create_task(_close(self._open.pop(name)))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Let go of every model."""
        entries, self._open = list(self._open.values()), {}
        await asyncio.gather(*map(_close, entries), *self._closing)


def _failed(entry: _Open) -> bool:
    done = entry.coming.done()
    return done and (entry.coming.cancelled() or entry.coming.exception() is not None)


async def _close(entry: _Open) -> None:
    try:
        model = await entry.coming
    except Exception:  # noqa: BLE001  whoever waited for it was told
        return
    await model.close()
