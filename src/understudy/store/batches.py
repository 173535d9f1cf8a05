"""Calls handed to the provider in batches, at half the price, to be fetched within a day.

    new -> uploaded -> created -> validating, in_progress, finalizing -> completed | expired | ...

Each step is on disk before the next begins, so that a process may die anywhere:

    the rows, their reserve and the file of requests are written down first (batch_files.py);
    the uploaded file's id is stored before the batch is created; uploading again costs nothing;
    a batch over that file is looked for before a second one is created: the first one's reply may
    have been lost;
    the batch's id is stored before anybody waits for it;
    what comes back is booked line by line, each once (batch_replies.py).

A batch is open as long as a row of it is ``batched``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from understudy.errors import ProviderRefused, UsageError
from understudy.models.batches import ENDED, Batch, BatchEndpoint, Gone
from understudy.models.protocol import Lost, Request, Unpaid
from understudy.money import Price
from understudy.store import account, calls
from understudy.store.batch_files import Buyer, disk_errors, hold, requests_file
from understudy.store.batch_replies import Brought, lines_of
from understudy.store.calls import Row, Sent
from understudy.store.costs import Costs
from understudy.store.database import Database
from understudy.store.schema import batch

T = TypeVar("T")
FIRST_WAIT_S, MOST_WAIT_S, GROWTH = 1.0, 60.0, 1.5
"""Seconds between two looks at a batch: the first, the longest, and how they grow."""
TRIES = 6
"""Times that a file is sent or fetched, or a batch asked for, before the command gives up."""


@dataclass
class Batches:
    """The batches of one project at one endpoint; ``price`` is that of batches.

    ``dearer`` and ``resend_unknown`` are the ledger's.
    """

    database: Database
    folder: Path
    endpoint: BatchEndpoint
    price: Price
    max_attempts: int
    resend_unknown: bool = False
    dearer: Callable[[str], Price | None] = lambda _: None
    say: Callable[..., None] = lambda *_, **__: None
    given_up: dict[str, str] = field(default_factory=dict)
    """Keys of calls that failed for good, or ``max_attempts`` times, with the reason."""
    _failures: Counter[str] = field(default_factory=Counter)

    def goes_out(self, row: Row) -> bool:
        """True if a call with this newest row may be bought again."""
        return calls.goes_out(row, resend_unknown=self.resend_unknown)

    def hold(self, requests: Sequence[Request]) -> int:
        """Write requests down as new batches. All or nothing: raises BudgetReached, DiskError."""
        buyer = Buyer(self.folder, self.endpoint, self.price, self.resend_unknown)
        return hold(self.database, buyer, requests)

    async def see_through(self) -> int:
        """Hand over every open batch, wait for it, store what it brings; how many there were.

        Raises ProviderRefused if the provider refuses a batch or somebody cancelled it there: all
        that came is booked before.
        """
        with self.database.read() as connection:
            found = account.open_batches(connection, self.endpoint.identity)
        handed = [row.provider_id or await self._handed_over(row) for row in found]
        for row, provider_id in zip(found, handed, strict=True):
            await self._brought_home(row, provider_id)
        return len(found)

    # -- out -------------------------------------------------------------------------------

    async def _handed_over(self, row: Row) -> str:
        """The provider's id of the batch, which is stored."""
        path, input_file = requests_file(self.folder, row.id), row.input_file
        if not input_file:
            input_file = await self._patiently(lambda: self._uploaded(row, path))
            self._store(row.id, input_file=input_file)
        path.unlink(missing_ok=True)
        created = await self._created(row, input_file, may_be_there=bool(row.input_file))
        self._store(row.id, provider_id=created.id, state=created.state)
        self.say("batch.sent", batch=row.id, provider_id=created.id, requests=row.requests)
        return created.id

    async def _uploaded(self, row: Row, path: Path) -> str:
        with self._given_back_if_refused(row):
            try:
                return await self.endpoint.upload(path)
            except FileNotFoundError:
                fix = "The same command writes it anew"
                raise ProviderRefused(f"{path} is gone", fix) from None

    async def _created(self, row: Row, input_file: str, *, may_be_there: bool) -> Batch:
        """The one batch over that file: found if a lost reply hides it, else created."""
        about = f"batch {row.id} of {row.at}: {row.requests} requests"

        async def create() -> Batch:
            nonlocal may_be_there
            if may_be_there and (found := await self.endpoint.find(input_file)):
                return found
            try:
                with self._given_back_if_refused(row):
                    return await self.endpoint.create(input_file, about)
            except Lost:
                may_be_there = True
                raise

        return await self._patiently(create)

    @contextmanager
    def _given_back_if_refused(self, row: Row) -> Iterator[None]:
        """Free the calls of a batch that the provider has not taken and will not take."""
        try:
            yield
        except (ProviderRefused, UsageError, Unpaid) as error:
            if not (isinstance(error, Unpaid) and error.again):
                self._brought(row).free_rest(error.what)
                self._store(row.id, state="refused")
                requests_file(self.folder, row.id).unlink(missing_ok=True)
            raise

    # -- back ------------------------------------------------------------------------------

    async def _brought_home(self, row: Row, provider_id: str) -> None:
        brought = self._brought(row)
        try:
            ended = await self._fetched(row, provider_id, brought)
        except Gone as error:
            if not self.resend_unknown:
                raise
            brought.lose_rest(error.what)
            return
        self._store(row.id, state=ended.state)
        self.say(
            "batch.done",
            batch=row.id,
            state=ended.state,
            answers=brought.answered,
            failures=dict(brought.reasons),
            strangers=len(brought.strangers),
        )
        if ended.state == "failed":
            why = ended.error or "it does not say why"
            raise ProviderRefused(f"the provider refused batch {provider_id}: {why}")
        if brought.refused is not None and not brought.answers:
            raise brought.refused
        if ended.state == "cancelled":
            raise ProviderRefused(
                f"batch {provider_id} was cancelled; {brought.answered:,} answers are kept",
                "The same command sends the others again",
            )

    async def _ended(self, row: Row, provider_id: str) -> Batch:
        """Wait until the provider has ended it, however often it cannot be asked."""
        state, done, wait = row.state, -1, FIRST_WAIT_S
        while True:
            found = await self._patiently(lambda: self.endpoint.get(provider_id), tries=None)
            if found.state != state:
                state = found.state
                self._store(row.id, state=state)
            if done != found.completed + found.failed:
                done = found.completed + found.failed
                self.say("batch.progress", batch=row.id, state=state, done=done, total=row.requests)
            if state in ENDED:
                return found
            await asyncio.sleep(wait)
            wait = min(wait * GROWTH, MOST_WAIT_S)

    async def _fetched(self, row: Row, provider_id: str, brought: Brought) -> Batch:
        """Wait for the end; book every line there is, and then the calls of which there is none."""
        path = requests_file(self.folder, row.id).with_suffix(".replies")
        wait = FIRST_WAIT_S
        for _ in range(TRIES):
            ended, whole = await self._ended(row, provider_id), True
            for file_id in ended.files:
                await self._downloaded(file_id, path)
                with disk_errors(self.folder):
                    whole = brought.book(path) and whole
                    path.unlink()
            if whole and len(brought.answers) >= ended.completed:
                break
            await asyncio.sleep(wait)  # the files may come a little later than the end
            wait = min(wait * GROWTH, MOST_WAIT_S)
        if ended.completed and not ended.files:
            told = f"batch {provider_id} has {ended.completed:,} answers, but no file of them"
            raise ProviderRefused(told, "Nothing is lost: the same command looks again")
        counted = ended.state != "completed" or ended.total
        if counted and len(brought.answers) >= ended.completed:
            brought.free_rest(f"the batch {ended.state} without it")
        else:
            brought.lose_rest("paid for perhaps, but in no file of its batch")
        return ended

    async def _downloaded(self, file_id: str, path: Path) -> None:
        await self._patiently(lambda: self.endpoint.download(file_id, path))

    def _brought(self, row: Row) -> Brought:
        with self.database.read() as connection:
            waiting, booked = lines_of(connection, row.id)
        costs = Costs(self.endpoint, self.price, self.dearer, self.say)
        return Brought(self.database, self.endpoint, costs, self._failed, waiting, booked)

    # -- failures --------------------------------------------------------------------------

    def _failed(self, sent: Sent, why: str, for_good: bool) -> None:  # noqa: FBT001
        self._failures[sent.key] += 1
        if for_good or self._failures[sent.key] >= self.max_attempts:
            self.given_up[sent.key] = why

    async def _patiently(self, ask: Callable[[], Awaitable[T]], tries: int | None = TRIES) -> T:
        """Ask again after a failure that may pass; endlessly if ``tries`` is None.

        Raises ProviderRefused after the last try.
        """
        wait, tried = FIRST_WAIT_S, 0
        while True:
            try:
                return await ask()
            except (Unpaid, Lost) as error:
                tried += 1
                if isinstance(error, Unpaid) and not error.again:
                    raise
                if tried == tries:
                    fix = "Nothing is lost: the same command goes on with the batch"
                    raise ProviderRefused(error.what, fix) from None
                asked_for = error.wait_s if isinstance(error, Unpaid) and error.wait_s else 0.0
            await asyncio.sleep(max(wait, min(asked_for, MOST_WAIT_S)))
            wait = min(wait * GROWTH, MOST_WAIT_S)

    def _store(self, number: int, **values: str) -> None:
        with self.database.write() as connection:
            connection.execute(batch.update().where(batch.c.id == number).values(values))
