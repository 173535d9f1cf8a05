"""Rows of the ledger, one for each time a call was sent, and the purse that they draw on.

    sent -> received -> settled        a whole reply came; its cost is known
    sent -> failed_unpaid              refused or never arrived: nothing is owed
    sent -> unknown                    it may have been paid for: its reserve counts as spent
    batched -> received | failed_unpaid    handed to the provider in a batch, to be fetched later
    training -> settled | failed_unpaid | unknown    a job that fine-tunes at a host (hosted.py)

A row is written, with its worst case held, before anything is sent; the raw bytes are stored before
anybody looks at them. A row that is still ``sent`` when the project is opened belongs to a process
that died, and becomes ``unknown``. Invariant: the purse's figures equal the sums over the rows.

Every write takes many calls at once: what one transaction costs is shared by all that came while
the one before it was being committed (commits.py).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from understudy.errors import BudgetReached
from understudy.models.protocol import Request
from understudy.money import usd
from understudy.store.database import many, now
from understudy.store.schema import call, purse

Row = sa.Row[tuple[Any, ...]]
DONE = ("received", "settled")
"""States of a call whose answer is on disk."""
HOLDING = ("sent", "received", "batched", "training")
"""States of a call that holds its reserve."""


@dataclass(frozen=True, slots=True)
class Purse:
    """Micro-dollars: the limit (None: none), what is gone, what calls in flight may still cost."""

    budget_micro: int | None
    spent_micro: int
    held_micro: int


class Asked(NamedTuple):
    """A call that somebody wants: its key, and what it may cost at the worst."""

    key: str
    request: Request
    model: str
    identity: str
    reserve_micro: int
    batch: int | None = None
    """Batch that it goes out with; None: by itself, now."""
    training: bool = False
    """It is no call but a job of a host, which outlives this process."""


class Sent(NamedTuple):
    """One row of the ledger, as far as it must be known to say what became of it."""

    key: str
    attempt: int
    reserve_micro: int


class Arrived(NamedTuple):
    """The raw bytes of a reply."""

    call: Sent
    raw: bytes
    latency_s: float


class Ended(NamedTuple):
    """What became of a call, and what it cost (micro-dollars)."""

    call: Sent
    state: str
    cost_micro: int
    note: str = ""
    estimated: bool = False
    """True if the endpoint told no usage, so that the reserve is the cost."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    finish: str | None = None
    torn: bytes | None = None
    """What came of a reply that was torn; kept for the record only."""


# Statements are built once: building one takes longer than running it.
_NEWEST = (
    sa.select(call)
    .where(call.c.key.in_(sa.bindparam("keys", expanding=True)))
    .order_by(call.c.attempt)
)
_INSERT = call.insert()
_MOVE = purse.update().values(
    held_micro=purse.c.held_micro + sa.bindparam("held"),
    spent_micro=purse.c.spent_micro + sa.bindparam("spent"),
)
_THAT = (call.c.key == sa.bindparam("b_key")) & (call.c.attempt == sa.bindparam("b_attempt"))


def _is(*states: str) -> sa.ColumnElement[bool]:
    """True in one of those states; written out, since an IN cannot be run for many rows at once."""
    return sa.or_(*(call.c.state == state for state in states))


_ARRIVED: dict[str, Any] = {"state": "received", "cost_micro": None}
_ARRIVED.update({name: sa.bindparam(name) for name in ("raw", "ended_at", "latency_ms")})
_RECEIVE = (
    call.update().where(_THAT, _is("sent", "batched")).values(_ARRIVED),
    call.update().where(_THAT, call.c.state == "unknown").values(_ARRIVED),
)
_ENDED: dict[str, Any] = {
    name: sa.bindparam(name)
    for name in (
        *("state", "cost_micro", "estimated", "input_tokens", "output_tokens"),
        *("finish", "note"),
    )
}
_ENDED["ended_at"] = sa.func.coalesce(call.c.ended_at, sa.bindparam("ended_at"))
_ENDED["raw"] = sa.func.coalesce(call.c.raw, sa.bindparam("raw"))
_END = (
    call.update().where(_THAT, _is(*HOLDING)).values(_ENDED),
    call.update().where(_THAT, call.c.state == "unknown").values(_ENDED),
)


class EndedElsewhere(Exception):
    """One of many calls is no longer open; they must be written one by one."""


def read_purse(connection: sa.Connection) -> Purse:
    """The purse as it is now."""
    row = connection.execute(sa.select(purse)).one()
    return Purse(row.budget_micro, row.spent_micro, row.held_micro)


def set_budget(connection: sa.Connection, budget_micro: int | None) -> None:
    """Set the limit over everything the project ever spends; it holds from the next call on."""
    connection.execute(purse.update().values(budget_micro=budget_micro))


def newest(connection: sa.Connection, keys: Sequence[str]) -> dict[str, Row]:
    """The newest row of each key that has one."""
    return {row.key: row for row in connection.execute(_NEWEST, {"keys": list(keys)})}


def goes_out(row: Row, *, resend_unknown: bool) -> bool:
    """True if the call with this newest row may be bought again, the same for one and for batches.

    Nothing is owed for it, its answer was erased (purge), or its outcome is unknown and either the
    endpoint itself said that it failed, nothing can have been paid, or the user says so.
    """
    if row.state == "unknown":
        return resend_unknown or row.note.startswith("HTTP 5") or row.reserve_micro == 0
    erased = row.state == "settled" and row.raw is None
    return erased or row.state == "failed_unpaid"


