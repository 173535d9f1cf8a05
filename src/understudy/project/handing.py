"""One training at a host: handed over once, followed to its end, booked as it was.

Each step is on disk before the next begins, so that this process may die anywhere, and a reply may
be lost anywhere: what may be there already is looked for before it is sent again, files by their
names, the job by its mark. A host may list a thing a while after it was made; so it is looked for
more than once before it counts as not there.

Whatever fails while the job runs passes, or is the host's affair: it is asked again, endlessly, a
little less often each time. Only the host's own word ends a job.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from sqlalchemy import Connection

from understudy.errors import PartlyDone, ProviderRefused, UnderstudyError
from understudy.models.protocol import CallFailed, Lost, Unpaid
from understudy.project.chat_files import chat_file
from understudy.project.settling import booked, dropped
from understudy.project.workplace import Workplace
from understudy.run import Event, HostedRun
from understudy.store import events, hosted, runs
from understudy.store.hosted import Handed
from understudy.train.hosted import ENDED, Closed, Gone, Happening, Host, Job, Order

T = TypeVar("T")
LOOK_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each look for what may have been made; after the last it counts as not there."""
TRIES = 6
"""Times that a file or a job is sent before the command gives up."""
FIRST_WAIT_S, MOST_WAIT_S, GROWTH = 0.5, 30.0, 1.5
"""Seconds between two looks at a job: the first, the longest, and how they grow."""
TROUBLE_WAIT_S = 120.0
"""The longest while the host cannot be asked."""
GONE_LOOKS = 8
"""Times in a row that a host must not know a job before it is lost."""


