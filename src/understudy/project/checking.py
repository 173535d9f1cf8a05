"""The reality check: teacher asked twice, base and base with examples, before the spend.

Every paid call goes through the ledger, so that what was answered before costs nothing again; what
was found is an event, and is not asked for again for the same task, teacher, student and items.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection

from understudy import evaluate as evaluation
from understudy import models, score
from understudy.errors import ProviderRefused, SetupError, UnderstudyError, UsageError
from understudy.evaluate import reality
from understudy.evaluate.together import together
from understudy.evaluate.verdict import MIN_ITEMS
from understudy.example import Example
from understudy.models.local import Local
from understudy.models.protocol import CallFailed, Endpoint, Model
from understudy.models.question import question
from understudy.money import Price, Quote, usd
from understudy.project import hosting
from understudy.project.adopting import adopted
from understudy.project.hosted_plan import is_hosted
from understudy.project.paid import run as run_async
from understudy.project.paid import with_models, with_teacher
from understudy.project.taking_part import FEW
from understudy.project.workplace import Workplace
from understudy.report import Outcome
from understudy.store import events, examples
from understudy.train.recipe import TINY

OWN = SAMPLE = MIN_ITEMS
"""Own examples, and generated ones, that are asked about at the most: either alone is then as much
as the verdict judges by, and the whole costs at most 60 calls of the teacher."""
ASKED_ABOVE_MICRO = 1_000_000
"""``run`` and ``generate`` check before a quote above this: below it the check is no saving."""


class _Base(NamedTuple):
    """The untrained student, as far as it can be asked; ``why`` not, if it cannot."""

    why: str = ""
    folder: Path | None = None
    endpoint: tuple[Endpoint, Price] | None = None


def before_spend(place: Workplace, quote: Quote, *, wanted: bool | None) -> Quote:
    """The quote with what speaks against it; ``wanted`` None: checked if it asks for real money."""
    if wanted is None:
        wanted = quote.high_micro > ASKED_ABOVE_MICRO and not quote.made_up
    return replace(quote, warning=check(place).warning) if wanted else quote


def check(place: Workplace) -> reality.Reality:
    """Ask, once for the same task, teacher, student and items; what was found is kept.

    Raises UsageError if there is no example yet, and what ends all calls (budget, key), with what
    was answered until then in the ledger.
    """
    items = _items(place)
    if not items:
        raise UsageError("there is no example to check with yet", "`understudy pilot` makes a few")
    base = _base(place)
    key = _key(place, items, base)
    with place.database.read() as connection:
        kept = [found for found in _kept(connection) if found["key"] == key]
    found = reality.from_stored(kept[-1]) if kept else _asked(place, items, base)
    place.say("check.done", **reality.as_json(found), key=key)
    return found


def _asked(place: Workplace, items: Sequence[Example], base: _Base) -> reality.Reality:
    metric = score.metric(None, place.spec)
    asked = _ask_base(place, base, _ask_teacher(place, items))
    return reality.reality(
        asked,
        metric,
        teacher=place.teacher,
        student=place.settings.student,
        task_version=place.task.version,
    )


def last(connection: Connection, versions: Collection[int]) -> reality.Reality | None:
    """The newest check for these versions of the task; None if there was none."""
    found = [one for one in _kept(connection) if one["task_version"] in versions]
    return reality.from_stored(found[-1]) if found else None


def _kept(connection: Connection) -> list[dict[str, Any]]:
    return [event.data for event in events.of_kind(connection, "check.done")]


def _items(place: Workplace) -> list[Example]:
    """Own examples, drawn by the seed, and the first that were generated: those of the pilot."""
    own = [example for example in place.own_examples() if example.answer.strip()]
    drawn = random.Random(place.settings.seed).sample(own, min(OWN, len(own)))
    made: list[Example] = []
    with place.database.read() as connection:
        for example in examples.stream(connection, place.versions(connection), state="accepted"):
            if len(made) == SAMPLE:
                break
            if example.origin == "generated":
                made.append(example)
    return [*drawn, *made]


def _base(place: Workplace) -> _Base:
    """The student as it is before training, if it can be asked without being fetched."""
    student = place.settings.student
    if student == TINY:
        return _Base("tiny begins from nothing, so that no prompt can tell it anything")
    try:
        if is_hosted(student):
            return _Base(endpoint=hosting.endpoint(place, student))
        return _Base(folder=models.local_folder(student, offline=True))
    except SetupError:
        return _Base(f"{student} is not on this disk, and is not fetched for this alone")
    except UnderstudyError as error:
        return _Base(error.what)


def _key(place: Workplace, items: Sequence[Example], base: _Base) -> str:
    """The same as long as the same would be asked."""
    settings = place.settings
    body = [
        [place.task.version, place.teacher, settings.student, base.why],
        [settings.max_answer_tokens, settings.seed],
        [[item.id, item.answer] for item in items],
    ]
    return hashlib.sha256(json.dumps(body).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _ask_teacher(place: Workplace, items: Sequence[Example]) -> reality.Asked:
    """Its first answers, many of them known; then the same asked afresh."""
    spec, settings = place.spec, place.settings
    schema = None if adopted(place) else spec.answer_schema()
    limit, at_once = settings.max_answer_tokens, models.at_once(place.teacher, settings)
    requests = {
        item.id or 0: question(
            spec.system_message, item.messages, limit, schema=schema, purpose="check"
        )
        for item in items
    }
    _, price = models.endpoint(place.teacher, settings)
    sizes = [
        sum(len(turn.content.encode("utf-8", "replace")) for turn in one.messages)
        for one in requests.values()
    ]
    worst = sum(2 * price.worst_micro(size, limit) for size in sizes)
    place.say("check.start", teacher=place.teacher, items=len(items), worst=usd(worst))
    place.tell_terms()
    first: dict[int, str] = {}
    outcomes: list[Outcome] = []

    async def work(teacher: Model) -> None:
        async def answer(number: int) -> None:
            with suppress(CallFailed):  # then its first answer is missing
                first[number] = (await teacher.complete(requests[number])).text

        async for _ in together(answer, requests, at_once):
            pass
        outcomes.extend(await _outcomes(place, {"teacher": teacher}, referenced(), at_once))

    def referenced() -> list[Example]:
        return [
            replace(item, answer=first.get(item.id or 0, item.answer))
            if item.origin == "generated"
            else item
            for item in items
        ]

    with_teacher(place.database, settings, place.teacher, work, place.say)
    return reality.Asked(referenced(), first, outcomes, "")


def _ask_base(place: Workplace, base: _Base, asked: reality.Asked) -> reality.Asked:
    """The same of the untrained student, without and with examples; why not, where it fails."""
    if base.why:
        return asked._replace(no_base=base.why)
    student, items = place.settings.student, asked.items
    place.say("check.base", student=student, items=len(items))
    halves = [half for half in (items[::2], items[1::2]) if len(items) > 1]
    shown = [evaluation.shots(other, FEW, seed=place.settings.seed) for other in reversed(halves)]
    outcomes: list[Outcome] = []

    async def work(model: Model) -> None:
        at_once = models.at_once(student, place.settings)
        outcomes.extend(await _outcomes(place, {"base": model}, items, at_once))
        # Each half is shown examples of the other: none is asked what it was just told.
        for half, shots in zip(halves, shown, strict=True):
            outcomes.extend(await _outcomes(place, {"few-shot": model}, half, at_once, shots))

    async def here(folder: Path) -> None:
        model = Local(folder, name=student)
        try:
            await work(model)
        finally:
            await model.close()

    try:
        if base.folder is not None:
            folder = base.folder
            run_async(lambda _: here(folder), place.say)
        elif base.endpoint is not None:
            with_models(place.database, place.settings, [base.endpoint], work, place.say)
    except (SetupError, ProviderRefused) as error:
        return asked._replace(no_base=error.what)
    few_shot = min((len(shots) for shots in shown), default=0)
    return asked._replace(outcomes=[*asked.outcomes, *outcomes], few_shot=few_shot)


async def _outcomes(
    place: Workplace,
    systems: dict[str, Model],
    items: Sequence[Example],
    at_once: int,
    shots: Sequence[Example] = (),
) -> list[Outcome]:
    spec = place.spec
    answered = evaluation.evaluate(
        systems,
        items,
        spec,
        system_message=spec.system_message,
        max_tokens=place.settings.max_answer_tokens,
        concurrency=at_once,
        plainly=adopted(place),
        shots=shots,
        purpose="check",
    )
    return [outcome async for outcome in answered]
