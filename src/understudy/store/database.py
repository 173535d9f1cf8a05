"""Opening a project's database: WAL, durable commits, one kind of write transaction, migrations.

Readers and the writer have an engine each. Every write transaction is ``BEGIN IMMEDIATE``: a
deferred one that reads before it writes fails with "database is locked" under a second writer,
whatever the time-out. Source: https://sqlite.org/lang_transaction.html
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
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
        # Threads of this process queue for the one writer here; SQLite would have them sleep.
        self._one_writer = threading.Lock()
        self._reader = self._engine("BEGIN")
        self._writer = self._engine("BEGIN IMMEDIATE")
        self._at_once = self._engine("BEGIN IMMEDIATE", busy_timeout_ms=0)

    def _engine(self, begin: str, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> sa.Engine:
        engine = sa.create_engine(
            f"sqlite:///{self.path}", connect_args={"check_same_thread": False}
        )

        @sa.event.listens_for(engine, "connect")
        def _connect(connection: Any, _record: Any) -> None:
            connection.isolation_level = None  # we say BEGIN ourselves
            connection.execute(f"PRAGMA busy_timeout={busy_timeout_ms}")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            if begin == "BEGIN":
                connection.execute("PRAGMA query_only=ON")  # a reader that writes is a bug

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
        with self._one_writer, translated(self.path), self._writer.begin() as connection:
            yield connection

    def try_begin(self) -> sa.Connection | None:
        """A write transaction, or None if somebody else writes at this moment: it never waits.

        It ends with ``finish`` or ``abandon``, in any thread.
        """
        if not self._one_writer.acquire(blocking=False):
            return None
        connection = None
        try:
            connection = self._at_once.connect()
            connection.begin()
        except exc.DBAPIError:
            if connection is not None:
                connection.close()
            self._one_writer.release()
            return None
        return connection

    def finish(self, connection: sa.Connection) -> None:
        """Commit what ``try_begin`` began. Raises DiskError and its like."""
        try:
            with translated(self.path):
                connection.commit()
        finally:
            self.abandon(connection)

    def abandon(self, connection: sa.Connection) -> None:
        """Undo what ``try_begin`` began, unless it was committed."""
        connection.close()
        self._one_writer.release()

    def close(self) -> None:
        """Let go of every connection."""
        self._reader.dispose()
        self._writer.dispose()
        self._at_once.dispose()

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
        target.touch(0o600)
        with sqlite3.connect(self.path) as source, sqlite3.connect(target) as copy:
            source.backup(copy)


def many(
    connection: sa.Connection, statement: sa.Insert | sa.Update, rows: Sequence[Mapping[str, Any]]
) -> int:
    """Run a statement for every row; how many rows it touched in all.

    What ``connection.execute(statement, rows)`` does, at a quarter of its time: the statement is
    compiled once, and nothing is looked up for each row. Every row has the same keys.
    """
    sql, names, given = _compiled(statement, connection.dialect.name, tuple(rows[0]))
    values = [tuple(row[name] if name in row else given[name] for name in names) for row in rows]
    return connection.exec_driver_sql(sql, values).rowcount


@lru_cache
def _compiled(
    statement: sa.Insert | sa.Update, dialect: str, keys: tuple[str, ...]
) -> tuple[str, tuple[str, ...], Mapping[str, Any]]:
    """SQL, the order of its parameters, and those that the statement itself gives."""
    spoken = sa.create_mock_engine(f"{dialect}://", executor=None).dialect
    columns = list(keys) if isinstance(statement, sa.Insert) else None
    compiled: Any = statement.compile(dialect=spoken, column_keys=columns)
    return str(compiled), tuple(compiled.positiontup), compiled.params


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
