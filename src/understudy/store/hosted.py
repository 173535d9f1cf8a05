"""Fine-tuning jobs at hosts, as far as they were handed over; one row for each hosted run.

    held       the money is held; nothing was sent
    creating   the job is asked for: it may be there, whatever comes back
    created    the host's id of it is known
    ended      it is over, and booked

A file is marked as sent before it is. So whoever comes after a crash knows what may be there, and
looks for it by its name before anything is sent a second time.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

from understudy.errors import BudgetReached
from understudy.example import Split
from understudy.models.protocol import Request
from understudy.run import HostedRecipe, HostedRun
from understudy.store import calls, runs, schema
from understudy.store.calls import Asked, Ended, Sent
from understudy.store.database import now

Step = Literal["held", "creating", "created", "ended"]
PURPOSE = "train"


@dataclass(frozen=True, slots=True)
class SentFile:
    """A file for the host."""

    name: str
    """At the host; no other file of anybody has it."""
    sha256: str
    sent: bool = False
    """It may be there."""
    id: str = ""
    """The host's; empty until it is known."""


@dataclass(frozen=True, slots=True)
class Handed:
    """How far a run is handed over, and where it stands at the host."""

    run: int
    mark: str
    step: Step
    files: dict[str, SentFile]
    """By split."""
    job: str
    told: str
    seen: str
    """Id of the newest event that was taken over."""
    steps: int
    tokens: int
    """That may be billed at the most."""
    usd: Decimal
    """A million tokens."""
    price_source: str
    call_key: str

    def cost_micro(self, tokens: int) -> int:
        """What so many trained tokens cost, rounded up."""
        return int((self.usd * tokens).to_integral_value("ROUND_CEILING"))


@dataclass(frozen=True, slots=True)
class Bill:
    """What a training may cost at the most."""

    tokens: int
    usd: Decimal
    source: str
    model: str
    """The student, as the ledger names it."""
    identity: str


def hold(
    connection: sa.Connection,
    dataset_id: int,
    student: str,
    recipe: HostedRecipe,
    folder: Path,
    bill: Bill,
    files: Mapping[Split, str],
) -> HostedRun:
    """Record a run and hold its worst case; ``files`` gives the SHA-256 of each.

    Raises BudgetReached if it could pass the budget: then nothing is recorded.
    """
    run = runs.add_hosted_run(connection, dataset_id, student, recipe, folder)
    mark = f"us-{secrets.token_hex(8)}"
    key = sha256(mark.encode()).hexdigest()
    row = {
        "run": run.id,
        "mark": mark,
        "step": "held",
        "files": _written(
            {
                split: SentFile(f"{mark}-{split}-{digest[:16]}.jsonl", digest)
                for split, digest in files.items()
            }
        ),
        "job": "",
        "told": "",
        "seen": "",
        "steps": 0,
        "tokens": bill.tokens,
        "usd": str(bill.usd),
        "price_source": bill.source,
        "call_key": key,
        "at": now(),
    }
    connection.execute(schema.hosted.insert().values(row))
    worst = of(connection, run).cost_micro(bill.tokens)
    request = Request((), 0, purpose=PURPOSE)
    asked = Asked(key, request, bill.model, bill.identity, worst, training=True)
    (held,) = calls.begin(connection, [asked])
    if isinstance(held, BudgetReached):
        raise held
    return run


def of(connection: sa.Connection, run: HostedRun) -> Handed:
    """The row of a run."""
    table = schema.hosted
    row = connection.execute(sa.select(table).where(table.c.run == run.id)).one()
    files = {split: SentFile(**file) for split, file in json.loads(row.files).items()}
    values = {**row._mapping, "files": files, "usd": Decimal(row.usd)}  # noqa: SLF001 (its mapping)
    del values["at"]
    return Handed(**values)


def change(connection: sa.Connection, handed: Handed, **values: Any) -> None:
    """Store new values of some columns."""
    if "files" in values:
        values["files"] = _written(values["files"])
    table = schema.hosted
    connection.execute(table.update().where(table.c.run == handed.run).values(values))


def _written(files: Mapping[str, SentFile]) -> str:
    return json.dumps({split: asdict(file) for split, file in files.items()})


def settle(connection: sa.Connection, handed: Handed, ended: Ended) -> None:
    """Book what became of it, once, and close the row."""
    calls.end(connection, [ended])
    change(connection, handed, step="ended")


def held(connection: sa.Connection, handed: Handed) -> Sent:
    """Its row of the ledger."""
    row = calls.newest(connection, [handed.call_key])[handed.call_key]
    return Sent(row.key, row.attempt, row.reserve_micro)
