"""Before the spend: the pilot and its quote; the spec of a function that is a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from understudy import models
from understudy.errors import SetupError, UnderstudyError
from understudy.example import Example, Message
from understudy.generate.inputs import most_tokens
from understudy.generate.sources import inputs_a_call
from understudy.generate.spec import infer
from understudy.models.function import Function
from understudy.money import CLIENT_CALLS_PER_S, Quote, quote, to_micro
from understudy.project import checking, making
from understudy.project.asked import inputs_asked
from understudy.project.paid import run
from understudy.project.progress import Wish
from understudy.project.workplace import Workplace
from understudy.store import account, calls, events, quotes
from understudy.task import Plan

NOTHING = Quote(0, 0, 0, 0.0, 0.0)
"""The quote when everything is there."""
FIXED_BYTES = 4000
"""Bytes of a question beside the input, about: the system message and the frame."""
PROBED = 50
"""Inputs that a function answers so that the kind of its answers is known."""


def pilot(
    place: Workplace,
    plan: Plan | None,
    wish: Wish,
    *,
    answer_share: float = 1.0,
    check: bool | None = None,
) -> Quote:
    """Make the pilot's examples; quote and keep what the rest of the wish will cost.

    ``answer_share`` is what an answer will cost as a share of what the pilot's did. ``check`` is
    that of ``checking.before_spend``; what the check costs is not in the quote.
    """
    teacher = place.teacher
    if making.made(place, wish) >= wish.wanted:
        return NOTHING
    _make_pilot(place, plan, wish)
    made = making.made(place, wish)
    missing = max(wish.wanted - made, 0)
    told = expected(place, missing, wish, answer_share=answer_share)
    if told is None:
        raise UnderstudyError("the pilot made no example", "`understudy events` says why")
    told = checking.before_spend(place, told, wanted=check)
    with place.database.read() as connection:
        spent = calls.read_purse(connection).spent_micro
    with place.database.write() as connection:
        quotes.add(connection, told, teacher=teacher, wanted=wish.wanted, made=made, spent=spent)
    if told.examples:
        budget = place.settings.budget
        place.say(
            "pilot.quote",
            text=str(told),
            low_micro=told.low_micro,
            high_micro=told.high_micro,
            left_micro=None if budget is None else max(to_micro(budget) - spent, 0),
        )
    return told


def expected(
    place: Workplace, missing: int, wish: Wish, *, answer_share: float = 1.0
) -> Quote | None:
    """What so many examples of a wish will cost, by what this teacher's calls did.

    None if none of its answers was bought yet.
    """
    settings, teacher = place.settings, place.teacher
    with place.database.read() as connection:
        answers = account.settled(connection, "answer", teacher)
        limit = events.last_of(connection, "rates.limit")
    if not answers:
        return None
    per_call = inputs_a_call(settings.per_call, wish.wanted)
    per_minute = limit.data.get("requests_per_minute") if limit else None
    return quote(
        missing,
        input_micro(place, per_call) if wish.texts is None else 0.0,
        [round(cost * answer_share) for cost, _ in answers],
        [seconds for _, seconds in answers],
        concurrency=models.at_once(teacher, settings),
        answers=settings.answers,
        input_calls=1 / per_call if wish.texts is None else 0.0,
        calls_per_s=min(CLIENT_CALLS_PER_S, per_minute / 60 if per_minute else CLIENT_CALLS_PER_S),
        made_up=teacher.startswith("practice:"),
    )


def input_micro(place: Workplace, per_call: int) -> float:
    """Micro-dollars that an input costs where ``per_call`` are asked for in one call; 0: not known.

    Measured on the calls that were bought, which may have asked for fewer, as the pilot's do: what
    the question cost is shared by ``per_call`` inputs instead of those that it asked for; what was
    written costs the same for each input. So each call counts with

        cost of question * asked for / per_call + cost of what was written

    and the sum is shared by all inputs asked for. A question that was put twice (a correction, or
    the same anew) counts with both costs and with its inputs once.
    """
    _, price = models.endpoint(place.teacher, place.settings)
    with place.database.read() as connection:
        bought = account.bought(connection, "inputs", place.teacher)
    total, sizes = 0.0, {}
    for one in bought:
        question, size = inputs_asked(one.request)
        if not size:
            continue
        tokens = most_tokens(size) if one.output_tokens is None else one.output_tokens
        written = min(float(price.usd_out) * tokens, one.cost_micro)
        total += (one.cost_micro - written) * size / per_call + written
        sizes[question] = size
    return total / sum(sizes.values()) if sizes else 0.0


def worst_of_pilot(place: Workplace, texts: Sequence[str]) -> int:
    """The most that the pilot's answers to own inputs can cost, in micro-dollars."""
    _, price = models.endpoint(place.teacher, place.settings)
    system = len(place.task.description.encode()) + FIXED_BYTES
    limit = place.settings.max_answer_tokens
    return sum(
        place.settings.answers
        * price.worst_micro(len(text.encode("utf-8", "replace")) + system, limit)
        for text in texts[: place.settings.pilot]
    )


def _make_pilot(place: Workplace, plan: Plan | None, wish: Wish) -> None:
    """Have at least the pilot's number of examples, some of them by this teacher."""
    with place.database.read() as connection:
        known = account.settled(connection, "answer", place.teacher)
    made, few = making.made(place, wish), place.settings.pilot
    wanted = few if known else made + few
    making.make(place, plan, replace(wish, wanted=min(wanted, wish.wanted)))


def spec_of_function(place: Workplace, function: Function, texts: Sequence[str]) -> None:
    """Have a spec where nobody wrote one: read off what the function answers to a few inputs.

    Raises UsageError if the project has no description, SetupError if every answer fails.
    """
    task = place.task
    if task.spec is not None:
        return
    answered = run(lambda _: _answers(function, texts[:PROBED]), place.say)
    place.store_task(task.description, infer(task.description, answered), "examples")


async def _answers(function: Function, texts: Sequence[str]) -> list[Example]:
    found, error = [], ""
    for text in texts:
        try:
            reply = await function.probe(text)
        except UnderstudyError as failed:
            error = failed.what
            continue
        found.append(Example((Message("user", text),), reply.text, maker=function.name))
    if not found:
        raise SetupError(
            f"the function answers none of the first inputs: {error or 'there are none'}",
            "Call it by hand with one of them",
        )
    return found
