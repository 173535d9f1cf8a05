"""What people said of pairs of answers: which is better. A judge is measured by it."""

from __future__ import annotations

from typing import Literal, NamedTuple, cast

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from understudy.judgement import Preference
from understudy.store.database import now
from understudy.store.schema import label

Said = Preference | Literal["skip"]
"""``skip``: shown, and not decided."""


class Label(NamedTuple):
    """One pair of answers to an example, and what a person said of it."""

    example_id: int
    first: str
    second: str
    systems: tuple[str, str]
    """Whose answers they are; nobody was told."""
    said: Said


def add(connection: sa.Connection, given: Label) -> None:
    """Store a label; the same pair again replaces what was said of it."""
    row = {
        "example_id": given.example_id,
        "first": given.first,
        "second": given.second,
        "first_system": given.systems[0],
        "second_system": given.systems[1],
        "said": given.said,
        "at": now(),
    }
    pair = ("example_id", "first", "second")
    statement = insert(label).values(row)
    connection.execute(
        statement.on_conflict_do_update(index_elements=pair, set_={"said": given.said, "at": now()})
    )


def labels(connection: sa.Connection) -> list[Label]:
    """Every label, oldest first."""
    rows = connection.execute(sa.select(label).order_by(label.c.at, label.c.id))
    return [_label(row) for row in rows]


def remove_newest(connection: sa.Connection) -> Label | None:
    """Take the newest label back, and return it; None if there is none."""
    newest = sa.select(label).order_by(label.c.at.desc(), label.c.id.desc()).limit(1)
    row = connection.execute(newest).one_or_none()
    if row is None:
        return None
    connection.execute(label.delete().where(label.c.id == row.id))
    return _label(row)


def _label(row: sa.Row[tuple[object, ...]]) -> Label:
    systems = (row.first_system, row.second_system)
    return Label(row.example_id, row.first, row.second, systems, cast("Said", row.said))
