"""The verb ``generate``: batches of inputs, their answers, and what is stored of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace

from understudy import models
from understudy.example import valid
from understudy.generate import Made, generate
from understudy.generate.answers import answering
from understudy.generate.novelty import Novelty
from understudy.models.function import Function
from understudy.models.protocol import Endpoint, Model
from understudy.models.terms import terms
from understudy.money import FREE, Price, usd, usd_range
from understudy.project.examples import clean
from understudy.project.paid import with_models
from understudy.project.progress import Progress, Wish
from understudy.project.results import Generated
from understudy.project.wishes import batches
from understudy.project.workplace import Workplace
from understudy.similar import fold
from understudy.store import account, calls, events, examples, quotes
from understudy.store.ledger import Ledger
from understudy.task import Plan


def made(place: Workplace, wish: Wish) -> int:
    """How many there are of what is wished for."""
    with place.database.read() as connection:
        versions = place.versions(connection)
        if wish.texts is not None:
            given = set(wish.texts)
            found = examples.stream(connection, versions)
            return sum(one.input in given for one in found if one.origin == "generated")
        return examples.generated(
            connection,
            versions,
            state="accepted" if wish.fill else None,
            cell=wish.cell,
        )


def make(
    place: Workplace,
    plan: Plan | None,
    wish: Wish,
    function: Function | None = None,
    way: Way | None = None,
) -> Generated:
    """Generate what is missing of the wish; clean the new ones.

    ``plan`` is None where the user brings the inputs. The answers are the teacher's, or those of
    ``function``. ``way`` is how they are had: one by one, unless it is another (batching.py).
    """
    plain = wish.wanted - round(wish.wanted * place.settings.evolve)
    if plan is None or plain == wish.wanted or wish.evolve or wish.held_out:
        return _make(place, plan, wish, function, way)
    # Harder variants are made of what was accepted, so that the plain ones come first.
    first = _make(place, plan, replace(wish, wanted=plain), function, way)
    then = _make(place, plan, replace(wish, evolve=True), function, way)
    return then.after(first)


def _make(
    place: Workplace, plan: Plan | None, wish: Wish, function: Function | None, way: Way | None
) -> Generated:
    maker = function.name if function else place.teacher
    progress = Progress(place, wish, before=made(place, wish))
    with place.database.read() as connection:
        calls_before, purse_before = account.counted(connection), calls.read_purse(connection)
    try:
        if wish.wanted > progress.before:
            place.say(
                "generate.start",
                wanted=wish.wanted,
                made=progress.before,
                teacher=maker,
                spec=place.task.version,
            )
            if way is None:
                _with_models(place, plan, progress, function)
            else:
                way(place, plan, progress)
    finally:
        place.keep_teacher()
        progress.end(purse_before.spent_micro)
        cleaned = clean(place)
        total = made(place, wish)
        if total >= wish.wanted and progress.made:
            place.say("generate.reached", wanted=wish.wanted)
        _compare_with_quote(place, maker, wish, total)
    with place.database.read() as connection:
        calls_after, purse_after = account.counted(connection), calls.read_purse(connection)
    return Generated(
        asked=wish.wanted,
        total=total,
        made=progress.made,
        accepted=cleaned.accepted,
        calls=calls_after - calls_before,
        spent_micro=purse_after.spent_micro - purse_before.spent_micro,
        seconds=time.monotonic() - progress.started,
        reasons=dict(progress.failures + progress.useless + Counter(cleaned.reasons)),
        agreement=progress.agreement(),
    )


def _with_models(
    place: Workplace, plan: Plan | None, progress: Progress, function: Function | None
) -> None:
    """Run with who writes the inputs and who answers them: often the same."""
    endpoints: list[tuple[Endpoint, Price]] = [] if function is None else [(function, FREE)]
    if function is None or plan is not None:
        endpoints.insert(0, models.endpoint(place.teacher, place.settings))

    async def work(*ledgers: Ledger) -> None:
        await _work(place, plan, progress, ledgers[0], ledgers[-1])

    with_models(place.database, place.settings, endpoints, work, place.say)


async def _work(
    place: Workplace, plan: Plan | None, progress: Progress, writer: Ledger, teacher: Ledger
) -> None:
    at_once = models.at_once(teacher.name, place.settings)
    missing = progress.wish.wanted - progress.before
    stream = making(place, plan, progress.wish, missing, writer, teacher, concurrency=at_once)
    await progress.follow(stream, teacher)


def making(
    place: Workplace,
    plan: Plan | None,
    wish: Wish,
    missing: int,
    writer: Model,
    teacher: Model,
    *,
    concurrency: int,
) -> AsyncIterator[Made]:
    """The examples that are missing of the wish, as they are made; nothing is stored."""
    settings, task = place.settings, place.task
    # Inputs that the user brought are all wanted, however alike each other or own examples.
    same = str if plan is None else fold
    with place.database.read() as connection:
        found = examples.stream(connection, place.versions(connection))
        known = {same(one.input) for one in found if plan or one.origin == "generated"}
    answer = answering(
        teacher,
        place.spec,
        max_tokens=settings.max_answer_tokens,
        task_version=task.version,
        answers=settings.answers,
        terms=str(terms(teacher.name)),
    )
    if wish.held_out is not None:
        answer = wish.held_out.guarding(answer)
    novelty = None if plan is None else _watch(place)
    return generate(
        writer,
        place.spec,
        batches(place, plan, wish),
        answer,
        missing,
        known=known,
        concurrency=concurrency,
        novelty=novelty,
        same=same,
    )


def _watch(place: Workplace) -> Novelty:
    """What tells when new inputs add nothing; it knows the user's own."""
    settings = place.settings
    novelty = Novelty(settings.duplicate_similarity, free_text=place.spec.kind == "text")
    for example in place.own_examples():
        novelty.add(example.input)
    return novelty


def _compare_with_quote(place: Workplace, maker: str, wish: Wish, total: int) -> None:
    """Once all that was quoted is made, say what it really cost."""
    with place.database.read() as connection:
        quoted = quotes.last(connection, maker)
        told = events.last_of(connection, "quote.compared")
        asked = events.last_of(connection, "pilot.quote")
        now_in = calls.read_purse(connection)
    if quoted is None or asked is None or quoted.wanted != wish.wanted or total < wish.wanted:
        return
    if quoted.made >= quoted.wanted or (told is not None and told.seq > asked.seq):
        return
    spent = now_in.spent_micro - quoted.spent_micro
    text = f"quoted {usd_range(quoted.low_micro, quoted.high_micro)}, spent {usd(spent)}"
    place.say("quote.compared", text=text, spent_micro=spent)


def different(texts: Iterable[str]) -> tuple[str, ...]:
    """Inputs without the empty ones and the repeats, in order, as text that can be stored."""
    return tuple(dict.fromkeys(valid(text) for text in texts if text.strip()))


Way = Callable[[Workplace, Plan | None, Progress], None]
"""How examples are had: everything that is missing of the wish of ``Progress`` is followed."""
