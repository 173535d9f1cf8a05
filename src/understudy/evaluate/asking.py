"""Asking every system every test item, and grading each answer as it comes.

What was gathered before an error is yielded before it, so it is never lost.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace

from understudy import score
from understudy.errors import UnderstudyError, UsageError
from understudy.evaluate.shots import shown
from understudy.evaluate.together import together
from understudy.example import Example
from understudy.models.protocol import CallFailed, Model, NotServed, Reply, Request
from understudy.models.question import question
from understudy.report import Outcome, System
from understudy.score import Metric
from understudy.task import Spec

FIRST: tuple[System, ...] = ("base", "few-shot", "student")
"""The teacher comes last: it is sure to cost, and what is free is then gathered already."""
ROOM = 32
"""Tokens that a local model may say beyond the bytes of the longest right answer."""
LOCAL_AT_ONCE = 64
"""Items put to a local model together; it answers them in batches."""
ALONE = 10
"""Items that a local model answers one at a time, to tell its latency; the rest go in batches."""


async def evaluate(
    models: Mapping[System, Model],
    items: Sequence[Example],
    spec: Spec | None,
    *,
    system_message: str,
    max_tokens: int,
    concurrency: int,
    plainly: bool = False,
    metric: Metric | None = None,
    shots: Sequence[Example] = (),
    prompted: Collection[System] = ("teacher",),
    purpose: str = "evaluate",
) -> AsyncGenerator[Outcome, None]:
    """Yield the graded outcome of every system on every item, as they come.

    A call that gave no answer yields an outcome without a score, with the reason as its note. Any
    other error (budget, key, disk) stops the asking: the calls in flight are waited for and their
    outcomes yielded, then it is raised. A model that is not served (any more) is missing on every
    item that it has not answered before, unless it is the only one. ``plainly`` gives the teacher
    no schema: a model that was fine-tuned for the task is asked as it is in use.

    ``metric`` is by default that of the spec's kind. ``shots`` are the examples that ``few-shot``
    is shown before each question. ``prompted`` are the systems that are asked as the teacher is,
    afresh and with the schema. ``purpose`` is what the ledger books the calls for. Raises
    UsageError if there are no items to ask about, one has no id to tell its outcome by, or one is
    among the shots.
    """
    if not items:
        raise UsageError("There are no test items", "`understudy freeze` makes them")
    if any(item.id is None for item in items):
        raise UsageError("A test item has no id", "Take the items from a frozen dataset")
    if {item.id for item in items} & {shot.id for shot in shots}:
        raise UsageError("A test item is among the examples shown", "Take them from train alone")
    judge = metric or score.metric(None, spec)
    longest = max(len(item.answer.encode("utf-8", "replace")) for item in items)
    for system in _in_order(models):
        # A base that was never trained may never stop by itself.
        limit = max_tokens if system in prompted else min(max_tokens, longest + ROOM)

        async def ask(
            item: Example, system: System = system, limit: int = limit
        ) -> tuple[Outcome, bool]:
            call = request(
                system,
                item,
                None if plainly else spec,
                system_message=system_message,
                max_tokens=limit,
                shots=shots,
                prompted=prompted,
                purpose=purpose,
            )
            try:
                return await _ask(system, models[system], item, call, spec, judge)
            except NotServed as gone:
                if len(models) == 1:
                    raise
                return _missing(item, system, gone), False

        async with aclosing(_each(ask, items, concurrency)) as outcomes:
            async for outcome in outcomes:
                yield outcome


def _in_order(systems: Collection[System]) -> list[System]:
    others = [system for system in systems if system not in (*FIRST, "teacher")]
    return [system for system in (*FIRST, *others, "teacher") if system in systems]


def request(
    system: System,
    item: Example,
    spec: Spec | None,
    *,
    system_message: str,
    max_tokens: int,
    shots: Sequence[Example] = (),
    prompted: Collection[System] = ("teacher",),
    purpose: str = "evaluate",
) -> Request:
    """The call that puts ``item`` to ``system``.

    Who is ``prompted`` is asked afresh (sample 1): asked as when the data was made, a teacher would
    be answered from the ledger and agree with itself by definition. They alone are given the
    schema. ``shots`` stand before the question of ``few-shot`` alone.
    """
    asked = system in prompted
    call = question(
        system_message,
        item.messages,
        max_tokens,
        schema=spec.answer_schema() if spec and asked else None,
        sample=int(asked),
        purpose=purpose,
    )
    return replace(call, messages=shown(call.messages, shots)) if system == "few-shot" else call


async def _ask(
    system: System,
    model: Model,
    item: Example,
    call: Request,
    spec: Spec | None,
    metric: Metric,
) -> tuple[Outcome, bool]:
    """Ask and grade: the outcome, with the time that the call took, and whether it was local."""
    number = item.id or 0
    started = time.perf_counter()
    try:
        reply = await model.complete(call)
    except CallFailed as error:
        return _missing(item, system, error), False
    taken_s = time.perf_counter() - started
    local = not reply.key
    grade = metric(item.answer, reply.text)
    detail = score.detail(spec, item.answer, reply.text, metric.tolerance)
    outcome = Outcome(
        number,
        system,
        reply.text,
        grade.partial,
        grade.exact,
        _note(reply, spec),
        # What came in a batch has no latency of its own.
        latency_ms=1000 * (taken_s if local else reply.latency_s) or None,
        cost_micro=0 if local else reply.cost_micro,
        **detail._asdict(),
    )
    return outcome, local


def _missing(item: Example, system: System, error: UnderstudyError) -> Outcome:
    return Outcome(item.id or 0, system, None, None, None, error.what)


def _note(reply: Reply, spec: Spec | None) -> str:
    """Say what is wrong with the answer in itself, '' if nothing."""
    if reply.refusal or reply.finish == "content_filter":
        return "refusal"
    if reply.finish == "length":
        return "cut off"
    violation = spec.violation(reply.text.strip()) if spec else None
    return f"breaks the spec: {violation}" if violation else ""


async def _each(
    ask: Callable[[Example], Awaitable[tuple[Outcome, bool]]],
    items: Sequence[Example],
    concurrency: int,
) -> AsyncGenerator[Outcome, None]:
    """Outcomes of all ``items``: of a local model the first few alone, all others together.

    Batching makes a local model's time for one item meaningless, so only those asked alone keep it.
    """
    asked, at_once = 0, LOCAL_AT_ONCE
    for item in items[:ALONE]:
        outcome, local = await ask(item)
        asked += 1
        yield outcome
        if not local:
            at_once = concurrency
            break
    async with aclosing(together(ask, items[asked:], at_once)) as results:
        async for outcome, local in results:
            yield replace(outcome, latency_ms=None) if local else outcome
