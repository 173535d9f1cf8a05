"""Datasets, runs and reports: what was frozen, trained and measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from understudy.example import Example, Split
from understudy.report import Outcome, Report, from_stored
from understudy.run import AnyRun, HostedRecipe, HostedRun, Recipe, Run, RunState
from understudy.store import schema, tasks
from understudy.store.database import now
from understudy.store.examples import example_of
from understudy.task import Task

LOOKED = "test.looked"
"""Event: the test split was used otherwise than by ``evaluate``: {dataset, by}."""


@dataclass(frozen=True, slots=True)
class Frozen:
    """A dataset version as it is stored."""

    id: int
    task_version: int
    fingerprint: str
    counts: dict[str, int]

    @property
    def own(self) -> bool:
        """False if it was made from a fine-tuning file: no verb takes such a one as the newest."""
        return self.task_version > 0


def add_dataset(
    connection: sa.Connection,
    task_version: int,
    fingerprint: str,
    splits: Mapping[Split, list[Example]],
) -> Frozen:
    """Store a dataset; one with the same content is returned as it is, not stored twice."""
    counts = {split: len(examples) for split, examples in splits.items()}
    frozen, is_new = _add_dataset(connection, task_version, fingerprint, counts)
    if is_new:
        connection.execute(
            schema.member.insert(),
            [
                {"dataset_id": frozen.id, "example_id": example.id, "split": split}
                for split, examples in splits.items()
                for example in examples
            ],
        )
    return frozen


def _add_dataset(
    connection: sa.Connection, task_version: int, fingerprint: str, counts: Mapping[Split, int]
) -> tuple[Frozen, bool]:
    """The dataset of that content, and whether it is stored only now."""
    table = schema.dataset
    made = connection.execute(
        insert(table)
        .values(
            task_version=task_version, fingerprint=fingerprint, counts=json.dumps(counts), at=now()
        )
        .on_conflict_do_nothing()
    )
    same = sa.select(table).where(table.c.fingerprint == fingerprint)
    return _dataset(connection.execute(same).one()), bool(made.rowcount)


def add_dataset_of_file(
    connection: sa.Connection, task: Task, fingerprint: str, counts: Mapping[Split, int]
) -> Frozen:
    """Store a dataset whose rows are those of a file, which is its record: it has no examples.

    Its task is stored with it (``task.version`` is given anew); one with the same content is
    returned as it is.
    """
    table = schema.dataset
    same = sa.select(table).where(table.c.fingerprint == fingerprint)
    found = connection.execute(same).one_or_none()
    if found is not None:
        return _dataset(found)
    stored = tasks.add_of_file(connection, task.description, task.spec, task.author)
    return _add_dataset(connection, stored.version, fingerprint, counts)[0]


def dataset(connection: sa.Connection, number: int | None = None) -> Frozen | None:
    """The dataset of that number, or the newest of the project's own."""
    table = schema.dataset
    query = sa.select(table).order_by(table.c.id.desc()).limit(1)
    if number is None:
        query = query.where(table.c.task_version > 0)
    else:
        query = query.where(table.c.id == number)
    row = connection.execute(query).one_or_none()
    return None if row is None else _dataset(row)


def datasets(connection: sa.Connection) -> list[Frozen]:
    """Every dataset, oldest first."""
    return [
        _dataset(row)
        for row in connection.execute(sa.select(schema.dataset).order_by(schema.dataset.c.id))
    ]


def members(connection: sa.Connection, dataset_id: int, split: Split) -> Iterator[Example]:
    """The examples of one split, in order of their ids."""
    query = (
        sa.select(schema.example)
        .join(schema.member, schema.member.c.example_id == schema.example.c.id)
        .where(schema.member.c.dataset_id == dataset_id, schema.member.c.split == split)
        .order_by(schema.example.c.id)
    )
    for row in connection.execution_options(yield_per=1000).execute(query):
        yield example_of(row)


def _dataset(row: sa.Row[tuple[object, ...]]) -> Frozen:
    return Frozen(row.id, row.task_version, row.fingerprint, json.loads(row.counts))


def add_run(
    connection: sa.Connection, dataset_id: int, student: str, recipe: Recipe, runs: Path
) -> Run:
    """Record a run before it starts."""
    number = _added(connection, dataset_id, student, recipe)
    return Run(number, dataset_id, student, runs / str(number), recipe)


def add_hosted_run(
    connection: sa.Connection, dataset_id: int, student: str, recipe: HostedRecipe, runs: Path
) -> HostedRun:
    """Record a run at a host before anything is sent."""
    number = _added(connection, dataset_id, student, recipe)
    return HostedRun(number, dataset_id, student, runs / str(number), recipe)


