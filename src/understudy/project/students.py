"""The verbs that make and use the student: train, evaluate, predict, export."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from understudy import dataset, models, score
from understudy import evaluate as evaluation
from understudy import export as exporting
from understudy import train as training
from understudy.errors import UnderstudyError, UsageError
from understudy.example import Example, Message, Split
from understudy.models.local import Local
from understudy.models.protocol import Model
from understudy.models.question import question
from understudy.project.examples import write_dataset
from understudy.project.paid import run as run_async
from understudy.project.paid import with_teacher
from understudy.project.results import Exported
from understudy.project.workplace import Workplace
from understudy.report import Report, System
from understudy.run import Event, Method, Run
from understudy.store import events, runs, tasks
from understudy.store.runs import Frozen
from understudy.task import Spec
from understudy.train.recipe import TINY, choose

PARITY_PROMPTS = 20
METRICS = {
    "text": "exact match (normalised)",
    "label": "label accuracy",
    "json": "all fields right",
}
"""What counts as right, by kind of output."""


Splits = dict[Split, list[Example]]


def train(
    place: Workplace, *, method: Method | None, again: bool, overrides: Mapping[str, Any]
) -> Run:
    """Train on the newest dataset; an unfinished run of the same settings goes on."""
    frozen = _newest_dataset(place)
    folder = place.folder / "datasets" / str(frozen.id)
    splits = _checked_splits(place, frozen)
    spec = _spec_of(place, frozen)
    write_dataset(folder, splits, spec.system_message, frozen.fingerprint)
    student, seed = _student(place.settings.student), place.settings.seed
    lengths = [dataset.size(example, spec.system_message) for example in splits["train"]]
    recipe = choose(student, lengths, method=method, seed=seed, overrides=overrides)
    for old in reversed(_all_runs(place)):
        same = (old.dataset_id, old.student, old.recipe) == (frozen.id, student, recipe)
        if same and old.state == "succeeded" and not again:
            return old
        if same and old.state in ("created", "running", "interrupted"):
            return _follow(place, old, folder)
    with place.database.write() as connection:
        run = runs.add_run(connection, frozen.id, student, recipe, place.folder / "runs")
    return _follow(place, run, folder)


def _follow(place: Workplace, run: Run, dataset_folder: Path) -> Run:
    """Run the trainer's process to its end, storing what it says."""
    started = time.monotonic()
    place.say("train.start", run=run.id, student=run.student, why=" ".join(run.recipe.why))
    run = _set(place, replace(run, state="running"))
    at_work = training.start(run, dataset_folder)
    last = Event("train.failed", {"message": "the trainer said nothing"})
    try:
        for last in training.follow(at_work):
            with place.database.write() as connection:
                events.add(connection, replace(last, data={"run": run.id, **last.data}))
    except BaseException:
        training.cancel(at_work)
        _set(place, replace(run, state="interrupted"))
        raise
    if last.kind != "train.done":
        stopped = last.kind == "train.interrupted"
        _set(place, replace(run, state="interrupted" if stopped else "failed"))
        raise _error(last)
    run = _set(place, replace(run, state="succeeded", metrics=last.data))
    seconds = round(time.monotonic() - started, 1)
    place.say("run.state", run=run.id, state=run.state, seconds=seconds)
    return run


def _error(event: Event) -> UnderstudyError:
    """What the trainer's last words say."""
    error = UnderstudyError(str(event.data["message"]), str(event.data.get("fix", "")))
    error.exit_code = int(event.data.get("exit_code", 1))
    return error


def _student(name: str) -> str:
    """``tiny``, or the absolute folder of a model: the same model has one name in every run."""
    if name == TINY:
        return name
    return str(Path(models.local_folder(name)).expanduser().absolute())


