"""The verb that proves it: evaluate; and a few answers to look at."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from understudy import evaluate as evaluation
from understudy import models, score
from understudy.errors import UnderstudyError, UsageError
from understudy.models.local import Local
from understudy.models.protocol import Model
from understudy.project.adopting import adopted
from understudy.project.paid import run as run_async
from understudy.project.shelf import (
    checked_splits,
    dataset_of,
    last_trained,
    newest_dataset,
    spec_of,
)
from understudy.project.workplace import Workplace
from understudy.report import Report, System
from understudy.run import Run
from understudy.store import runs
from understudy.train.recipe import TINY


def evaluate(place: Workplace) -> Report:
    """Ask every system the test items of the newest trained run's dataset, or of the newest one."""
    started = time.monotonic()
    run = last_trained(place)
    frozen = newest_dataset(place) if run is None else dataset_of(place, run)
    items = list(checked_splits(place, frozen)["test"])
    if not items:
        raise UsageError(
            f"dataset {frozen.id} has no test items: it is the rows of a fine-tuning file",
            "`understudy adopt FILE` makes a project of one, with a test split",
        )
    spec, settings = spec_of(place, frozen), place.settings
    names = _systems(place, run)
    if not names:
        raise UsageError("there is nobody to evaluate", "Train a student, or name a --teacher")
    place.say("evaluate.start", systems=list(names), items=len(items))
    outcomes = []

    async def work(teacher: Model | None) -> None:
        async with _opened(place, run, teacher) as systems:
            told = time.monotonic()
            async for outcome in evaluation.evaluate(
                systems,
                items,
                spec,
                system_message=spec.system_message,
                max_tokens=settings.max_answer_tokens,
                concurrency=models.at_once(settings.teacher, settings),
                plainly=adopted(place),
            ):
                outcomes.append(outcome)
                if time.monotonic() - told > 0.25:
                    told = time.monotonic()
                    total = len(items) * len(systems)
                    place.say("evaluate.progress", done=len(outcomes), total=total)

    error: UnderstudyError | None = None
    try:
        if "teacher" in names:
            place.paid(work)
        else:
            run_async(lambda _: work(None), place.say)
    except UnderstudyError as stopped:
        error = stopped  # what was answered until then makes a report all the same
        if not outcomes:
            raise
    seconds = round(time.monotonic() - started, 2)
    report = evaluation.summarise(
        frozen.id, score.METRICS[spec.kind], outcomes, names, seconds=seconds
    )
    with place.database.write() as connection:
        number = runs.add_report(connection, report)
    report = replace(report, id=number)
    _write_report(place.folder / "reports" / f"{number}.json", report)
    place.say("evaluate.done", report=number, verdict=report.verdict)
    if error is not None:
        raise error
    return report


def _systems(place: Workplace, run: Run | None) -> dict[str, str]:
    """Each system's model name. The teacher takes part if one is named or has made examples."""
    names: dict[str, str] = {}
    if place.settings.teacher:
        names["teacher"] = place.teacher
    if run is not None:
        names |= {"base": f"{run.student} before training", "student": run.model}
    return names


@asynccontextmanager
async def _opened(
    place: Workplace, run: Run | None, teacher: Model | None
) -> AsyncIterator[dict[System, Model]]:
    """The models that take part."""
    systems: dict[System, Model] = {} if teacher is None else {"teacher": teacher}
    local: list[Local] = []
    try:
        if run is not None:
            base = Local(_base_folder(place, run), name=f"{run.student} before training")
            local.append(base)
            student = Local(run.folder / "model", name=run.model)
            local.append(student)
            systems |= {"base": base, "student": student}
        yield systems
    finally:
        for model in local:
            await model.close()


def _base_folder(place: Workplace, run: Run) -> Path:
    """The model that the student was before training; fetched again if the cache was emptied."""
    if run.student == TINY:
        return run.folder / "base"
    return models.local_folder(run.student, offline=place.settings.offline, say=place.say)


class Sample(NamedTuple):
    """One test item as the student answered it."""

    input: str
    answer: str
    reference: str
    right: bool


def samples(place: Workplace, report: Report, number: int) -> list[Sample]:
    """A few answers of the student, spread over the test, with what was expected."""
    with place.database.read() as connection:
        items = {
            example.id: example for example in runs.members(connection, report.dataset_id, "test")
        }
    answered = [outcome for outcome in report.outcomes if outcome.system == "student"]
    return [
        Sample(
            items[outcome.example_id].input,
            outcome.answer or "",
            items[outcome.example_id].answer,
            outcome.score == 1,
        )
        for outcome in answered[:: max(1, len(answered) // number)][:number]
    ]


def _write_report(path: Path, report: Report) -> None:
    path.parent.mkdir(exist_ok=True)
    body = evaluation.as_json(report)
    path.write_text(json.dumps(body, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
