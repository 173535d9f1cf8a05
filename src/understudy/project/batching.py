"""``generate --batch``: inputs are asked for one by one, answers go in batches, at half the price.

    0. see that the budget has room for all the answers;
    1. ask for the inputs, all at once, and do nothing with them: now they are on disk;
    2. fetch the batches that are open;
    3. go through the inputs again, in order, and note the answers that are not on disk;
    4. hand those over as a batch, and go to 2; until there are none: then store the examples.

A process may die anywhere: all four find on disk what was done. A call that fails in a batch is in
the next one, alone, until it has failed ``max_attempts`` times; then another input takes its place.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice

from sqlalchemy import Connection

from understudy import models
from understudy.errors import BudgetReached, UnderstudyError
from understudy.example import Example, Message
from understudy.generate import Made
from understudy.generate.sources import inputs_a_call
from understudy.models.batches import BatchEndpoint, no_batches
from understudy.models.openai_compatible import OpenAICompatible
from understudy.models.protocol import CallFailed, Model, Reply, Request
from understudy.models.question import question
from understudy.money import INPUT_MOST, Price, batch_price, usd
from understudy.project.making import making
from understudy.project.paid import with_models
from understudy.project.progress import Progress
from understudy.project.quoting import input_micro
from understudy.project.workplace import Workplace
from understudy.settings import Settings
from understudy.store import account, calls, examples
from understudy.store.batches import Batches
from understudy.store.ledger import Ledger
from understudy.task import Plan

MEASURED = 100
"""Inputs whose length tells that of those to come."""
IN_ORDER = 1
"""Calls at once where the same inputs are to be chosen each time: they come in the plan's order."""


def in_batches(place: Workplace, plan: Plan | None, progress: Progress) -> None:
    """Make what is missing of the wish, its answers bought in batches (making.Way).

    Raises UsageError if the teacher takes no batches, BudgetReached before inputs are bought whose
    answers would find no room, and what generating raises.
    """
    settings = place.settings
    endpoint, price = _endpoint(place.teacher, settings)
    cheaper = _cheaper(endpoint, price)
    place.say(
        "batch.price",
        usd_in=f"{cheaper.usd_in.normalize():f}",
        usd_out=f"{cheaper.usd_out.normalize():f}",
        source=cheaper.source,
    )

    if plan is not None:
        _look_for_room(place, progress, endpoint, cheaper)

    def dearer(model: str) -> Price | None:
        found = models.dearer(endpoint.name, model, settings)
        return None if found is None else _cheaper(endpoint, found, model)

    batches = Batches(
        place.database,
        place.folder,
        endpoint,
        cheaper,
        max_attempts=settings.max_attempts,
        resend_unknown=settings.resend_unknown,
        dearer=dearer,
        say=place.say,
    )

    async def work(ledger: Ledger) -> None:
        await endpoint.takes_batches()
        try:
            await _buy(place, plan, progress, ledger, batches)
        except UnderstudyError:
            with suppress(UnderstudyError):  # the first one is told
                await _store(place, plan, progress, ledger, batches)
            raise
        await _store(place, plan, progress, ledger, batches)

    with_models(place.database, settings, [(endpoint, price)], work, place.say)


def _look_for_room(
    place: Workplace, progress: Progress, endpoint: BatchEndpoint, cheaper: Price
) -> None:
    """Raise BudgetReached if the answers to the inputs that are to be bought would find no room.

    Reckoned are the worst case of an answer to the longest of the inputs made before, the upper end
    of what an input costs, and the trial. Answers on disk or under way need no room.
    """
    settings, wanted = place.settings, progress.wish.wanted
    with place.database.read() as connection:
        purse = calls.read_purse(connection)
        spare = account.spare(connection, "answer", endpoint.identity, settings.answers)
        known = examples.stream(connection, place.versions(connection))
        texts = [one.input for one in islice(known, MEASURED)]
    if purse.budget_micro is None:
        return
    missing = (wanted - progress.before) * settings.answers - spare
    an_answer = max(_worst(place, endpoint, cheaper, text) for text in texts or [""])
    an_input = INPUT_MOST * input_micro(place, inputs_a_call(settings.per_call, wanted))
    each = an_answer + an_input / settings.answers
    left = purse.budget_micro - purse.spent_micro - purse.held_micro - an_answer
    if missing * each > left:
        raise BudgetReached(
            f"the batch of {missing:,} requests and its inputs could cost "
            f"{usd(round(missing * each))}, and what is left of the budget of "
            f"{usd(purse.budget_micro)} has room for {max(int(left / each), 0):,} of them",
            "None was bought; ask for fewer, or go on with a higher --budget",
        )


