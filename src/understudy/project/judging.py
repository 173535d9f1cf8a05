"""The verb that proves it: evaluate; and a few answers to look at."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from understudy import dataset, models, score
from understudy import evaluate as evaluation
from understudy.errors import UnderstudyError, UsageError
from understudy.evaluate.break_even import break_even
from understudy.evaluate.by_judge import by_judge
from understudy.evaluate.gate import Condition
from understudy.example import Example
from understudy.models.protocol import Model
from understudy.project import jury
from understudy.project.adopting import adopted
from understudy.project.paid import run as run_async
from understudy.project.paid import with_models
from understudy.project.shelf import (
    Splits,
    checked_splits,
    dataset_of,
    last_trained,
    newest_dataset,
    spec_of,
)
from understudy.project.taking_part import Parts, parts
from understudy.project.workplace import Workplace
from understudy.report import Outcome, Report
from understudy.score import Judged, Metric
from understudy.store import account, runs
from understudy.store.runs import Frozen
from understudy.train.hosted.tables import switched_off

NOT_MAKING = ("evaluate", "predict", "judge", "parity", "check")
"""Purposes of calls that neither made data nor trained."""


@dataclass(frozen=True, slots=True)
class How:
    """What an evaluation was asked for."""

    models: Sequence[str] = ()
    """Other models, by name."""
    few_shot: int | None = None
    """Examples shown to the base; None: as many as fit its kind."""
    metric: str | Judged | None = None
    """A metric's name, or a function of (reference, answer); None: that of the spec's kind."""
    gates: Sequence[str] = ()
    confirm: jury.Confirm = lambda _: None
    """Told the quote for the judge's calls before they are made."""


def evaluate(place: Workplace, how: How | None = None) -> Report:
    """Ask every system the test items of the newest trained run's dataset, or of the newest one."""
    started = time.monotonic()
    how = how or How()
    run = last_trained(place)
    frozen = newest_dataset(place) if run is None else dataset_of(place, run)
    splits = checked_splits(place, frozen)
    items = splits["test"]
    if not items:
        raise UsageError(
            f"dataset {frozen.id} has no test items: it is the rows of a fine-tuning file",
            "`understudy adopt FILE` makes a project of one, with a test split",
        )
    spec = spec_of(place, frozen)
    metric = _metric(score.metric(how.metric, spec), items)
    taking, shown = parts(place, run, how.models, how.few_shot)
    if not taking.names:
        raise UsageError("there is nobody to evaluate", "Train a student, or name a --teacher")
    conditions = [evaluation.parse(gate, taking.names) for gate in how.gates]
    shots = evaluation.shots(splits["train"], shown, seed=place.settings.seed)
    court = jury.opened(place, spec)  # refused before anything is spent
    place.say("evaluate.start", systems=list(taking.names), items=len(items))
    outcomes: list[Outcome] = []
    error = _asked(place, taking, items, shots, metric, frozen, outcomes)
    if error is not None and not outcomes:
        raise error
    report = _report(place, frozen, splits, taking, metric, outcomes, conditions, len(shots))
    if court is not None and error is None:
        report, error = _judged(court, report, items, taking.names, how.confirm)
    report = replace(report, seconds=round(time.monotonic() - started, 2))
    with place.database.write() as connection:
        number = runs.add_report(connection, report)
    report = replace(report, id=number)
    _write_report(place.folder / "reports" / f"{number}.json", report)
    place.say("evaluate.done", report=number, verdict=report.verdict)
    if error is not None:
        raise error
    return report


def _metric(metric: Metric, items: Sequence[Example]) -> Metric:
    """The metric, tried on the references: what fails is told before anybody is asked."""
    for item in items:
        metric(item.answer, item.answer)
    return metric


def _asked(
    place: Workplace,
    taking: Parts,
    items: Sequence[Example],
    shots: Sequence[Example],
    metric: Metric,
    frozen: Frozen,
    outcomes: list[Outcome],
) -> UnderstudyError | None:
    """Fill ``outcomes``; the error that ended it: what came until then makes a report too."""
    spec, settings = spec_of(place, frozen), place.settings
    wired = [settings.teacher, *(taking.names[system] for system in taking.endpoints)]
    first = next((name for name in wired if name), "")

    async def work(*paid: Model) -> None:
        behind = dict(zip(taking.endpoints, paid, strict=True))
        async with taking.opened(place, behind) as systems:
            told = time.monotonic()
            async for outcome in evaluation.evaluate(
                systems,
                items,
                spec,
                system_message=spec.system_message,
                max_tokens=settings.max_answer_tokens,
                concurrency=models.at_once(first, settings),
                plainly=adopted(place),
                metric=metric,
                shots=shots,
                prompted=taking.prompted,
            ):
                outcomes.append(outcome)
                if time.monotonic() - told > 0.25:
                    told = time.monotonic()
                    total = len(items) * len(systems)
                    place.say("evaluate.progress", done=len(outcomes), total=total)

    try:
        if taking.endpoints:
            found = [*taking.endpoints.values()]
            with_models(place.database, settings, found, work, place.say)
        else:
            run_async(lambda _: work(), place.say)
    except UnderstudyError as stopped:
        return stopped
    return None


def _judged(
    court: jury.Jury,
    report: Report,
    items: Sequence[Example],
    names: Mapping[str, str],
    confirm: jury.Confirm,
) -> tuple[Report, UnderstudyError | None]:
    """The report with the judge's part; the verdict too, where equality with references has none.

    An error that stopped the judge comes beside what there is.
    """
    judgement, error = jury.judge(court, items, report.outcomes, names, confirm)
    report = replace(report, judge=judgement)
    if report.decision == "teacher_unsure" and (found := by_judge(judgement)):
        report = replace(report, decision=found.decision, verdict=found.sentence)
    return report, error


def _report(
    place: Workplace,
    frozen: Frozen,
    splits: Splits,
    taking: Parts,
    metric: Metric,
    outcomes: Sequence[Outcome],
    conditions: Sequence[Condition],
    few_shot: int,
) -> Report:
    items = splits["test"]
    with place.database.read() as connection:
        looks = runs.looks(connection, frozen.id)
        spent = sum(
            row["cost_micro"] or 0
            for row in account.totals(connection)
            if row["purpose"] not in NOT_MAKING
        )
    scores = {outcome.score for outcome in outcomes} - {None}
    by_teacher = sum(item.maker == taking.names.get("teacher") for item in items)
    context = evaluation.Context(
        graded=metric.graded and not scores <= {0.0, 1.0},
        groups={item.id or 0: dataset.group_of(item) for item in items},
        sizes=taking.sizes(),
        looks=looks + 1,
        few_shot=few_shot,
        test_share=len(items) / sum(map(len, splits.values())),
        own_references=2 * by_teacher > len(items),
        conditions=conditions,
    )
    report = evaluation.summarise(
        frozen.id, metric.title, _with_since(place, outcomes), taking.names, context=context
    )
    systems = report.systems
    paid = break_even(systems.get("teacher"), systems.get("student"), spent)
    return replace(report, break_even=paid)


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
