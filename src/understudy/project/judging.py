"""The verb that proves it: evaluate; and a few answers to look at."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from understudy import evaluate as evaluation
from understudy import models, score
from understudy.errors import UnderstudyError, UsageError
from understudy.models.local import Local
from understudy.models.protocol import Endpoint, Model
from understudy.money import Price
from understudy.project import hosting
from understudy.project.adopting import adopted
from understudy.project.paid import run as run_async
from understudy.project.paid import with_models
from understudy.project.shelf import (
    checked_splits,
    dataset_of,
    last_trained,
    newest_dataset,
    spec_of,
)
from understudy.project.workplace import Workplace
from understudy.report import Outcome, Report, System
from understudy.run import AnyRun, HostedRun, Run
from understudy.store import runs
from understudy.train.hosted.tables import switched_off
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
    endpoints = _endpoints(place, run, names)
    place.say("evaluate.start", systems=list(names), items=len(items))
    outcomes = []

    async def work(*paid: Model) -> None:
        async with _opened(place, run, dict(zip(endpoints, paid, strict=True))) as systems:
            told = time.monotonic()
            async for outcome in evaluation.evaluate(
                systems,
                items,
                spec,
                system_message=spec.system_message,
                max_tokens=settings.max_answer_tokens,
                concurrency=models.at_once(settings.teacher or _student(run), settings),
                plainly=adopted(place),
            ):
                outcomes.append(outcome)
                if time.monotonic() - told > 0.25:
                    told = time.monotonic()
                    total = len(items) * len(systems)
                    place.say("evaluate.progress", done=len(outcomes), total=total)

    error: UnderstudyError | None = None
    try:
        if endpoints:
            found = [*endpoints.values()]
            with_models(place.database, settings, found, work, place.say)
        else:
            run_async(lambda _: work(), place.say)
    except UnderstudyError as stopped:
        error = stopped  # what was answered until then makes a report all the same
        if not outcomes:
            raise
    seconds = round(time.monotonic() - started, 2)
    report = evaluation.summarise(
        frozen.id,
        score.METRICS[spec.kind],
        _with_since(place, outcomes),
        names,
        seconds=seconds,
    )
    with place.database.write() as connection:
        number = runs.add_report(connection, report)
    report = replace(report, id=number)
    _write_report(place.folder / "reports" / f"{number}.json", report)
    place.say("evaluate.done", report=number, verdict=report.verdict)
    if error is not None:
        raise error
    return report


def _student(run: AnyRun | None) -> str:
    return run.student if isinstance(run, HostedRun) else ""


def _systems(place: Workplace, run: AnyRun | None) -> dict[str, str]:
    """Each system's model name. The teacher takes part if one is named or has made examples."""
    names: dict[str, str] = {}
    if place.settings.teacher:
        names["teacher"] = place.teacher
    if isinstance(run, HostedRun):
        names |= {"base": run.student, "student": run.remote}
    elif run is not None:
        names |= {"base": f"{run.student} before training", "student": run.model}
    return names


def _endpoints(
    place: Workplace, run: AnyRun | None, names: Mapping[str, str]
) -> dict[System, tuple[Endpoint, Price]]:
    """Those that are asked over a wire, and so through the ledger."""
    found: dict[System, tuple[Endpoint, Price]] = {}
    if "teacher" in names:
        found["teacher"] = models.endpoint(place.teacher, place.settings)
        place.tell_terms()
    if isinstance(run, HostedRun):
        found["base"] = hosting.endpoint(place, names["base"])
        found["student"] = hosting.endpoint(place, names["student"])
    return found


@asynccontextmanager
async def _opened(
    place: Workplace, run: AnyRun | None, paid: Mapping[System, Model]
) -> AsyncIterator[dict[System, Model]]:
    """The models that take part."""
    systems: dict[System, Model] = dict(paid)
    if isinstance(run, HostedRun):
        systems["student"] = hosting.Deployed(paid["student"], place, run)
    local: list[Local] = []
    try:
        if isinstance(run, Run):
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


def _with_since(place: Workplace, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes; where the teacher gave none, also since when it is off, if that is known."""
    off = _switched_off(place.settings.teacher)
    return [
        replace(one, note=f"{one.note}; {off}")
        if off and one.system == "teacher" and one.score is None
        else one
        for one in outcomes
    ]


def _switched_off(teacher: str) -> str:
    from understudy.models.address import address

    with suppress(UnderstudyError):  # what has no address has no dates
        return switched_off(address(teacher, offline=False), datetime.now(UTC).date())
    return ""


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
