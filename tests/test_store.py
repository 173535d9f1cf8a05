"""The store: migrations, round trips, one writer."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from understudy.errors import ProjectBusy, ProjectError
from understudy.example import Example, Message
from understudy.project import Project
from understudy.run import Event
from understudy.store import events, examples
from understudy.store.database import Database
from understudy.store.lock import locked
from understudy.store.schema import VERSION, metadata
from understudy.task import Spec

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Database:
    project = Project.new(tmp_path_factory.mktemp("store") / "p", "a task")
    return project.database


def test_migrations_make_the_tables_that_the_code_sees(tmp_path: Path) -> None:
    """Nothing is left for alembic to change after the last migration."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    fresh = Database(tmp_path / "x.db")
    fresh.migrate()
    with fresh.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    assert fresh.version() == VERSION
    fresh.close()


def test_a_newer_project_is_refused_untouched(tmp_path: Path) -> None:
    """T52: its bytes stay as they are."""
    path = tmp_path / "x.db"
    fresh = Database(path)
    fresh.migrate()
    fresh.close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version={VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(ProjectError, match="newer"):
        Database(path).migrate()
    assert path.read_bytes() == before


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    messages=st.lists(
        st.builds(Message, st.sampled_from(["user", "assistant"]), TEXT), min_size=1, max_size=4
    ),
    answer=st.text(st.characters(codec="utf-8")),
    cell=st.dictionaries(TEXT, TEXT, max_size=3),
)
def test_an_example_comes_back_as_it_went_in(
    messages: list[Message], answer: str, cell: dict[str, str], database: Database
) -> None:
    """T64: any text, NUL bytes and line separators included; the same source is stored once."""
    source = str(uuid.uuid4())
    example = Example(tuple(messages), answer, cell=cell, source=source, maker="m")
    with database.write() as connection:
        assert examples.add(connection, [example, example]) == 1
        assert examples.add(connection, [example]) == 0
    with database.read() as connection:
        (found,) = (one for one in examples.stream(connection, [1]) if one.source == source)
    assert found.messages == example.messages
    assert (found.answer, found.cell, found.state) == (answer, cell, "new")


def test_events_come_in_order_and_only_once(database: Database) -> None:
    """A reader that asks for what came after its last one misses and repeats nothing."""
    with database.write() as connection:
        start = events.last(connection)
        events.add(connection, *(Event("k", {"n": n}) for n in range(5)))
    with database.read() as connection:
        found = events.after(connection, start, limit=2)
        rest = events.after(connection, found[-1].seq)
    assert [event.data["n"] for event in [*found, *rest]] == [0, 1, 2, 3, 4]


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    """T43: the second is told who holds it; the kernel frees it when the holder is killed."""
    path = tmp_path / "lock"
    code = (
        "import sys, time; from pathlib import Path; from understudy.store.lock import locked\n"
        f"with locked(Path({str(path)!r})): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ProjectBusy, match=str(holder.pid)), locked(path):
            pass
        holder.kill()
        holder.wait()
        with locked(path):
            assert path.read_text() == f"{os.getpid()}\n"


def _write_often(path: Path, times: int) -> None:
    database = Database(path)
    for number in range(times):
        with database.write() as connection:
            seen = events.last(connection)  # reads, then writes: fails where BEGIN is deferred
            events.add(connection, Event("k", {"n": number, "seen": seen}))
    database.close()


def test_writers_that_read_first_never_find_it_locked(database: Database) -> None:
    """T46: every write transaction is immediate, so three processes take turns."""
    with database.read() as connection:
        before = events.last(connection)
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_often, args=(database.path, 60)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    with database.read() as connection:
        found = events.after(connection, before)
    assert len(found) == 180
    assert all(event.seq == event.data["seen"] + 1 for event in found)


def test_a_write_that_fails_leaves_nothing(database: Database) -> None:
    """All of a transaction is on disk, or none of it."""
    with database.read() as connection:
        before = events.last(connection)

    def half() -> None:
        with database.write() as connection:
            events.add(connection, Event("k"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    with database.read() as connection:
        assert events.last(connection) == before
        assert connection.scalar(sa.text("PRAGMA foreign_key_check")) is None


def test_every_version_of_the_task_stays(tmp_path: Path) -> None:
    """A changed spec is a new version; nothing is overwritten."""
    from understudy.store import tasks

    project = Project.new(tmp_path / "p", "a task")
    spec = Spec(title="t", input="i", output="o", kind="text", system_message="one")
    project.edit_spec(spec)
    project.edit_spec(spec.model_copy(update={"system_message": "two"}))
    with project.database.read() as connection:
        found = tasks.versions(connection)
    messages = [task.spec.system_message if task.spec else None for task in found]
    assert messages == [None, "one", "two"]
    project.close()
