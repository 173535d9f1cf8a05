"""The verb ``generate``: batches of inputs, their answers, and what is stored of them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import islice

from sqlalchemy import Connection

from understudy import models
from understudy.example import Example, valid
from understudy.generate import Exhausted, Failure, Made, generate, sources
from understudy.generate.answers import answering
from understudy.generate.inputs import Shown
from understudy.generate.novelty import Hundred, Novelty
from understudy.generate.plan import cells
from understudy.models.function import Function
from understudy.models.protocol import Endpoint, Model
from understudy.models.terms import terms
from understudy.money import FREE, Price, usd, usd_range
from understudy.project.examples import clean
from understudy.project.paid import with_models
from understudy.project.results import Generated
from understudy.project.workplace import Workplace
from understudy.run import Event
from understudy.similar import fold
from understudy.store import account, calls, events, examples, quotes
from understudy.store.ledger import Ledger
from understudy.task import Cell, Plan

PROGRESS_S = 0.25
"""Seconds between two looks at a long verb: examples are stored and progress is told."""
SHOWN_MADE = 3
"""Accepted examples that the teacher is shown beside the user's own."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What ``generate`` is to make."""

    wanted: int
    """Examples that there should be in all: generated, or (``fill``) accepted ones."""
    cell: Cell | None = None
    """Only for these attribute values; ``wanted`` then counts only those."""
    fill: bool = False
    """Take the cells that have the fewest accepted examples."""
    texts: tuple[str, ...] | None = None
    """Inputs that the user brought; None: the teacher writes them."""


