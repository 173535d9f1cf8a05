"""Examples in the store. Content is only ever added; cleaning changes state, reason and group."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from typing import cast

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from understudy.example import Example, Message, Origin, State
from understudy.store import schema
from understudy.store.database import many, now
from understudy.task import Cell

PURGED = "purged"
"""Reason of an example that was erased."""
_ADD = insert(schema.example).on_conflict_do_nothing()


def add(connection: sa.Connection, examples: Iterable[Example]) -> int:
    """Store examples whose ``source`` is not there yet; how many that were."""
    rows = [_row(example) for example in examples]
    if not rows:
        return 0
    return many(connection, _ADD, rows)


def decide(connection: sa.Connection, examples: Iterable[Example]) -> None:
    """Store the state, reason, twin and group of examples that are already there."""
    rows = [
        {
            "row_id": example.id,
            "state": example.state,
            "reason": example.reason,
            "twin": example.twin,
            "grouping": example.group,
        }
        for example in examples
    ]
    if rows:
        statement = schema.example.update().where(schema.example.c.id == sa.bindparam("row_id"))
        connection.execute(statement, rows)


def stream(
    connection: sa.Connection, versions: Collection[int], *, state: State | None = None
) -> Iterator[Example]:
    """Own examples, and those generated for these versions of the task, in the order they came."""
    table = schema.example
    query = sa.select(table).where(_of_the_task(versions)).order_by(table.c.id)
    if state is not None:
        query = query.where(table.c.state == state)
    for row in connection.execution_options(yield_per=1000).execute(query):
        yield example_of(row)


def waiting(connection: sa.Connection, versions: Collection[int]) -> int:
    """How many ``stream`` would give that are new."""
    query = sa.select(sa.func.count()).select_from(schema.example)
    new = schema.example.c.state == "new"
    return connection.scalar(query.where(new, _of_the_task(versions))) or 0


def new_after(
    connection: sa.Connection, versions: Collection[int], origin: Origin, after: int, limit: int
) -> list[Example]:
    """The next ``limit`` new ones of that origin, of ids above ``after``, in their order."""
    table = schema.example
    query = (
        sa.select(table)
        .where(table.c.state == "new", table.c.id > after, table.c.origin == origin)
        .where(_of_the_task(versions))
        .order_by(table.c.id)
        .limit(limit)
    )
    return [example_of(row) for row in connection.execute(query)]


def _of_the_task(versions: Collection[int]) -> sa.ColumnElement[bool]:
    """Own examples, and those generated for these versions of the task."""
    table = schema.example
    return (table.c.origin != "generated") | table.c.task_version.in_(versions)


def by_id(connection: sa.Connection, ids: Collection[int]) -> Iterator[Example]:
    """Those examples, in the order in which they came."""
    table = schema.example
    query = sa.select(table).where(table.c.id.in_(ids)).order_by(table.c.id)
    return map(example_of, connection.execute(query))


def generated(
    connection: sa.Connection,
    versions: Collection[int],
    *,
    state: State | None = None,
    cell: Cell | None = None,
) -> int:
    """How many examples were generated for these versions of the task.

    In any state, or only in one; in any cell, or only where these attributes have these values.
    """
    table = schema.example
    query = (
        sa.select(sa.func.count())
        .select_from(table)
        .where(
            table.c.origin == "generated",
            table.c.task_version.in_(versions),
            table.c.reason != PURGED,
        )
    )
    if state is not None:
        query = query.where(table.c.state == state)
    for name, value in (cell or {}).items():
        pair = sa.func.json_each(table.c.cell).table_valued("key", "value")
        query = query.where(
            sa.exists(sa.select(pair.c.key).where(pair.c.key == name, pair.c.value == value))
        )
    return connection.scalar(query) or 0


def cells(connection: sa.Connection, versions: Collection[int]) -> Iterator[tuple[Cell, State]]:
    """Cell and state of each example that was generated for these versions of the task."""
    table = schema.example
    query = sa.select(table.c.cell, table.c.state).where(
        table.c.origin == "generated", table.c.task_version.in_(versions)
    )
    for row in connection.execution_options(yield_per=1000).execute(query):
        yield json.loads(row.cell), row.state


def of_other_versions(connection: sa.Connection, versions: Collection[int]) -> int:
    """Accepted examples that were generated for other versions of the task."""
    table = schema.example
    query = (
        sa.select(sa.func.count())
        .select_from(table)
        .where(
            table.c.origin == "generated",
            table.c.state == "accepted",
            table.c.task_version.not_in(versions),
        )
    )
    return connection.scalar(query) or 0


def counts(connection: sa.Connection) -> tuple[dict[str, int], dict[str, int]]:
    """Number of examples by state, and of the rejected ones by the head of their reason."""
    table = schema.example
    states = connection.execute(
        sa.select(table.c.state, sa.func.count().label("number")).group_by(table.c.state)
    )
    reasons: dict[str, int] = {}
    for reason, number in connection.execute(
        sa.select(table.c.reason, sa.func.count())
        .where(table.c.state == "rejected")
        .group_by(table.c.reason)
    ):
        head = reason_head(reason)
        reasons[head] = reasons.get(head, 0) + number
    return {row.state: row.number for row in states}, dict(sorted(reasons.items()))


def reason_head(reason: str) -> str:
    """``duplicate of 7`` -> ``duplicate``; ``breaks the spec: not JSON`` -> ``breaks the spec``."""
    return reason.partition(":")[0].partition(" of ")[0].rstrip("0123456789 ")


def example_of(row: sa.Row[tuple[object, ...]]) -> Example:
    """A stored row as a value."""
    return Example(
        messages=tuple(Message(role, content) for role, content in json.loads(row.messages)),
        answer=row.answer,
        origin=cast("Origin", row.origin),
        state=cast("State", row.state),
        reason=row.reason,
        twin=row.twin,
        group=row.grouping,
        maker=row.maker,
        source=row.source,
        cell=json.loads(row.cell),
        task_version=row.task_version,
        agreement=row.agreement,
        parent=row.parent,
        terms=row.terms,
        id=row.id,
    )


def _row(example: Example) -> dict[str, object]:
    return {
        "messages": json.dumps(example.messages, ensure_ascii=False),
        "answer": example.answer,
        "origin": example.origin,
        "state": example.state,
        "reason": example.reason,
        "twin": example.twin,
        "grouping": example.group,
        "maker": example.maker,
        "source": example.source,
        "cell": json.dumps(example.cell, ensure_ascii=False),
        "task_version": example.task_version,
        "agreement": example.agreement,
        "parent": example.parent,
        "terms": example.terms,
        "at": now(),
    }
