"""Quotes: what was told before the spend, kept to be compared with what it cost."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from understudy.money import Quote
from understudy.store.database import now
from understudy.store.schema import quote


class Quoted(NamedTuple):
    """A stored quote: for how many examples in all, and what was there when it was made."""

    teacher: str
    wanted: int
    made: int
    spent_micro: int
    low_micro: int
    high_micro: int
    low_s: float
    high_s: float


def add(
    connection: sa.Connection, told: Quote, *, teacher: str, wanted: int, made: int, spent: int
) -> None:
    """Keep a quote. ``spent`` is in micro-dollars, everything until now."""
    connection.execute(
        quote.insert().values(
            teacher=teacher,
            wanted=wanted,
            made=made,
            spent_micro=spent,
            low_micro=told.low_micro,
            high_micro=told.high_micro,
            low_s=told.low_s,
            high_s=told.high_s,
            at=now(),
        )
    )


def last(connection: sa.Connection, teacher: str) -> Quoted | None:
    """The newest quote for that teacher."""
    columns = [quote.c[name] for name in Quoted._fields]
    row = connection.execute(
        sa.select(*columns).where(quote.c.teacher == teacher).order_by(quote.c.id.desc()).limit(1)
    ).one_or_none()
    return None if row is None else Quoted(*row)
