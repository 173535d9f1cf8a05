"""Tasks and plans: every version is kept, the newest one counts."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from understudy.store import schema
from understudy.store.database import now
from understudy.task import Plan, Spec, Task


def add(connection: sa.Connection, description: str, spec: Spec | None, author: str) -> Task:
    """Store a new version of the task and return it."""
    newest = connection.scalar(sa.select(sa.func.max(schema.task.c.version))) or 0
    connection.execute(
        schema.task.insert().values(
            version=newest + 1,
            description=description,
            spec=spec.model_dump_json() if spec else None,
            author=author,
            at=now(),
        )
    )
    return Task(description, spec, newest + 1, author)


def latest(connection: sa.Connection) -> Task | None:
    """The newest version, or None if nothing was described yet."""
    row = connection.execute(
        sa.select(schema.task).order_by(schema.task.c.version.desc()).limit(1)
    ).one_or_none()
    return None if row is None else _task(row)


def version(connection: sa.Connection, number: int) -> Task:
    """That version of the task."""
    row = connection.execute(sa.select(schema.task).where(schema.task.c.version == number)).one()
    return _task(row)


def alike(connection: sa.Connection, task: Task) -> list[int]:
    """Versions under which the same behaviour is learnt: equal system message, equal answer schema.

    A changed title or rule list does not make examples useless; a changed system message does.
    """

    def behaviour(one: Task) -> object:
        return one.spec and (one.spec.system_message, one.spec.answer_schema())

    return [one.version for one in versions(connection) if behaviour(one) == behaviour(task)]


def versions(connection: sa.Connection) -> list[Task]:
    """Every version, oldest first."""
    return [
        _task(row)
        for row in connection.execute(sa.select(schema.task).order_by(schema.task.c.version))
    ]


def _task(row: sa.Row[tuple[object, ...]]) -> Task:
    spec = Spec.model_validate_json(row.spec) if row.spec else None
    return Task(row.description, spec, row.version, row.author)


def add_plan(connection: sa.Connection, task_version: int, plan: Plan, author: str) -> None:
    """Store a plan for a version of the task."""
    connection.execute(
        schema.plan.insert().values(
            task_version=task_version, plan=plan.model_dump_json(), author=author, at=now()
        )
    )


def latest_plan(connection: sa.Connection, versions: Collection[int]) -> Plan | None:
    """The newest plan for any of those versions of the task."""
    text = connection.scalar(
        sa.select(schema.plan.c.plan)
        .where(schema.plan.c.task_version.in_(versions))
        .order_by(schema.plan.c.id.desc())
        .limit(1)
    )
    return None if text is None else Plan.model_validate_json(text)
