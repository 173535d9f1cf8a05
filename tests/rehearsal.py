"""A practice server that fails as told; what a project's ledger and the server's bill say of it."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from conftest import PRICES, Done, Server
from understudy.practice.options import Options
from understudy.practice.server import in_background
from understudy.store import account
from understudy.store.calls import Purse, read_purse
from understudy.store.database import Database

SLOW_MACHINE_S = 60
"""How long a test waits for something to happen before it says that it did not."""


@contextmanager
def serving(log: Path, **options: Any) -> Iterator[Server]:
    """The practice server over real HTTP, in a thread of this process: sooner there than another.

    ``options`` are those of practice.provider.Options.
    """
    with in_background(Options(log=log, **options)) as url:
        yield Server(url, log)


def teacher(provider: Server, task: str) -> tuple[str, ...]:
    """The flags that name a server's teacher and its price."""
    return ("--teacher", provider.teacher(task), *PRICES)


def environment(**settings: object) -> dict[str, str]:
    """Variables for settings; the first call in flight is the only one unless told otherwise."""
    return {f"UNDERSTUDY_{name.upper()}": str(value) for name, value in settings.items()}


def made_project(understudy: Callable[..., Done], folder: Path, task: str = "durations") -> Path:
    """A project with a description and nothing else."""
    assert understudy("new", folder, "--describe", task).code == 0
    return folder


def select(project: Path, query: str, *values: object) -> list[Any]:
    """Rows of a project's database."""
    with closing(sqlite3.connect(project / "understudy.db")) as connection:
        connection.row_factory = sqlite3.Row
        return connection.execute(query, values).fetchall()


def calls(project: Path) -> list[Any]:
    """The ledger's rows in the order in which they were sent."""
    return select(project, "SELECT * FROM call ORDER BY rowid")


def states(project: Path) -> Counter[str]:
    """How many calls are in each state."""
    return Counter(row["state"] for row in calls(project))


def purse(project: Path) -> Purse:
    """What is spent and held."""
    database = Database(project / "understudy.db")
    with database.read() as connection:
        found = read_purse(connection)
    database.close()
    return found


def examples(project: Path) -> dict[str, str]:
    """Input to answer of the accepted examples."""
    found = select(project, "SELECT messages, answer FROM example WHERE state = 'accepted'")
    return {json.loads(row["messages"])[-1][1]: row["answer"] for row in found}


def billed_micro(provider: Server) -> float:
    """What the provider bills, in micro-dollars at the tests' prices."""
    if not provider.log.exists():
        return 0
    return sum(map(cost_micro, provider.account()))


def cost_micro(line: dict[str, Any]) -> float:
    """What one line of the bill comes to."""
    return (0.5 * line["input_tokens"] + 2 * line["output_tokens"]) * line["paid"]


def must_agree(project: Path, *providers: Server) -> None:
    """Purse, rows and bills agree; the database is whole (I2, I3, I4, I7)."""
    database = Database(project / "understudy.db")
    with database.read() as connection:
        assert account.adds_up(connection)
        now_in = read_purse(connection)
    database.close()
    assert now_in.spent_micro + now_in.held_micro >= sum(map(int, map(billed_micro, providers)))
    assert [tuple(row) for row in select(project, "PRAGMA integrity_check")] == [("ok",)]
    assert select(project, "PRAGMA foreign_key_check") == []
    assert set(states(project)) <= {"settled", "unknown", "failed_unpaid", "sent", "received"}


def one_line(done: Done, code: int, *words: str) -> None:
    """The command ended with that code, and told it in one line that holds these words."""
    assert done.code == code, (done.code, done.err)
    lines = [line for line in done.err.splitlines() if line.startswith("understudy: ")]
    assert len(lines) == 1, done.err
    for word in words:
        assert word in lines[0], lines[0]


def in_environment(**settings: object) -> dict[str, str]:
    """This process's environment with those settings."""
    return {**os.environ, **environment(**settings)}


@contextmanager
def ledger_database(path: Path) -> Iterator[Database]:
    """An empty project's database, without a project around it."""
    database = Database(path)
    database.migrate()
    yield database
    database.close()


def until(happens: Callable[[], bool], within_s: float = SLOW_MACHINE_S) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + within_s
    while not happens():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def asked(provider: Server) -> int:
    """Requests so far, also while no log is there."""
    return provider.requests() if provider.log.exists() else 0