def _worst(place: Workplace, endpoint: BatchEndpoint, cheaper: Price, text: str) -> int:
    """The most that one answer can cost, in micro-dollars."""
    spec, limit = place.spec, place.settings.max_answer_tokens
    messages = (Message("user", text),)
    request = question(spec.system_message, messages, limit, schema=spec.answer_schema())
    return cheaper.worst_micro(len(endpoint.prepare(request)), limit)


def _endpoint(name: str, settings: Settings) -> tuple[BatchEndpoint, Price]:
    plain, price = models.endpoint(name, settings)
    if type(plain) is not OpenAICompatible:  # of Anthropic's, and the practice teacher's own server
        raise no_batches(name)
    endpoint = BatchEndpoint(
        plain.address, plain.quirks, timeout_s=settings.timeout, max_reply=settings.max_reply
    )
    return endpoint, price


def batch_share(name: str, settings: Settings) -> float:
    """What an answer in a batch costs, as a share of one that is bought live.

    Raises UsageError if the teacher takes no batches.
    """
    endpoint, price = _endpoint(name, settings)
    ordinary = price.usd_in + price.usd_out
    cheaper = _cheaper(endpoint, price)
    return float((cheaper.usd_in + cheaper.usd_out) / ordinary) if ordinary else 1.0


def _cheaper(endpoint: BatchEndpoint, price: Price, model: str = "") -> Price:
    where = endpoint.address
    return batch_price(price, where.price_id or where.provider, model or where.model)


async def _buy(
    place: Workplace, plan: Plan | None, progress: Progress, ledger: Ledger, batches: Batches
) -> None:
    """Until every answer is on disk, or known not to come."""
    at_once = models.at_once(ledger.name, place.settings)
    async for _ in _made(place, plan, progress, ledger, _Unasked(ledger.name), at_once):
        pass
    while True:
        await batches.see_through()
        with place.database.read() as connection:
            stored = _Stored(ledger.name, connection, batches)
            async for _ in _made(place, plan, progress, ledger, stored, IN_ORDER):
                pass
        wanted = list(stored.missing.values())
        if not wanted:
            return
        if len(wanted) > 1 and not stored.found:
            # What the endpoint refuses is learned from one call, not from thousands a day later.
            with suppress(CallFailed):
                await ledger.complete(wanted[0])
                del wanted[0]
        batches.hold(wanted)


async def _store(
    place: Workplace, plan: Plan | None, progress: Progress, ledger: Ledger, batches: Batches
) -> None:
    """Make examples of the answers that are on disk."""
    with place.database.read() as connection:
        stored = _Stored(ledger.name, connection, batches)
        stream = _made(place, plan, progress, ledger, stored, IN_ORDER)
        await progress.follow(_answered(stream), ledger)


def _made(
    place: Workplace,
    plan: Plan | None,
    progress: Progress,
    writer: Model,
    teacher: Model,
    concurrency: int,
) -> AsyncIterator[Made]:
    missing = progress.wish.wanted - progress.before
    return making(place, plan, progress.wish, missing, writer, teacher, concurrency=concurrency)


async def _answered(stream: AsyncIterator[Made]) -> AsyncIterator[Made]:
    """Without the examples that wait for their answer."""
    async for item in stream:
        if not isinstance(item, Example) or item.source:
            yield item


class _Unasked:
    """A model that answers nothing, so that only inputs are bought."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def complete(self, _: Request) -> Reply:
        return Reply("")


class _Stored:
    """The answers that are on disk; those that are not are noted in ``missing``, and empty."""

    def __init__(self, name: str, connection: Connection, batches: Batches) -> None:
        self.name = name
        self.missing: dict[str, Request] = {}
        self.found = 0
        self._connection = connection
        self._batches = batches

    async def complete(self, request: Request) -> Reply:
        endpoint = self._batches.endpoint
        key = request.key(endpoint.identity)
        row = calls.newest(self._connection, [key]).get(key)
        if row is None or self._batches.goes_out(row):
            if key in self._batches.given_up:
                raise CallFailed(self._batches.given_up[key])
            self.missing[key] = request
            return Reply("")
        if row.state not in calls.DONE:
            raise CallFailed(f"{row.state} ({row.note}); its worst case counts as spent")
        self.found += 1
        reply = endpoint.read(row.raw)
        return replace(reply, cost_micro=row.cost_micro, key=key, stored=True)
