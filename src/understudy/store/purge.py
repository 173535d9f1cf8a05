"""Erasing what one teacher wrote: examples, stored replies, its answers in evaluations."""

from __future__ import annotations

import json
from typing import NamedTuple

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


class Theirs(NamedTuple):
    """What is a teacher's."""

    models: tuple[str, ...]
    """The names, as they were given, under which it was asked."""
    examples: int
    calls: int
    """Calls whose text is still there."""


def theirs(connection: sa.Connection, teacher: str) -> Theirs:
    """What ``purge`` would erase.

    ``teacher`` is a model name as it was given, the model's part of it, or the name under which the
    model answers.
    """
    models = _asked_as(connection, teacher)
    chosen, calls = _examples(connection, teacher), _calls(connection, teacher, models)
    count = sa.select(sa.func.count())
    return Theirs(
        models,
        connection.scalar(count.select_from(schema.example).where(chosen)) or 0,
        connection.scalar(count.select_from(schema.call).where(calls)) or 0,
    )


def _asked_as(connection: sa.Connection, teacher: str) -> tuple[str, ...]:
    """The models as they were given that this name means, or that answered under it."""
    call, example = schema.call, schema.example
    answered = (
        sa.select(call.c.model)
        .join(example, example.c.source == call.c.key)
        .where(example.c.origin == "generated", example.c.maker == teacher)
    )
    return tuple(sorted({*_named(connection, teacher), *connection.scalars(answered.distinct())}))


def _named(connection: sa.Connection, teacher: str) -> list[str]:
    """The models as they were given, of which ``teacher`` is the whole name or the model's part."""
    call = schema.call
    seen = connection.execute(sa.select(call.c.model, call.c.identity).distinct())
    return [
        row.model
        for row in seen
        if teacher
        in (row.model, row.identity, row.identity.partition("#")[2], row.model.partition(":")[2])
    ]


def _examples(connection: sa.Connection, teacher: str) -> sa.ColumnElement[bool]:
    """True of examples that the teacher made."""
    example, call = schema.example, schema.call
    asked = sa.select(call.c.key).where(call.c.model.in_(_named(connection, teacher)))
    return (
        (example.c.origin == "generated")
        & (example.c.reason != PURGED)
        & (example.c.source.in_(asked) | (example.c.maker == teacher))
    )


def _calls(
    connection: sa.Connection, teacher: str, models: tuple[str, ...]
) -> sa.ColumnElement[bool]:
    """True of calls with text of the teacher's: all of its models' but those of others' examples.

    One name that is asked may be answered by several models, of which one is purged.
    """
    example, call = schema.example, schema.call
    kept = sa.select(example.c.source).where(
        example.c.origin == "generated", ~_examples(connection, teacher)
    )
    return (
        call.c.model.in_(models)
        & call.c.key.not_in(kept)
        & call.c.state.in_(ERASABLE)
        & (call.c.raw.is_not(None) | (call.c.request != "[]"))
    )


def purge(connection: sa.Connection, teacher: str) -> Theirs:
    """Erase the text of examples by ``teacher``, its raw replies and its answers to test items.

    What that was. Rows stay, empty and rejected, since datasets name them; what calls cost stays
    booked.
    """
    example, call = schema.example, schema.call
    found = theirs(connection, teacher)
    if not found.examples and not found.calls:
        return found
    chosen = _examples(connection, teacher)
    ids = sa.select(example.c.id).where(chosen)
    connection.exec_driver_sql("PRAGMA secure_delete=ON")  # zeros where the text was
    connection.execute(
        call.update()
        .where(_calls(connection, teacher, found.models))
        .values(raw=None, request="[]")
    )
    _erase_outcomes(connection, {teacher, *found.models})
    _erase_contradictions(connection, {teacher, *found.models})
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
    return found


def _erase_outcomes(connection: sa.Connection, names: set[str]) -> None:
    """Blank the teacher's answers to test items; the scores stay."""
    outcome = schema.outcome
    erased = sa.func.json_set(outcome.c.outcome, "$.answer", "")
    for row in connection.execute(sa.select(schema.report.c.id, schema.report.c.report)):
        judged = json.loads(row.report).get("systems", {})
        theirs = [system for system, score in judged.items() if score.get("model") in names]
        if theirs:
            connection.execute(
                outcome.update()
                .where(outcome.c.report_id == row.id, outcome.c.system.in_(theirs))
                .values(outcome=erased)
            )


def _erase_contradictions(connection: sa.Connection, names: set[str]) -> None:
    """Take the teacher's words out of reality checks; the figures stay."""
    event = schema.event
    found = (event.c.kind == "check.done") & sa.func.json_extract(event.c.data, "$.teacher").in_(
        names
    )
    for row in connection.execute(sa.select(event).where(found)).all():
        data = json.loads(row.data)
        kept = [one for one in data["sentences"] if not one.startswith("asked twice: ")]
        data |= {"contradictions": [], "sentences": kept}
        connection.execute(
            event.update()
            .where(event.c.seq == row.seq)
            .values(data=json.dumps(data, ensure_ascii=False))
        )
