"""What the rows of the ledger add up to. Reads only."""

from __future__ import annotations

from typing import Any, NamedTuple

import sqlalchemy as sa

from understudy.store.calls import DONE, HOLDING, Row, read_purse
from understudy.store.schema import batch, call, example


def totals(connection: sa.Connection) -> list[dict[str, Any]]:
    """Calls, cost and tokens by purpose, model and state."""
    rows = connection.execute(
        sa.select(
            call.c.purpose,
            call.c.model,
            call.c.state,
            sa.func.count().label("calls"),
            sa.func.sum(call.c.cost_micro).label("cost_micro"),
            sa.func.sum(call.c.input_tokens).label("input_tokens"),
            sa.func.sum(call.c.output_tokens).label("output_tokens"),
            sa.func.sum(call.c.estimated).label("estimated"),
        )
        .group_by(call.c.purpose, call.c.model, call.c.state)
        .order_by(call.c.purpose, call.c.model, call.c.state)
    )
    return [dict(row) for row in rows.mappings()]


def adds_up(connection: sa.Connection) -> bool:
    """True if the purse equals the sums over the rows."""
    now_in = read_purse(connection)
    over = sa.select(sa.func.coalesce(sa.func.sum(call.c.cost_micro), 0))
    held = sa.select(sa.func.coalesce(sa.func.sum(call.c.reserve_micro), 0))
    return (
        connection.scalar(over) == now_in.spent_micro
        and connection.scalar(held.where(call.c.state.in_(HOLDING))) == now_in.held_micro
    )


def counted(connection: sa.Connection) -> int:
    """How many times anything was sent."""
    return connection.scalar(sa.select(sa.func.count()).select_from(call)) or 0


def settled(connection: sa.Connection, purpose: str, model: str) -> list[tuple[int, float]]:
    """Cost in micro-dollars and latency in seconds of each settled call of that purpose.

    Calls in batches are left out: they cost half, and take no time that means anything.
    """
    rows = connection.execute(
        sa.select(call.c.cost_micro, call.c.latency_ms).where(
            call.c.purpose == purpose,
            call.c.model == model,
            call.c.state == "settled",
            call.c.batch.is_(None),
        )
    )
    return [(row.cost_micro, (row.latency_ms or 0) / 1000) for row in rows]


def on_disk(connection: sa.Connection, purpose: str, identity: str) -> set[str]:
    """Keys of the calls of that purpose whose replies are there, so that none is bought again."""
    rows = sa.select(call.c.key).where(
        call.c.purpose == purpose,
        call.c.identity == identity,
        call.c.state.in_(DONE),
        call.c.raw.is_not(None),
    )
    return set(connection.scalars(rows))


class Bought(NamedTuple):
    """A settled call, as far as its price is to be explained."""

    request: str
    """JSON of the messages; of none where the call was purged."""
    cost_micro: int
    output_tokens: int | None
    """None: the endpoint does not tell."""


def bought(connection: sa.Connection, purpose: str, model: str) -> list[Bought]:
    """The settled calls of that purpose, but those in batches."""
    columns = [call.c[name] for name in Bought._fields]
    rows = connection.execute(
        sa.select(*columns).where(
            call.c.purpose == purpose,
            call.c.model == model,
            call.c.state == "settled",
            call.c.batch.is_(None),
        )
    )
    return [Bought(*row) for row in rows]


def has_answered(connection: sa.Connection, model: str) -> bool:
    """True if a reply of that model was ever bought."""
    row = sa.select(call.c.key).where(call.c.model == model, call.c.state.in_(DONE)).limit(1)
    return connection.scalar(row) is not None


def spare(connection: sa.Connection, purpose: str, identity: str, answers: int) -> int:
    """Calls to an endpoint that are bought, or handed over, and of which no example came yet.

    Of each example ``answers`` calls are taken for used.
    """
    theirs = sa.select(call.c.key).where(
        call.c.purpose == purpose, call.c.identity == identity, call.c.state.in_((*HOLDING, *DONE))
    )
    used = sa.select(sa.func.count()).select_from(example).where(example.c.source.in_(theirs))
    there_are = sa.select(sa.func.count()).select_from(theirs.subquery())
    bought, made = connection.scalar(there_are) or 0, connection.scalar(used) or 0
    return max(bought - answers * made, 0)


def open_batches(connection: sa.Connection, identity: str | None = None) -> list[Row]:
    """Batches with calls that wait to be fetched, of one endpoint or of all, oldest first."""
    waiting = sa.select(call.c.batch).where(call.c.state == "batched")
    query = sa.select(batch).where(batch.c.id.in_(waiting)).order_by(batch.c.id)
    if identity is not None:
        query = query.where(batch.c.identity == identity)
    return list(connection.execute(query))
