"""The append-only table of what happened."""

from __future__ import annotations

import json
from collections.abc import Collection

import sqlalchemy as sa

from understudy.run import Event
from understudy.store import schema
from understudy.store.database import now


def add(connection: sa.Connection, *events: Event) -> None:
    """Append."""
    rows = [
        {"at": now(), "kind": event.kind, "data": json.dumps(event.data, ensure_ascii=False)}
        for event in events
    ]
    if rows:
        connection.execute(schema.event.insert(), rows)


def after(connection: sa.Connection, seq: int, limit: int = 1000) -> list[Event]:
    """Events that came after ``seq``, oldest first."""
    query = (
        sa.select(schema.event)
        .where(schema.event.c.seq > seq)
        .order_by(schema.event.c.seq)
        .limit(limit)
    )
    return [
        Event(row.kind, json.loads(row.data), row.seq, row.at) for row in connection.execute(query)
    ]


def last(connection: sa.Connection) -> int:
    """Sequence number of the newest event; 0 if there is none."""
    return connection.scalar(sa.select(sa.func.max(schema.event.c.seq))) or 0


def of_kind(connection: sa.Connection, kind: str) -> list[Event]:
    """Every event of that kind, oldest first."""
    query = sa.select(schema.event).where(schema.event.c.kind == kind).order_by(schema.event.c.seq)
    return [
        Event(row.kind, json.loads(row.data), row.seq, row.at) for row in connection.execute(query)
    ]


def about(
    connection: sa.Connection,
    job: str,
    run: int | None,
    kinds: Collection[str],
    *,
    since: int,
    before: int | None = None,
    limit: int | None = None,
) -> list[Event]:
    """Events of those kinds on a job or its run, newest first.

    Only those numbered above ``since``, and below ``before`` if that is given.
    """
    table = schema.event
    theirs = sa.func.json_extract(table.c.data, "$.job") == job
    if run is not None:
        theirs |= sa.func.json_extract(table.c.data, "$.run") == run
    query = (
        sa.select(table)
        .where(table.c.seq > since, table.c.kind.in_(kinds), theirs)
        .order_by(table.c.seq.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(table.c.seq < before)
    return [
        Event(row.kind, json.loads(row.data), row.seq, row.at) for row in connection.execute(query)
    ]


def last_of(connection: sa.Connection, kind: str) -> Event | None:
    """The newest event of that kind, or None."""
    row = connection.execute(
        sa.select(schema.event)
        .where(schema.event.c.kind == kind)
        .order_by(schema.event.c.seq.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else Event(row.kind, json.loads(row.data), row.seq, row.at)
