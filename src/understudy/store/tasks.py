"""Tasks and plans: every version is kept, the newest one counts.

Versions below 0 belong to fine-tuning files: what a file teaches is a task too, since a dataset
needs one, but it is not the project's own. It never is the newest, and counts among no others.
"""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from understudy.store import schema
from understudy.store.database import now
from understudy.task import Plan, Spec, Task

_OWN = schema.task.c.version > 0


def add(connection: sa.Connection, description: str, spec: Spec | None, author: str) -> Task:
    """Store a new version of the task and return it."""
    newest = connection.scalar(sa.select(sa.func.max(schema.task.c.version)).where(_OWN)) or 0
    return _add(connection, Task(description, spec, newest + 1, author))


def add_of_file(
    connection: sa.Connection, description: str, spec: Spec | None, author: str
) -> Task:
    """Store what a fine-tuning file teaches; the project's own task stays the newest."""
    lowest = connection.scalar(sa.select(sa.func.min(schema.task.c.version))) or 0
    return _add(connection, Task(description, spec, min(lowest, 0) - 1, author))


def _add(connection: sa.Connection, task: Task) -> Task:
    connection.execute(
        schema.task.insert().values(
            version=task.version,
            description=task.description,
            spec=task.spec.model_dump_json() if task.spec else None,
            author=task.author,
            at=now(),
        )
    )
    return task


def latest(connection: sa.Connection) -> Task | None:
    """The newest version, or None if nothing was described yet."""
    row = connection.execute(
        sa.select(schema.task).where(_OWN).order_by(schema.task.c.version.desc()).limit(1)
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
        for row in connection.execute(
            sa.select(schema.task).where(_OWN).order_by(schema.task.c.version)
        )
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
