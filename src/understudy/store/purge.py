"""Erasing what one teacher wrote: examples, stored replies, its answers in evaluations."""

from __future__ import annotations

import json

import sqlalchemy as sa

from understudy.store import schema
from understudy.store.examples import PURGED

ERASABLE = ("settled", "unknown", "failed_unpaid")
"""States of calls that are over."""


def makers(connection: sa.Connection) -> list[str]:
    """Who made the generated examples: the teachers' names, as they were given."""
    made = sa.select(schema.call.c.model).join(
        schema.example, schema.example.c.source == schema.call.c.key
    )
    return sorted(connection.scalars(made.distinct()))


def purge(connection: sa.Connection, teacher: str) -> int:
    """Erase the text of examples by ``teacher``, its raw replies and its answers to test items.

    How many examples that were. ``teacher`` is a model name as it was given, or the name under
    which the model answers. Rows stay, empty and rejected, since datasets name them; what calls
    cost stays booked.
    """
    example, call = schema.example, schema.call
    theirs = sa.select(call.c.key).where(call.c.model == teacher)
    chosen = (
        (example.c.origin == "generated")
        & (example.c.reason != PURGED)
        & (example.c.source.in_(theirs) | (example.c.maker == teacher))
    )
    number = connection.scalar(sa.select(sa.func.count()).select_from(example).where(chosen)) or 0
    if not number:
        return 0
    connection.exec_driver_sql("PRAGMA secure_delete=ON")  # zeros where the text was
    sources, ids = sa.select(example.c.source).where(chosen), sa.select(example.c.id).where(chosen)
    connection.execute(
        call.update()
        .where((call.c.model == teacher) | call.c.key.in_(sources))
        .where(call.c.state.in_(ERASABLE))
        .values(raw=None, request="[]")
    )
    _erase_outcomes(connection, teacher)
    again = (example.c.state == "rejected") & example.c.twin.in_(ids) & ~chosen
    connection.execute(
        example.update().where(again).values(state="new", reason="", twin=None, grouping="")
    )
    connection.execute(
        example.update()
        .where(chosen)
        .values(
            state="rejected",
            reason=PURGED,
            messages='[["user", ""]]',
            answer="",
            twin=None,
            # The key is free again: the same may be asked anew.
            source=sa.literal("purged ") + sa.cast(example.c.id, sa.Text),
        )
    )
    return number


def _erase_outcomes(connection: sa.Connection, teacher: str) -> None:
    """Blank the teacher's answers to test items; the scores stay."""
    outcome = schema.outcome
    for row in connection.execute(sa.select(schema.report.c.id, schema.report.c.report)):
        judged = json.loads(row.report).get("systems", {}).get("teacher") or {}
        if judged.get("model") == teacher:
            connection.execute(
                outcome.update()
                .where(outcome.c.report_id == row.id, outcome.c.system == "teacher")
                .values(outcome=sa.func.json_set(outcome.c.outcome, "$.answer", ""))
            )
