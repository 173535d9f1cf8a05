"""Rows of the ledger, one for each time a call was sent, and the purse that they draw on.

    sent -> received -> settled        a whole reply came; its cost is known
    sent -> failed_unpaid              refused or never arrived: nothing is owed
    sent -> unknown                    it may have been paid for: its reserve counts as spent

A row is written, with its worst case held, before anything is sent; the raw bytes are stored before
anybody looks at them. A row that is still ``sent`` when the project is opened belongs to a process
that died, and becomes ``unknown``. Invariant: the purse's figures equal the sums over the rows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from understudy.errors import BudgetReached
from understudy.models.protocol import Reply, Request
from understudy.money import usd
from understudy.store.database import now
from understudy.store.schema import call, purse

Row = sa.Row[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Purse:
    """Micro-dollars: the limit (None: none), what is gone, what calls in flight may still cost."""

    budget_micro: int | None
    spent_micro: int
    held_micro: int


class Sent(NamedTuple):
    """One row of the ledger, as far as it must be known to say what became of it."""

    key: str
    attempt: int
    reserve_micro: int


# Statements are built once: building one takes longer than running it, and a call needs six.
_FIND = (
    sa.select(call)
    .where(call.c.key == sa.bindparam("key"))
    .order_by(call.c.attempt.desc())
    .limit(1)
)
_HOLD = (
    purse.update()
    .where(
        sa.or_(
            purse.c.budget_micro.is_(None),
            purse.c.spent_micro + purse.c.held_micro + sa.bindparam("reserve")
            <= purse.c.budget_micro,
        )
    )
    .values(held_micro=purse.c.held_micro + sa.bindparam("reserve"))
)
_SENT = call.insert().values(state="sent", estimated=0, note="")
_SPEND = purse.update().values(
    held_micro=purse.c.held_micro - sa.bindparam("reserve"),
    spent_micro=purse.c.spent_micro + sa.bindparam("cost"),
)


def _ending(*columns: str) -> tuple[tuple[str, ...], sa.Update]:
    """The statement that writes those columns of one row."""
    row = (
        (call.c.key == sa.bindparam("b_key"))
        & (call.c.attempt == sa.bindparam("b_attempt"))
        & call.c.state.in_(sa.bindparam("b_open", expanding=True))
    )
    values: dict[str, sa.BindParameter[object]] = {name: sa.bindparam(name) for name in columns}
    return columns, call.update().where(row).values(values)


_OPEN = ["sent", "received"]
"""States that are not yet the end of a call."""
_END = dict(
    [
        _ending("state", "raw", "ended_at", "latency_ms", "cost_micro"),
        _ending(
            *("state", "cost_micro", "estimated", "input_tokens", "output_tokens"),
            *("finish", "note"),
        ),
        _ending("state", "cost_micro", "ended_at", "note"),
        _ending("state", "cost_micro", "ended_at", "note", "raw"),
    ]
)


def read_purse(connection: sa.Connection) -> Purse:
    """The purse as it is now."""
    row = connection.execute(sa.select(purse)).one()
    return Purse(row.budget_micro, row.spent_micro, row.held_micro)


def set_budget(connection: sa.Connection, budget_micro: int | None) -> None:
    """Set the limit over everything the project ever spends; it holds from the next call on."""
    connection.execute(purse.update().values(budget_micro=budget_micro))


def last_attempt(connection: sa.Connection, key: str) -> Row | None:
    """The newest row of that key."""
    return connection.execute(_FIND, {"key": key}).one_or_none()


def reserve(
    connection: sa.Connection,
    key: str,
    attempt: int,
    request: Request,
    *,
    model: str,
    identity: str,
    reserve_micro: int,
) -> None:
    """Hold the worst case and record the call as sent. Raises BudgetReached, leaving no trace."""
    if not connection.execute(_HOLD, {"reserve": reserve_micro}).rowcount:
        now_in = read_purse(connection)
        raise BudgetReached(
            f"the next call could cost {usd(reserve_micro)}, and "
            f"{usd(now_in.spent_micro + now_in.held_micro)} of the budget of "
            f"{usd(now_in.budget_micro or 0)} is gone or reserved",
            "Everything so far is saved; go on with a higher --budget",
        )
    connection.execute(
        _SENT,
        {
            "key": key,
            "attempt": attempt,
            "purpose": request.purpose,
            "model": model,
            "identity": identity,
            "request": json.dumps(request.messages, ensure_ascii=False),
            "reserve_micro": reserve_micro,
            "sent_at": now(),
        },
    )


def receive(connection: sa.Connection, call: Sent, raw: bytes, latency_s: float) -> None:
    """Put the raw bytes on disk. Nothing has looked at them yet."""
    _end(
        connection,
        call,
        None,
        state="received",
        raw=raw,
        ended_at=now(),
        latency_ms=round(latency_s * 1000),
        cost_micro=None,
    )


def settle(
    connection: sa.Connection,
    call: Sent,
    cost_micro: int | None,
    reply: Reply | None,
    note: str = "",
) -> None:
    """Turn the reserve into the cost; without usage in the reply the reserve is the cost."""
    cost = call.reserve_micro if cost_micro is None else cost_micro
    _end(
        connection,
        call,
        cost,
        state="settled",
        cost_micro=cost,
        estimated=int(cost_micro is None),
        input_tokens=reply.input_tokens if reply else None,
        output_tokens=reply.output_tokens if reply else None,
        finish=reply.finish if reply else None,
        note=note,
    )


def free(connection: sa.Connection, call: Sent, note: str) -> None:
    """Give the reserve back: the call was refused or never arrived."""
    _end(connection, call, 0, state="failed_unpaid", cost_micro=0, ended_at=now(), note=note)


def lose(connection: sa.Connection, call: Sent, note: str, torn: bytes = b"") -> None:
    """Count the reserve as spent: nobody knows whether the call was paid for."""
    cost = call.reserve_micro
    values: dict[str, object] = {
        "cost_micro": cost,
        "ended_at": now(),
        "note": note,
        "raw": torn or None,
    }
    _end(connection, call, cost, state="unknown", **values)


def recover(connection: sa.Connection) -> int:
    """Mark what a dead process left in flight as unknown; how many. Needs the writer's lock."""
    left = [
        Sent(row.key, row.attempt, row.reserve_micro)
        for row in connection.execute(sa.select(call).where(call.c.state == "sent"))
    ]
    for one in left:
        lose(connection, one, "the process ended while this call was in flight")
    return len(left)