def evaluate(place: Workplace) -> Report:
    """Ask every system the test items of the newest trained run's dataset, or of the newest one."""
    started = time.monotonic()
    run = _last_trained(place)
    frozen = _newest_dataset(place) if run is None else _dataset_of(place, run)
    items = list(_checked_splits(place, frozen)["test"])
    spec, settings = _spec_of(place, frozen), place.settings
    names = _systems(place, run)
    if not names:
        raise UsageError("there is nobody to evaluate", "Train a student, or name a --teacher")
    place.say("evaluate.start", systems=list(names), items=len(items))
    outcomes = []

    async def work(teacher: Model | None) -> None:
        async with _opened(run, teacher) as systems:
            told = time.monotonic()
            async for outcome in evaluation.evaluate(
                systems,
                items,
                spec,
                system_message=spec.system_message,
                max_tokens=settings.max_answer_tokens,
                concurrency=settings.concurrency,
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
            run_async(work(None))
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
async def _opened(run: Run | None, teacher: Model | None) -> AsyncIterator[dict[System, Model]]:
    """The models that take part."""
    systems: dict[System, Model] = {} if teacher is None else {"teacher": teacher}
    local: list[Local] = []
    try:
        if run is not None:
            base = Local(_base_folder(run), name=f"{run.student} before training")
            local.append(base)
            student = Local(run.folder / "model", name=run.model)
            local.append(student)
            systems |= {"base": base, "student": student}
        yield systems
    finally:
        for model in local:
            await model.close()


def _base_folder(run: Run) -> Path:
    """The model that the student was before training."""
    return run.folder / "base" if run.student == TINY else Path(run.student)


def predict(place: Workplace, text: str, name: str) -> str:
    """The answer of a model to one input."""
    run = _run_named(place, name) if name.startswith("run:") else None
    spec = place.spec if run is None else _spec_of(place, _dataset_of(place, run))
    limit = place.settings.max_answer_tokens
    messages = (Message("user", text),)
    request = question(spec.system_message, messages, limit, purpose="predict")

    async def ask(model: Model) -> str:
        return (await model.complete(request)).text

    if not models.is_local(name):
        return with_teacher(place.database, place.settings, name, ask)

    folder = Path(models.local_folder(name)).expanduser() if run is None else run.folder / "model"

    async def ask_local() -> str:
        model = Local(folder, name=name)
        try:
            return await ask(model)
        finally:
            await model.close()

    return run_async(ask_local())


def export_model(place: Workplace, target: Path) -> Exported:
    """Write the newest trained student to ``target``, and prove that it answers as it did."""
    run = _last_trained(place)
    if run is None:
        raise UsageError("there is no trained student to export", "understudy train")
    frozen = _dataset_of(place, run)
    spec, task = _spec_of(place, frozen), place.task
    with place.database.read() as connection:
        newest = runs.report(connection)
        test = list(runs.members(connection, frozen.id, "test"))[:PARITY_PROMPTS]
    judged = newest.systems.get("student") if newest else None
    facts = exporting.CardFacts(
        title=spec.title,
        description=task.description,
        system_message=spec.system_message,
        teacher=place.settings.teacher,
        student=run.student,
        counts=frozen.counts,
        report=newest if judged and judged.model == run.model else None,
    )
    limit = place.settings.max_answer_tokens
    prompts = [
        question(spec.system_message, example.messages, limit, purpose="parity") for example in test
    ]
    manifest = exporting.export(run.folder / "model", target, card=facts, parity_items=prompts)
    place.say("export.done", folder=str(target), run=run.id)
    return Exported(str(target), manifest.files, manifest.bytes, parity=len(prompts))


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


# -- what is there ---------------------------------------------------------------------------


def _newest_dataset(place: Workplace) -> Frozen:
    with place.database.read() as connection:
        frozen = runs.dataset(connection)
    if frozen is None:
        raise UsageError("no dataset is frozen yet", "understudy freeze")
    return frozen


def _dataset_of(place: Workplace, run: Run) -> Frozen:
    with place.database.read() as connection:
        frozen = runs.dataset(connection, run.dataset_id)
    assert frozen is not None  # noqa: S101 (a foreign key holds it)
    return frozen


def _checked_splits(place: Workplace, frozen: Frozen) -> Splits:
    """The dataset's sides, after the leak check: it runs before every training and evaluation."""
    with place.database.read() as connection:
        sides: tuple[Split, ...] = ("train", "validation", "test")
        splits = {side: list(runs.members(connection, frozen.id, side)) for side in sides}
    settings = place.settings
    free_text = _spec_of(place, frozen).kind == "text"
    dataset.check_leaks(splits, similarity=settings.duplicate_similarity, free_text=free_text)
    return splits


def _spec_of(place: Workplace, frozen: Frozen) -> Spec:
    """The spec under which the dataset was frozen: a later one does not change what was trained."""
    with place.database.read() as connection:
        spec = tasks.version(connection, frozen.task_version).spec
    return spec or place.spec


def _all_runs(place: Workplace) -> list[Run]:
    with place.database.read() as connection:
        return runs.runs(connection, place.folder / "runs")


def _last_trained(place: Workplace) -> Run | None:
    trained = [run for run in _all_runs(place) if run.state == "succeeded"]
    return trained[-1] if trained else None


def _run_named(place: Workplace, name: str) -> Run:
    wanted = name.removeprefix("run:")
    trained = [run for run in _all_runs(place) if run.state == "succeeded"]
    found = trained[-1:] if wanted == "latest" else [r for r in trained if str(r.id) == wanted]
    if not found:
        known = ", ".join(run.model for run in trained)
        raise UsageError(
            f"there is no trained {name}", f"There are: {known}" if known else "understudy train"
        )
    return found[0]


def _set(place: Workplace, run: Run) -> Run:
    with place.database.write() as connection:
        runs.set_run(connection, run)
    return run