@dataclass
class Handing:
    """One run at its host."""

    place: Workplace
    host: Host
    run: HostedRun
    _steps: int | None = None
    """Optimizer steps in all, once the host has told."""
    _no_events: bool = False
    _started: float = field(default_factory=time.monotonic)

    async def see_through(self) -> HostedRun:
        """Hand over, follow, book; the run as it ended.

        Raises UnderstudyError if the job failed or was cancelled, PartlyDone if it is paused,
        ProviderRefused if the host does not take it.
        """
        handed = self._handed()
        if handed.step in ("held", "creating"):
            handed = await self._hand_over(handed)
        job = await self._ended(handed)
        return await self._book(job)

    async def act(self, what: str) -> HostedRun:
        """Cancel, pause or resume it at the host. Raises UsageError where that cannot be."""
        handed = self._handed()
        job = await self._patiently(lambda: self.host.act(handed.job, what))  # type: ignore[arg-type]
        self._take_state(job)
        return self.run

    async def find(self) -> Job | None:
        """The job at the host, if it was made although its id never came."""
        handed = self._handed()
        if handed.job:
            return await self._patiently(lambda: self.host.job(handed.job))
        if handed.step == "held":
            return None
        order = self._order(handed)
        found = await self._looked_for(lambda: self.host.job_of(order))
        if found is not None:
            self._created(found)
        return found

    # -- out -------------------------------------------------------------------------------

    async def _hand_over(self, handed: Handed) -> Handed:
        try:
            for split, file in handed.files.items():
                if not file.id:
                    await self._uploaded(split)
            job = await self._made()
        except (Closed, Unpaid) as error:  # it has none, and will make none of this
            self.run = dropped(self.place, self.run, "failed", error.what)
            raise
        except Gone as error:
            raise ProviderRefused(error.what, "The same command sends it again") from None
        self._created(job)
        return self._handed()

    async def _uploaded(self, split: str) -> None:
        """The one file of that name at the host."""
        file = self._handed().files[split]
        path, digest = chat_file(self.place, self.run.dataset_id, split)
        if digest != file.sha256:
            raise UnderstudyError(
                f"{path} is not what it was when {self.run.model} began",
                f"Cancel it: understudy train --cancel {self.run.model}",
            )
        self._say("hosted.upload", file=file.name, bytes=path.stat().st_size)
        made = await self._once(
            may_be_there=file.sent,
            note=lambda: self._note_file(split, sent=True),
            find=lambda: self.host.file_named(file.name),
            send=lambda: self.host.upload(path, file.name),
        )
        self._note_file(split, id=made)

    async def _made(self) -> Job:
        """The one job of this run at the host; a file that the host lost is sent once more."""
        for again in (False, True):
            handed = self._handed()
            order = self._order(handed)
            try:
                return await self._once(
                    may_be_there=handed.step == "creating",
                    note=lambda: self._change(step="creating"),
                    find=lambda order=order: self.host.job_of(order),  # type: ignore[misc]
                    send=lambda order=order: self.host.create(order),  # type: ignore[misc]
                )
            except Gone:
                if again:
                    raise
                await self._send_lost_files()
        raise AssertionError

    async def _send_lost_files(self) -> None:
        self._say("hosted.forgot", what="a file")
        for split, file in self._handed().files.items():
            there = await self._looked_for(lambda file=file: self.host.file_named(file.name))  # type: ignore[misc]
            self._note_file(split, sent=there is not None, id=there or "")
            if there is None:
                await self._uploaded(split)

    def _order(self, handed: Handed) -> Order:
        files = {split: file.id for split, file in handed.files.items()}
        return Order(
            handed.mark,
            self.host.address.model,
            files["train"],
            files.get("validation", ""),
            self.run.recipe,
        )

    async def _once(
        self,
        *,
        may_be_there: bool,
        note: Callable[[], None],
        find: Callable[[], Awaitable[T | None]],
        send: Callable[[], Awaitable[T]],
    ) -> T:
        """The thing at the host: found if it may be there, else sent."""

        async def found_or_sent() -> T:
            nonlocal may_be_there
            if may_be_there and (found := await self._looked_for(find)) is not None:
                return found
            note()
            try:
                return await send()
            except Lost:
                may_be_there = True
                raise

        return await self._patiently(found_or_sent, tries=TRIES)

    async def _looked_for(self, find: Callable[[], Awaitable[T | None]]) -> T | None:
        """What may have been made; None: it was not. Raises ProviderRefused if nobody can tell."""
        for wait in LOOK_S:
            await asyncio.sleep(wait)
            try:
                found = await self._patiently(find, tries=TRIES)
            except (Closed, Unpaid) as error:
                fix = "What was sent may be there; the same command looks again"
                raise ProviderRefused(error.what, fix) from None
            if found is not None:
                return found
        return None

    # -- there -----------------------------------------------------------------------------

    async def _ended(self, handed: Handed) -> Job:
        """Wait until the host has ended the job, however often it cannot be asked."""
        wait, strangers = FIRST_WAIT_S, 0
        while True:
            try:
                job = await self._patiently(lambda: self.host.job(handed.job), tries=None)
            except Gone as error:
                strangers += 1
                if strangers == GONE_LOOKS:
                    return Job(handed.job, "failed", "gone", error=error.what)
            else:
                strangers = 0
                news = await self._take_over(job)
                if job.state in ENDED:
                    return job
                if job.state == "paused":
                    raise PartlyDone(
                        f"{self.run.model} is paused at the host",
                        f"understudy train --resume {self.run.model}",
                    )
                wait = FIRST_WAIT_S if news else wait
            await asyncio.sleep(wait)
            wait = min(wait * GROWTH, MOST_WAIT_S)

    async def _take_over(self, job: Job) -> bool:
        """Make the host's events the project's; whether there was anything new."""
        changed = self._take_state(job)
        happened = await self._events(job)
        self._tell(happened)
        return changed or bool(happened)

    async def _events(self, job: Job) -> list[Happening]:
        if self._no_events:
            return []
        seen, last = self._handed().seen, job.state in ENDED
        try:
            return await self._patiently(
                lambda: self.host.events(job.id, seen), tries=TRIES if last else 1
            )
        except Gone:
            self._no_events = True  # the host keeps none
        except (CallFailed, ProviderRefused):
            pass  # they come with the next look; behind the last one, only what it cost counts
        return []

    def _tell(self, happened: Iterable[Happening]) -> None:
        told = [(one, self._event(one)) for one in happened]
        if not told:
            return
        done = max([one.step or 0 for one, _ in told])
        handed = self._handed()

        def write(connection: Connection) -> None:
            events.add(connection, *(event for _, event in told))
            steps = max(done, handed.steps)
            hosted.change(connection, handed, seen=told[-1][0].id, steps=steps)

        self._write(write)

    def _event(self, one: Happening) -> Event:
        self._steps = one.steps or self._steps
        if one.step is None:
            data: dict[str, Any] = {"message": one.message, "level": one.level}
            return Event("hosted.event", {"run": self.run.id, **data})
        data = {"step": one.step, "steps": self._steps or one.step, "loss": one.loss}
        if one.valid_loss is not None:
            data["valid_loss"] = one.valid_loss
        return Event("train.step", {"run": self.run.id, **data})

    def _take_state(self, job: Job) -> bool:
        """Store what the host says of the state; whether it is new.

        Not of a run that another process has booked meanwhile: that is what it is.
        """
        state = job.state if job.state not in ENDED else self.run.state
        state = "running" if state == "queued" else state
        with self.place.database.write() as connection:
            handed = hosted.of(connection, self.run)
            known = (handed.told, self.run.state) == (job.told, state)
            if known or handed.step == "ended":
                return False
            self.run = replace(self.run, state=state)
            runs.set_run(connection, self.run)
            hosted.change(connection, handed, told=job.told)
        self._say("hosted.state", job=job.id, told=job.told)
        return True

    async def _book(self, job: Job) -> HostedRun:
        """The end, in the ledger and in the run. Raises UnderstudyError unless it succeeded."""
        kept = []
        if job.state == "succeeded":
            try:
                kept = await self.host.checkpoints(job.id)
            except (CallFailed, ProviderRefused):
                kept = []  # they are a help, and nothing hangs on them
        seconds = round(time.monotonic() - self._started, 1)
        self.run, error = booked(self.place, self.host, self.run, job, kept, seconds)
        if error is not None:
            raise error
        return self.run

    # -- asking ----------------------------------------------------------------------------

    async def _patiently(self, ask: Callable[[], Awaitable[T]], tries: int | None = 3) -> T:
        """Ask again after a failure that may pass; endlessly if ``tries`` is None."""
        wait, tried = FIRST_WAIT_S, 0
        while True:
            try:
                result = await ask()
            except Gone:
                raise
            except (Unpaid, Lost) as error:
                tried += 1
                if isinstance(error, Unpaid) and not error.again:
                    raise
                if tried == tries:
                    fix = "Nothing is made twice: the same command goes on"
                    raise ProviderRefused(error.what, fix) from None
                if tried in (1, 10) or tried % 100 == 0:
                    self._say("hosted.trouble", what=error.what, times=tried)
                asked_for = error.wait_s if isinstance(error, Unpaid) and error.wait_s else 0.0
            else:
                if tried:
                    self._say("hosted.answers", times=tried)
                return result
            await asyncio.sleep(max(wait, min(asked_for, TROUBLE_WAIT_S)))
            wait = min(wait * GROWTH, TROUBLE_WAIT_S)

    # -- memory ----------------------------------------------------------------------------

    def _handed(self) -> Handed:
        with self.place.database.read() as connection:
            return hosted.of(connection, self.run)

    def _change(self, **values: Any) -> None:
        handed = self._handed()
        self._write(lambda connection: hosted.change(connection, handed, **values))

    def _note_file(self, split: str, **values: Any) -> None:
        files = dict(self._handed().files)
        files[split] = replace(files[split], **values)
        self._change(files=files)

    def _created(self, job: Job) -> None:
        self._change(step="created", job=job.id)
        self._say("hosted.created", job=job.id, told=job.told)
        self._take_state(job)

    def _write(self, work: Callable[[Connection], object]) -> None:
        with self.place.database.write() as connection:
            work(connection)

    def _say(self, kind: str, **data: Any) -> None:
        self.place.say(kind, run=self.run.id, **data)