def made(place: Workplace, wish: Wish) -> int:
    """How many there are of what is wished for."""
    with place.database.read() as connection:
        versions = place.versions(connection)
        if wish.texts is not None:
            given = {fold(text) for text in wish.texts}
            found = examples.stream(connection, versions)
            return sum(fold(one.input) in given for one in found if one.origin == "generated")
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
        progress.end(purse_before.spent_micro)
        cleaned = clean(place)
        _compare_with_quote(place, maker)
    with place.database.read() as connection:
        calls_after, purse_after = account.counted(connection), calls.read_purse(connection)
    return Generated(
        asked=wish.wanted,
        total=made(place, wish),
        made=progress.made,
        accepted=cleaned.accepted,
        calls=calls_after - calls_before,
        spent_micro=purse_after.spent_micro - purse_before.spent_micro,
        seconds=time.monotonic() - progress.started,
        reasons=dict(progress.failures + Counter(cleaned.reasons)),
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
    with place.database.read() as connection:
        found = examples.stream(connection, place.versions(connection))
        known = {fold(example.input) for example in found}
    answer = answering(
        teacher,
        place.spec,
        max_tokens=settings.max_answer_tokens,
        task_version=task.version,
        answers=settings.answers,
        terms=str(terms(teacher.name)),
    )
    # Inputs that the user brought are all wanted, however alike.
    novelty = None if plan is None else _watch(place)
    return generate(
        writer,
        place.spec,
        _batches(place, plan, wish),
        answer,
        missing,
        known=known,
        concurrency=concurrency,
        novelty=novelty,
    )


def _watch(place: Workplace) -> Novelty:
    """What tells when new inputs add nothing; it knows the user's own."""
    settings = place.settings
    novelty = Novelty(settings.duplicate_similarity, free_text=place.spec.kind == "text")
    for example in place.own_examples():
        novelty.add(example.input)
    return novelty


def _batches(place: Workplace, plan: Plan | None, wish: Wish) -> Iterator[sources.Batch]:
    """Where the inputs come from."""
    settings = place.settings
    if plan is None:
        return sources.of_texts(wish.texts or (), settings.per_call)
    shown = Shown(tuple(place.own_examples()), tuple(_accepted(place, SHOWN_MADE)))
    seen: list[Cell] = []
    if wish.fill:
        accepted = _accepted(place, _fill_from(place, wish))
        seen = [example.cell for example in accepted]
    alone = 0 if shown.own else -(-settings.pilot // settings.per_call)
    batches = sources.of_cells(
        cells(
            plan,
            settings.seed,
            fixed=wish.cell,
            seen=seen,
            per_call=settings.per_call,
            every_pair=True,
        ),
        settings.per_call,
        shown,
        alone=alone,
    )
    if not settings.evolve:
        return batches
    parents = [example for example in _accepted(place) if example.parent is None]
    return sources.with_variants(batches, parents, settings.evolve, settings.per_call)


def _accepted(place: Workplace, first: int | None = None) -> list[Example]:
    """The first so many (None: all) of the accepted examples that a teacher made."""
    with place.database.read() as connection:
        found = examples.stream(connection, place.versions(connection), state="accepted")
        return list(islice((one for one in found if one.origin == "generated"), first))


def _fill_from(place: Workplace, wish: Wish) -> int:
    """How many accepted examples count as seen: an interrupted filling asks for the same again."""
    with place.database.read() as connection:
        begun = events.last_of(connection, "generate.fill")
        ended = events.last_of(connection, "generate.filled")
        number = examples.generated(connection, place.versions(connection), state="accepted")
    if begun is not None and (ended is None or ended.seq < begun.seq):
        return int(begun.data["accepted"])
    place.say("generate.fill", accepted=number, wanted=wish.wanted)
    return number


@dataclass
class Progress:
    """Stores what comes, a little at a time, and tells how far it is."""

    place: Workplace
    wish: Wish
    before: int
    made: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    started: float = field(default_factory=time.monotonic)
    _agreements: list[float] = field(default_factory=list)
    _waiting: list[Example] = field(default_factory=list)
    _told_at: float = field(default_factory=time.monotonic)

    async def follow(self, stream: AsyncIterator[Made], ledger: Ledger) -> None:
        """Store every example of ``stream``, also when it ends in an error."""
        ended = asyncio.Event()
        storing = asyncio.create_task(self._store_now_and_then(ledger, ended))
        try:
            async for item in stream:
                self._take(item)
        finally:
            ended.set()
            await storing
        if self.wish.fill:
            self.place.say("generate.filled")

    def _take(self, item: Made) -> None:
        if isinstance(item, Example):
            self._waiting.append(item)
            if item.agreement is not None:
                self._agreements.append(item.agreement)
        elif isinstance(item, Failure):
            self.failures[item.reason] += 1
        elif isinstance(item, Hundred):
            self.place.say("generate.hundred", **asdict(item))
        elif isinstance(item, Exhausted):
            self.place.say("generate.exhausted", reason=item.reason)

    async def _store_now_and_then(self, ledger: Ledger, ended: asyncio.Event) -> None:
        """Until the end, and once more after it."""
        last = False
        while not last:
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), PROGRESS_S)
            last = ended.is_set()
            await self._store(ledger)

    async def _store(self, ledger: Ledger) -> None:
        """Store what waits, in the same transactions as the calls, and tell how far it is."""
        waiting, self._waiting = self._waiting, []

        def write(connection: Connection) -> int:
            added = examples.add(connection, waiting)
            events.add(connection, Event("generate.progress", self._told(connection, added)))
            return added

        added = await ledger.submit(write)
        self.made += added

    def _told(self, connection: Connection, added: int) -> dict[str, object]:
        return {
            "wanted": self.wish.wanted,
            "made": self.before + self.made + added,
            "failed": self.failures.total(),
            "spent_micro": calls.read_purse(connection).spent_micro,
            "seconds": round(time.monotonic() - self.started, 2),
        }

    def agreement(self) -> float | None:
        """Mean share of the answers to one input that were the one kept; None if one was asked."""
        if not self._agreements:
            return None
        return sum(self._agreements) / len(self._agreements)

    def end(self, spent_before: int) -> None:
        """Say what came of it."""
        with self.place.database.read() as connection:
            spent = calls.read_purse(connection).spent_micro - spent_before
        if self.made or self.failures:
            self.place.say(
                "generate.done",
                made=self.made,
                failures=dict(self.failures),
                spent_micro=spent,
                agreement=self.agreement(),
                seconds=round(time.monotonic() - self.started, 2),
            )


def _compare_with_quote(place: Workplace, maker: str) -> None:
    """Once all that was quoted is made, say what it really cost."""
    with place.database.read() as connection:
        quoted = quotes.last(connection, maker)
        if quoted is None or quoted.made >= quoted.wanted:
            return
        there = examples.generated(connection, place.versions(connection))
        told = events.last_of(connection, "quote.compared")
        asked = events.last_of(connection, "pilot.quote")
        spent = calls.read_purse(connection).spent_micro - quoted.spent_micro
    if there < quoted.wanted or (told and asked and told.seq > asked.seq):
        return
    text = f"quoted {usd_range(quoted.low_micro, quoted.high_micro)}, spent {usd(spent)}"
    place.say("quote.compared", text=text, spent_micro=spent)


def different(texts: Iterable[str]) -> tuple[str, ...]:
    """Inputs without the empty ones and the repeats, in order, as text that can be stored."""
    kept = {fold(text): valid(text) for text in reversed(list(texts)) if text.strip()}
    return tuple(reversed(kept.values()))


Way = Callable[[Workplace, Plan | None, Progress], None]
"""How examples are had: everything that is missing of the wish of ``Progress`` is followed."""
