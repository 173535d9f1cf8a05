"""The verbs that use the student: predict, export."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from understudy import export as exporting
from understudy import models, practice
from understudy.errors import UsageError
from understudy.example import Message
from understudy.models.local import Local
from understudy.models.protocol import Model, Request
from understudy.models.question import question
from understudy.project import hosting
from understudy.project.here import here
from understudy.project.paid import run as run_async
from understudy.project.paid import with_models, with_teacher
from understudy.project.preparing import dataset_folder
from understudy.project.results import Exported
from understudy.project.shelf import dataset_of, last_trained, run_named, spec_of
from understudy.project.workplace import Workplace
from understudy.run import HostedRun
from understudy.store import runs
from understudy.store.runs import Frozen
from understudy.train.rows import stream_rows

PARITY_PROMPTS = 20
"""Held-out prompts that an exported model must answer to the letter as the trained one."""

_OF_A_FILE = "Trained on the rows of a fine-tuning file."


def predict(place: Workplace, text: str, name: str) -> str:
    """The answer of a model to one input."""
    run = run_named(place, name) if name.startswith("run:") else None
    spec = place.spec if run is None else spec_of(place, dataset_of(place, run))
    limit = place.settings.max_answer_tokens
    messages = (Message("user", text),)
    request = question(spec.system_message, messages, limit, purpose="predict")

    async def ask(model: Model) -> str:
        return (await model.complete(request)).text

    if isinstance(run, HostedRun):
        found = run

        async def ask_hosted(model: Model) -> str:
            return await ask(hosting.Deployed(model, place, found))

        opened = hosting.endpoint(place, run.remote)
        with place.writing():
            return with_models(place.database, place.settings, [opened], ask_hosted, place.say)

    if not models.is_local(name):
        return with_teacher(place.database, place.settings, name, ask, place.say)

    offline = place.settings.offline
    folder = run.folder / "model" if run else models.local_folder(name, offline=offline)

    async def ask_local(_: object) -> str:
        model = Local(folder, name=name)
        try:
            return await ask(model)
        finally:
            await model.close()

    return run_async(ask_local, place.say)


def predict_alone(text: str, name: str) -> str:
    """The answer of a model that needs no project: a practice task, or a local folder."""
    if name.startswith("practice:"):
        return practice.load(name.removeprefix("practice:")).answer(text)
    if not models.is_local(name):
        raise UsageError(
            f"{name} costs money", "Name a project with -p DIR, which keeps its ledger"
        )
    folder = models.local_folder(name)

    async def ask(_: object) -> str:
        model = Local(folder, name=name)
        try:
            return (await model.complete(Request((Message("user", text),), 1024))).text
        finally:
            await model.close()

    return run_async(ask, lambda *_, **__: None)


def export_model(place: Workplace, target: Path) -> Exported:
    """Write the newest trained student to ``target``, and prove that it answers as it did."""
    run = last_trained(place)
    if run is None:
        train = f"understudy train{here(place.folder)}"
        raise UsageError("there is no trained student to export", train)
    if isinstance(run, HostedRun):
        raise hosting.no_export(place, run)
    frozen = dataset_of(place, run)
    spec = spec_of(place, frozen)
    with place.database.read() as connection:
        newest = runs.report(connection)
        terms = runs.terms(connection, frozen.id)
    judged = newest.systems.get("student") if newest else None
    facts = exporting.CardFacts(
        title=spec.title,
        description=place.task.description if frozen.own else _OF_A_FILE,
        system_message=spec.system_message,
        teacher=place.settings.teacher if frozen.own else "",
        student=run.student,
        counts=frozen.counts,
        terms=tuple(terms),
        report=newest if judged and judged.model == run.model else None,
    )
    prompts = _parity_prompts(place, frozen, spec.system_message)
    manifest = exporting.export(run.folder / "model", target, card=facts, parity_items=prompts)
    place.say("export.done", folder=str(target), run=run.id)
    return Exported(str(target), manifest.files, manifest.bytes, parity=len(prompts))


def _parity_prompts(place: Workplace, frozen: Frozen, system_message: str) -> list[Request]:
    """Held-out prompts; of a file's rows, which hold out no test, those of validation, or any."""
    if frozen.own:
        with place.database.read() as connection:
            test = list(runs.members(connection, frozen.id, "test"))[:PARITY_PROMPTS]
        asked = [example.messages for example in test]
    else:
        side = "validation" if frozen.counts.get("validation") else "train"
        rows = stream_rows(dataset_folder(place, frozen) / f"{side}.jsonl")
        asked = [row.prompt for row in islice(rows, PARITY_PROMPTS)]
        system_message = ""  # each brings its own
    limit = place.settings.max_answer_tokens
    return [question(system_message, messages, limit, purpose="parity") for messages in asked]
