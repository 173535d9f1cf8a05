"""Group commit: many small writes share one durable transaction; each waits until it is on disk.

Source of the method: DeWitt et al., Implementation Techniques for Main Memory Database Systems,
SIGMOD 1984, section 5.2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa

from understudy.errors import UnderstudyError
from understudy.store.database import Database

T = TypeVar("T")
Write = Callable[[sa.Connection], Any]


class GroupCommit:
    """Collects writes while a commit runs; the next commit takes them all."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[tuple[Write, asyncio.Future[Any]]] = []
        self._committing: asyncio.Task[None] | None = None

    def submit(self, write: Callable[[sa.Connection], T]) -> asyncio.Future[T]:
        """Have ``write`` run in a transaction; the future has its value once that is on disk.

        ``write`` may raise an UnderstudyError: only its future gets it, and what it wrote stays.
        Any other error undoes that write alone. A transaction that cannot be committed gives every
        future in it a DiskError or the like.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((write, done))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_all())
        return done

    async def drain(self) -> None:
        """Wait until everything submitted is on disk, or has failed."""
        while self._committing is not None:
            await asyncio.wait([self._committing])

    async def _commit_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                try:
                    results = await asyncio.to_thread(self._commit, [write for write, _ in batch])
                except Exception as error:  # noqa: BLE001 (whoever waits is told)
                    results = [error] * len(batch)
                for (_, done), result in zip(batch, results, strict=True):
                    if done.cancelled():
                        continue
                    if isinstance(result, Exception):
                        done.set_exception(result)
                    else:
                        done.set_result(result)
        finally:
            self._committing = None

    def _commit(self, writes: list[Write]) -> list[Any]:
        try:
            return self._transaction(writes)
        except UnderstudyError:
            raise
        except Exception as error:  # noqa: BLE001 (one of them is at fault: each by itself)
            if len(writes) == 1:
                return [error]
            return [result for write in writes for result in self._commit([write])]

    def _transaction(self, writes: list[Write]) -> list[Any]:
        results: list[Any] = []
        with self._database.write() as connection:
            for write in writes:
                try:
                    results.append(write(connection))
                except UnderstudyError as error:
                    results.append(error)
        return results
