"""What a command of several steps made in all: the pilot's share and the rest, from the rows."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from understudy.project.results import Generated
from understudy.project.workplace import Workplace
from understudy.store import account, calls, events


@dataclass(frozen=True, slots=True)
class Mark:
    """Where the project stood when the command began."""

    event: int
    calls: int
    spent_micro: int
    at: float


def mark(place: Workplace) -> Mark:
    """Where the project stands now."""
    with place.database.read() as connection:
        spent = calls.read_purse(connection).spent_micro
        return Mark(events.last(connection), account.counted(connection), spent, time.monotonic())


def in_all(place: Workplace, start: Mark, last: Generated) -> Generated:
    """What all steps since ``start`` made together, of which ``last`` was the last."""
    with place.database.read() as connection:
        made = _since(connection, start, "generate.done")
        cleaned = _since(connection, start, "clean.done")
        sent = account.counted(connection) - start.calls
        spent = calls.read_purse(connection).spent_micro - start.spent_micro
    reasons = Counter[str]()
    for one in made:
        reasons += Counter(one["failures"]) + Counter(one["useless"])
    for one in cleaned:
        reasons += Counter(one["reasons"])
    return replace(
        last,
        made=sum(one["made"] for one in made),
        accepted=sum(one["accepted"] for one in cleaned),
        calls=sent,
        spent_micro=spent,
        seconds=time.monotonic() - start.at,
        reasons=dict(reasons),
    )


def _since(connection: Connection, start: Mark, kind: str) -> list[dict[str, Any]]:
    return [one.data for one in events.of_kind(connection, kind) if one.seq > start.event]
