"""Opening a project's database: WAL, durable commits, one kind of write transaction, migrations.

Readers and the writer have an engine each. Every write transaction is ``BEGIN IMMEDIATE``: a
deferred one that reads before it writes fails with "database is locked" under a second writer,
whatever the time-out. Source: https://sqlite.org/lang_transaction.html
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from understudy.errors import DiskError, ProjectBusy, ProjectError, UnderstudyError
from understudy.store.schema import VERSION

BUSY_TIMEOUT_MS = 10_000


def now() -> str:
    """UTC time, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Database:
    """One SQLite file. ``read`` and ``write`` give a connection for the length of a block."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = self._engine("BEGIN")
        self._writer = self._engine("BEGIN IMMEDIATE")

    def _engine(self, begin: str) -> sa.Engine:
        engine = sa.create_engine(
            f"sqlite:///{self.path}", connect_args={"check_same_thread": False}
        )

        @sa.event.listens_for(engine, "connect")
        def _connect(connection: Any, _record: Any) -> None:
            connection.isolation_level = None  # we say BEGIN ourselves
            connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")

        @sa.event.listens_for(engine, "begin")
        def _begin(connection: sa.Connection) -> None:
            connection.exec_driver_sql(begin)

        return engine

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A consistent view. Raises DiskError, ProjectError."""
        with translated(self.path), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One transaction: all of it is on disk after the block, or none of it."""
        with translated(self.path), self._writer.begin() as connection:
            yield connection

    def close(self) -> None:
        """Let go of every connection."""
        self._reader.dispose()
        self._writer.dispose()

    def version(self) -> int:
        """Number of the newest migration applied; 0 for an empty file."""
        with self.read() as connection:
            return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())

    def migrate(self) -> None:
        """Bring the tables up to date in one transaction, after a copy of the file.

        Raises ProjectError if a newer version of understudy wrote it.
        """
        found = self.version()
        if found > VERSION:
            raise ProjectError(
                f"{self.path.parent} was written by a newer understudy "
                f"(format {found}, this one knows {VERSION})",
                "Upgrade: pip install -U understudy",
            )
        if found == VERSION:
            return
        if found:
            self._copy(self.path.with_name(f"{self.path.name}.format{found}"))
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self.write() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.exec_driver_sql(f"PRAGMA user_version={VERSION}")

    def _copy(self, target: Path) -> None:
        with sqlite3.connect(self.path) as source, sqlite3.connect(target) as copy:
            source.backup(copy)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what SQLite says into our errors, each with what to do."""
    try:
        yield
    except exc.DBAPIError as error:
        raise _meaning(error.orig, path) from error
    except sqlite3.Error as error:
        raise _meaning(error, path) from error


def _meaning(error: BaseException | None, path: Path) -> UnderstudyError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return DiskError(f"the disk of {path.parent} is full", "Free some space; then run it again")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return DiskError(f"{path.parent} cannot be written", "Check its permissions and its disk")
    if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOLFS):
        return DiskError(
            f"reading or writing {path} failed: {error}", "Check the disk and its quota"
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return ProjectBusy(f"another program holds {path}", "Close it; then run this again")
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return ProjectError(f"{path} is damaged: {error}", "Restore it from a copy")
    return ProjectError(f"{path} does not fit this version: {error}", "`understudy doctor` looks")