def received(connection: sa.Connection, identity: str) -> list[Row]:
    """Replies of an endpoint that are on disk and not yet settled."""
    query = sa.select(call).where(call.c.state == "received", call.c.identity == identity)
    return list(connection.execute(query))


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
        and connection.scalar(held.where(call.c.state.in_(("sent", "received"))))
        == now_in.held_micro
    )


def counted(connection: sa.Connection) -> int:
    """How many times anything was sent."""
    return connection.scalar(sa.select(sa.func.count()).select_from(call)) or 0


def settled(connection: sa.Connection, purpose: str, model: str) -> list[tuple[int, float]]:
    """Cost in micro-dollars and latency in seconds of each settled call of that purpose."""
    rows = connection.execute(
        sa.select(call.c.cost_micro, call.c.latency_ms).where(
            call.c.purpose == purpose, call.c.model == model, call.c.state == "settled"
        )
    )
    return [(row.cost_micro, (row.latency_ms or 0) / 1000) for row in rows]


def _end(connection: sa.Connection, sent: Sent, cost: int | None, /, **values: object) -> None:
    """Write what became of a call, and move the purse: from held to spent, once.

    A call that another process has meanwhile declared unknown is spent already: only the difference
    to its cost is moved.
    """
    key = {"b_key": sent.key, "b_attempt": sent.attempt}
    ended = _END[tuple(values)]
    if connection.execute(ended, {**key, **values, "b_open": _OPEN}).rowcount:
        if cost is not None:
            connection.execute(_SPEND, {"reserve": sent.reserve_micro, "cost": cost})
    elif connection.execute(ended, {**key, **values, "b_open": ["unknown"]}).rowcount:
        if cost is None:  # received after all: it is held again until it is settled
            connection.execute(
                _SPEND, {"reserve": -sent.reserve_micro, "cost": -sent.reserve_micro}
            )
        else:
            connection.execute(_SPEND, {"reserve": 0, "cost": cost - sent.reserve_micro})