def _added(
    connection: sa.Connection, dataset_id: int, student: str, recipe: Recipe | HostedRecipe
) -> int:
    result = connection.execute(
        schema.run.insert().values(
            dataset_id=dataset_id,
            student=student,
            recipe=recipe.model_dump_json(),
            state="created",
            metrics="{}",
            at=now(),
        )
    )
    return int(result.inserted_primary_key[0])  # type: ignore[index]


def set_run(connection: sa.Connection, run: AnyRun) -> None:
    """Store a run's state and metrics, and its recipe: memory may have asked for a smaller one."""
    connection.execute(
        schema.run.update()
        .where(schema.run.c.id == run.id)
        .values(
            state=run.state,
            metrics=json.dumps(run.metrics),
            recipe=run.recipe.model_dump_json(),
        )
    )


def runs(connection: sa.Connection, folder: Path) -> list[AnyRun]:
    """Every run, oldest first. ``folder`` is where the runs' own folders lie."""
    rows = connection.execute(sa.select(schema.run).order_by(schema.run.c.id))
    return [_run(row, folder / str(row.id)) for row in rows]


def _run(row: sa.Row[tuple[object, ...]], folder: Path) -> AnyRun:
    recipe, state = json.loads(row.recipe), cast("RunState", row.state)
    about = (row.id, row.dataset_id, row.student, folder)
    metrics = json.loads(row.metrics)
    if recipe.get("kind") == "hosted":
        return HostedRun(*about, HostedRecipe.model_validate(recipe), state, metrics)
    return Run(*about, Recipe.model_validate(recipe), state, metrics)


def add_report(connection: sa.Connection, report: Report) -> int:
    """Store a report with every item's outcome; its number."""
    body = asdict(report) | {"outcomes": None}
    result = connection.execute(
        schema.report.insert().values(
            dataset_id=report.dataset_id, report=json.dumps(body, ensure_ascii=False), at=now()
        )
    )
    number = int(result.inserted_primary_key[0])  # type: ignore[index]
    rows = _outcome_rows(number, report.outcomes)
    if rows:
        connection.execute(schema.outcome.insert(), rows)
    return number


def _outcome_rows(number: int, outcomes: Iterable[Outcome]) -> list[dict[str, object]]:
    return [
        {
            "report_id": number,
            "example_id": outcome.example_id,
            "system": outcome.system,
            "outcome": json.dumps(asdict(outcome), ensure_ascii=False),
        }
        for outcome in outcomes
    ]


def report(connection: sa.Connection, number: int | None = None) -> Report | None:
    """The report of that number, or the newest, with its outcomes."""
    query = sa.select(schema.report).order_by(schema.report.c.id.desc()).limit(1)
    if number is not None:
        query = query.where(schema.report.c.id == number)
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    lines = connection.scalars(
        sa.select(schema.outcome.c.outcome)
        .where(schema.outcome.c.report_id == row.id)
        .order_by(schema.outcome.c.id)
    )
    body = json.loads(row.report) | {"outcomes": [json.loads(line) for line in lines]}
    return from_stored(body | {"id": row.id})


def looks(connection: sa.Connection, dataset_id: int) -> int:
    """How often the dataset's test split was looked at: reports on any of its items, other uses."""
    member, outcome = schema.member, schema.outcome
    tested = sa.select(member.c.example_id).where(
        member.c.dataset_id == dataset_id, member.c.split == "test"
    )
    reports = sa.func.count(outcome.c.report_id.distinct())
    evaluated = connection.scalar(sa.select(reports).where(outcome.c.example_id.in_(tested)))
    others = sa.select(sa.func.count()).where(schema.event.c.kind == LOOKED)
    return (evaluated or 0) + (connection.scalar(others) or 0)


def datasets_with(connection: sa.Connection, reason: str) -> list[int]:
    """Datasets that hold an example which was set apart later, for that reason."""
    table = schema.member.join(schema.example, schema.member.c.example_id == schema.example.c.id)
    query = sa.select(schema.member.c.dataset_id).select_from(table)
    return sorted(connection.scalars(query.where(schema.example.c.reason == reason).distinct()))


def terms(connection: sa.Connection, dataset_id: int) -> list[str]:
    """What the makers' terms say, as it was recorded with the examples of a dataset."""
    table = schema.member.join(schema.example, schema.member.c.example_id == schema.example.c.id)
    query = (
        sa.select(schema.example.c.terms)
        .select_from(table)
        .where(schema.member.c.dataset_id == dataset_id, schema.example.c.terms != "")
    )
    return sorted(connection.scalars(query.distinct()))
