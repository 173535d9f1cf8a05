"""The traces that generation leaves: its calls, examples and events, streamed for a report.

Rows alone are read, in one snapshot, so that what is made of them holds after a crash, over many
runs, and while a run is under way.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from itertools import groupby
from typing import Any, NamedTuple

import sqlalchemy as sa

from understudy.store.examples import PURGED
from understudy.store.schema import call, event, example, quote, task

AT_ONCE = 1000
"""Rows held at a time."""


class Call(NamedTuple):
    """A call that was wanted, however often it was sent; what is said is of its newest sending."""

    state: str
    note: str
    finish: str | None
    """None also if the reply cannot be read."""
    request: str
    """JSON of the messages; of none where the call was purged."""
    raw: bytes | None
    """The reply, where it was asked for."""
    cost_micro: int
    """Of all its sendings, as far as it is known."""
    sendings: int
    sent_at: str


class Made(NamedTuple):
    """An example, as far as a report needs it."""

    id: int
    input: str
    answer: str
    generated: bool
    state: str
    reason: str
    twin: int | None
    agreement: float | None


class Quoted(NamedTuple):
    """The newest quote; money in micro-dollars."""

    wanted: int
    made: int
    spent_micro: int
    """What was spent before it was made."""
    low_micro: int
    high_micro: int
    at: str


def calls(connection: sa.Connection, purpose: str, *, raw: bool) -> Iterator[Call]:
    """Every call of that purpose, in the order of its key.

    Without ``raw`` the reply is read only where it was not settled yet, and nothing else tells
    whether there is an answer in it.
    """
    reply = call.c.raw if raw else sa.case((call.c.state == "received", call.c.raw))
    query = (
        sa.select(
            *(call.c.key, call.c.state, call.c.note, call.c.finish, call.c.request),
            *(call.c.cost_micro, call.c.sent_at, reply.label("reply")),
        )
        .where(call.c.purpose == purpose)
        .order_by(call.c.key, call.c.attempt)
        .execution_options(yield_per=AT_ONCE)
    )
    for _, sendings in groupby(connection.execute(query), lambda row: row.key):
        cost = number = 0
        for number, row in enumerate(sendings, 1):  # noqa: B007 (the last one is the newest)
            cost += row.cost_micro or 0
        yield Call(
            *(row.state, row.note, row.finish, row.request, row.reply),
            *(cost, number, row.sent_at),
        )


def examples(connection: sa.Connection, versions: Collection[int]) -> Iterator[Made]:
    """Own examples, and those generated for these versions of the task, in the order they came."""
    table = example.c
    query = (
        sa.select(
            *(table.id, table.messages, table.answer, table.origin, table.state),
            *(table.reason, table.twin, table.agreement),
        )
        .where((table.origin != "generated") | table.task_version.in_(versions))
        .order_by(table.id)
        .execution_options(yield_per=AT_ONCE)
    )
    for row in connection.execute(query):
        text = json.loads(row.messages)[-1][1]
        yield Made(
            *(row.id, text, row.answer, row.origin == "generated"),
            *(row.state, row.reason, row.twin, row.agreement),
        )


def of_other_versions(connection: sa.Connection, versions: Collection[int]) -> int:
    """Examples, in any state, that were generated for other versions of the task."""
    query = (
        sa.select(sa.func.count())
        .select_from(example)
        .where(
            example.c.origin == "generated",
            example.c.task_version.not_in(versions),
            example.c.reason != PURGED,
        )
    )
    return connection.scalar(query) or 0


def spans(connection: sa.Connection, versions: Collection[int]) -> list[tuple[str, str]]:
    """From when to when each of these versions was the newest; until "~" for the present one."""
    query = sa.select(task.c.version, task.c.at).where(task.c.version > 0)
    rows = connection.execute(query.order_by(task.c.version)).all()
    ends = [*(row.at for row in rows[1:]), "~"]
    return [(row.at, end) for row, end in zip(rows, ends, strict=True) if row.version in versions]


def events(connection: sa.Connection, *kinds: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Kind, time and data of every event of these kinds, oldest first."""
    query = sa.select(event).where(event.c.kind.in_(kinds)).order_by(event.c.seq)
    return [(row.kind, row.at, json.loads(row.data)) for row in connection.execute(query)]


def last_quote(connection: sa.Connection) -> Quoted | None:
    """The newest quote, whoever is the teacher."""
    columns = [quote.c[name] for name in Quoted._fields]
    row = connection.execute(sa.select(*columns).order_by(quote.c.id.desc()).limit(1)).one_or_none()
    return None if row is None else Quoted(*row)