def begin(
    connection: sa.Connection, asked: Sequence[Asked], *, resend_unknown: bool = False
) -> list[Row | Sent | BudgetReached]:
    """Hold the worst case of each call and record it as sent (or batched).

    A call that has a row already and does not go out again gives that row. One that could pass the
    budget leaves no trace.
    """
    known = newest(connection, [one.key for one in asked])
    now_in = read_purse(connection)
    gone = now_in.spent_micro + now_in.held_micro
    results: list[Row | Sent | BudgetReached] = []
    rows: list[dict[str, Any]] = []
    before, at = gone, now()
    for one in asked:
        row = known.get(one.key)
        if row is not None and not goes_out(row, resend_unknown=resend_unknown):
            results.append(row)
        elif now_in.budget_micro is not None and gone + one.reserve_micro > now_in.budget_micro:
            results.append(_too_dear(one, gone, now_in))
        else:
            gone += one.reserve_micro
            sent = Sent(one.key, 1 if row is None else row.attempt + 1, one.reserve_micro)
            results.append(sent)
            rows.append(_row(one, sent.attempt, at))
    if rows:
        many(connection, _INSERT, rows)
        connection.execute(_MOVE, {"held": gone - before, "spent": 0})
    return results


def _row(asked: Asked, attempt: int, at: str) -> dict[str, Any]:
    return {
        "key": asked.key,
        "attempt": attempt,
        "state": "training" if asked.training else "batched" if asked.batch else "sent",
        "purpose": asked.request.purpose,
        "model": asked.model,
        "identity": asked.identity,
        "request": json.dumps(asked.request.messages, ensure_ascii=False),
        "reserve_micro": asked.reserve_micro,
        "estimated": 0,
        "note": "",
        "sent_at": at,
        "batch": asked.batch,
    }


def _too_dear(asked: Asked, gone: int, now_in: Purse) -> BudgetReached:
    budget = now_in.budget_micro or 0
    told = f"{usd(gone)} of the budget of {usd(budget)} is gone or reserved"
    if now_in.spent_micro > budget:
        told = (
            f"{usd(now_in.spent_micro)} is spent, {usd(now_in.spent_micro - budget)} more than "
            "the budget: it was lowered, or the endpoint billed more than the limit it was sent"
        )
    what = "training" if asked.request.purpose == "train" else "next call"
    return BudgetReached(
        f"the {what} could cost {usd(asked.reserve_micro)}, and {told}",
        "Everything so far is saved; go on with a higher --budget",
    )


def receive(connection: sa.Connection, arrived: Sequence[Arrived]) -> None:
    """Put raw bytes on disk. Nothing has looked at them yet. Raises EndedElsewhere for many."""
    at = now()
    rows = [
        {
            "b_key": one.call.key,
            "b_attempt": one.call.attempt,
            "raw": one.raw,
            "ended_at": at,
            "latency_ms": round(one.latency_s * 1000),
        }
        for one in arrived
    ]
    open_row, lost_row = _RECEIVE
    if many(connection, open_row, rows) == len(rows):
        return
    if len(rows) > 1:
        raise EndedElsewhere
    if many(connection, lost_row, rows):
        # It was given up as unknown, and arrived after all: held again until it is settled.
        reserve = arrived[0].call.reserve_micro
        connection.execute(_MOVE, {"held": reserve, "spent": -reserve})


def end(connection: sa.Connection, ended: Sequence[Ended]) -> None:
    """Write what became of calls, and move the purse from held to spent, once for each call.

    A call that another process has meanwhile declared unknown is spent already: only the difference
    to its cost is moved. Raises EndedElsewhere if that is so for one of many.
    """
    if not ended:
        return
    at = now()
    rows = [
        {
            "b_key": one.call.key,
            "b_attempt": one.call.attempt,
            "state": one.state,
            "cost_micro": one.cost_micro,
            "estimated": int(one.estimated),
            "input_tokens": one.input_tokens,
            "output_tokens": one.output_tokens,
            "finish": one.finish,
            "note": one.note,
            "ended_at": at,
            "raw": one.torn,
        }
        for one in ended
    ]
    reserved = sum(one.call.reserve_micro for one in ended)
    cost = sum(one.cost_micro for one in ended)
    open_row, lost_row = _END
    if many(connection, open_row, rows) == len(rows):
        connection.execute(_MOVE, {"held": -reserved, "spent": cost})
        return
    if len(rows) > 1:
        raise EndedElsewhere
    if many(connection, lost_row, rows):
        connection.execute(_MOVE, {"held": 0, "spent": cost - reserved})


def freed(sent: Sent, note: str) -> Ended:
    """It was refused or never arrived: the reserve is given back."""
    return Ended(sent, "failed_unpaid", 0, note)


def lost(sent: Sent, note: str, torn: bytes = b"") -> Ended:
    """Nobody knows whether the call was paid for: its reserve counts as spent."""
    return Ended(sent, "unknown", sent.reserve_micro, note, torn=torn or None)


def recover(
    connection: sa.Connection, why: str = "the process ended while this call was in flight"
) -> int:
    """Mark what was left in flight as unknown; how many. Needs the writer's lock."""
    found = connection.execute(sa.select(call).where(call.c.state == "sent"))
    left = [Sent(row.key, row.attempt, row.reserve_micro) for row in found]
    end(connection, [lost(one, why) for one in left])
    return len(left)


def received(connection: sa.Connection, identity: str) -> list[Row]:
    """Replies of an endpoint that are on disk and not yet settled."""
    query = sa.select(call).where(call.c.state == "received", call.c.identity == identity)
    return list(connection.execute(query))


def keys(connection: sa.Connection, identity: str) -> list[str]:
    """Keys of all calls ever made to an endpoint."""
    query = sa.select(call.c.key).where(call.c.identity == identity)
    return list(connection.scalars(query))
