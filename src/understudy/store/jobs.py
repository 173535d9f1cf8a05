"""Fine-tuning jobs in the store.

A change of state names the states that it may come from, so that a client that cancels and a worker
that finishes cannot both have their way.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import sqlalchemy as sa

from understudy.store import schema
from understudy.store.database import now

JobState = Literal[
    "validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"
]
ENDED: tuple[JobState, ...] = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Job:
    """One fine-tuning job: a training that a client asked for over the protocol."""

    id: str
    """``ftjob-...``"""
    asked: dict[str, Any]
    """What the client asked for: model, files, suffix, seed, hyperparameters, metadata."""
    student: str
    """The student that the asked model stands for here."""
    state: JobState = "validating_files"
    key: str | None = None
    """Idempotency-Key of the request, if it had one."""
    dataset_id: int | None = None
    run_id: int | None = None
    error: dict[str, Any] | None = None
    """``{code, message, param}`` of a failed one."""
    model: str | None = None
    """Name of the trained student."""
    results: str | None = None
    """Upload with what was measured at each step."""
    at: str = ""
    ended_at: str | None = None
    since: int = 0
    """Number of the newest event when it was made: all that is said of it comes later."""
    number: int = field(default=0, compare=False)

    @property
    def ended(self) -> bool:
        """True if nothing more will come of it by itself."""
        return self.state in ENDED


def add(connection: sa.Connection, job: Job) -> Job:
    """Store a new job."""
    result = connection.execute(
        schema.job.insert().values(
            id=job.id,
            state=job.state,
            asked=json.dumps(job.asked, ensure_ascii=False),
            student=job.student,
            since=job.since,
            key=job.key,
            at=now(),
        )
    )
    number = int(result.inserted_primary_key[0])  # type: ignore[index]
    return _job(connection.execute(_query().where(schema.job.c.number == number)).one())


def get(connection: sa.Connection, id: str) -> Job | None:
    """The job of that id, or None."""
    return _one(connection, schema.job.c.id == id)


def of_key(connection: sa.Connection, key: str) -> Job | None:
    """The job that a request with that Idempotency-Key made, or None."""
    return _one(connection, schema.job.c.key == key)


def of_run(connection: sa.Connection, run_id: int) -> Job | None:
    """The job that a run belongs to, or None."""
    return _one(connection, schema.job.c.run_id == run_id)


def of_model(connection: sa.Connection, model: str) -> Job | None:
    """The job whose trained student has that name, or None."""
    return _one(connection, schema.job.c.model == model)


def first(connection: sa.Connection, state: JobState) -> Job | None:
    """The oldest job in that state, or None."""
    query = _query().where(schema.job.c.state == state).order_by(schema.job.c.number).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else _job(row)


def page(
    connection: sa.Connection,
    *,
    after: str | None = None,
    limit: int | None = None,
    metadata: Mapping[str, str] | None = None,
    no_metadata: bool = False,
) -> list[Job]:
    """Jobs, the newest first: behind the one of id ``after``, with all of that metadata."""
    number = schema.job.c.number
    query = _query().order_by(number.desc()).limit(limit)
    if after is not None:
        last = sa.select(number).where(schema.job.c.id == after).scalar_subquery()
        query = query.where(number < last)
    if no_metadata:
        query = query.where(sa.func.json_extract(schema.job.c.asked, "$.metadata").is_(None))
    for name, value in (metadata or {}).items():
        pair = sa.func.json_each(schema.job.c.asked, "$.metadata").table_valued("key", "value")
        query = query.where(
            sa.exists(sa.select(pair.c.key).where(pair.c.key == name, pair.c.value == value))
        )
    return [_job(row) for row in connection.execute(query)]


def change(
    connection: sa.Connection, id: str, came_from: Collection[JobState], **values: Any
) -> Job | None:
    """Change a job that is in one of those states; None if it is in another by now.

    One that ends is given the time of its end, one that goes on loses it.
    """
    if "error" in values and values["error"] is not None:
        values["error"] = json.dumps(values["error"], ensure_ascii=False)
    if "state" in values:
        values["ended_at"] = now() if values["state"] in ENDED else None
    changed = connection.execute(
        schema.job.update()
        .where(schema.job.c.id == id, schema.job.c.state.in_(came_from))
        .values(values)
    )
    return get(connection, id) if changed.rowcount else None


def _one(connection: sa.Connection, where: sa.ColumnElement[bool]) -> Job | None:
    row = connection.execute(_query().where(where)).one_or_none()
    return None if row is None else _job(row)


def _query() -> sa.Select[Any]:
    return sa.select(schema.job)


def _job(row: sa.Row[Any]) -> Job:
    return Job(
        id=row.id,
        asked=json.loads(row.asked),
        student=row.student,
        state=cast("JobState", row.state),
        key=row.key,
        dataset_id=row.dataset_id,
        run_id=row.run_id,
        error=row.error and json.loads(row.error),
        model=row.model,
        results=row.results,
        at=row.at,
        ended_at=row.ended_at,
        since=row.since,
        number=row.number,
    )
