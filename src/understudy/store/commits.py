"""Group commit: many small writes share one durable transaction; each waits until it is on disk.

Source of the method: DeWitt et al., Implementation Techniques for Main Memory Database Systems,
SIGMOD 1984, section 5.2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa

from understudy.errors import UnderstudyError
from understudy.store.database import Database

T = TypeVar("T")
R = TypeVar("R")
Write = Callable[[sa.Connection, list[Any]], Sequence[Any] | None]


class _Waiting(NamedTuple):
    write: Write
    item: Any
    done: asyncio.Future[Any]


class GroupCommit:
    """Collects writes while a commit runs; the next commit takes them all."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[_Waiting] = []
        self._committing: asyncio.Task[None] | None = None
        # Its own: in the shared one slow work of others may be before it, with the lock held here.
        self._thread = ThreadPoolExecutor(max_workers=1)

    def submit(
        self,
        write: Callable[[sa.Connection, list[T]], Sequence[R | UnderstudyError] | None],
        item: T,
    ) -> asyncio.Future[R]:
        """Have ``write`` called with ``item``, and with the other items that wait for that write.

        It gives one result for each item, or None for all of them. A result that is an
        UnderstudyError is raised to whoever waits for that item. Any other error that ``write``
        raises makes every item be written by itself. A transaction that cannot be committed gives
        every future in it a DiskError or the like.
        """
        done: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(write, item, done))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_all())
        return done

    def submit_one(self, write: Callable[[sa.Connection], R]) -> asyncio.Future[R]:
        """Have ``write`` called once. Raises what it raises."""
        return self.submit(_each, write)

    async def close(self) -> None:
        """Wait until everything submitted is on disk, or has failed."""
        while self._committing is not None:
            await asyncio.wait([self._committing])
        self._thread.shutdown(wait=False)

    async def _commit_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                try:
                    results = await self._write(batch)
                except Exception as error:  # noqa: BLE001 (whoever waits is told)
                    results = [error] * len(batch)
                for one, result in zip(batch, results, strict=True):
                    if one.done.cancelled():
                        continue
                    if isinstance(result, Exception):
                        one.done.set_exception(result)
                    else:
                        one.done.set_result(result)
        finally:
            self._committing = None

    async def _write(self, batch: list[_Waiting]) -> list[Any]:
        """Write here, since a thread would fight for the interpreter at every row; commit there.

        Where somebody else writes, or one of them fails, all of it goes to the thread.
        """
        connection = self._database.try_begin()
        if connection is not None:
            try:
                results = _written(connection, batch)
            except Exception:  # noqa: BLE001 (done again below, where it is told)
                self._database.abandon(connection)
            else:
                await self._in_thread(self._database.finish, connection)
                return results
        return await self._in_thread(self._commit, batch)

    async def _in_thread(self, work: Callable[..., R], *arguments: Any) -> R:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, work, *arguments)

    def _commit(self, batch: list[_Waiting]) -> list[Any]:
        try:
            with self._database.write() as connection:
                return _written(connection, batch)
        except UnderstudyError:
            raise
        except Exception as error:  # noqa: BLE001 (one of them is at fault: each by itself)
            if len(batch) == 1:
                return [error]
            return [result for one in batch for result in self._commit([one])]


def _written(connection: sa.Connection, batch: list[_Waiting]) -> list[Any]:
    """The result of each write; those of one kind are made together."""
    places: dict[Write, list[int]] = {}
    for place, one in enumerate(batch):
        places.setdefault(one.write, []).append(place)
    results: list[Any] = [None] * len(batch)
    for write, theirs in places.items():
        found = write(connection, [batch[place].item for place in theirs])
        for place, result in zip(theirs, found or (), strict=found is not None):
            results[place] = result
    return results


def _each(connection: sa.Connection, writes: list[Callable[[sa.Connection], Any]]) -> list[Any]:
    results: list[Any] = []
    for write in writes:
        try:
            results.append(write(connection))
        except UnderstudyError as error:
            results.append(error)
    return results
