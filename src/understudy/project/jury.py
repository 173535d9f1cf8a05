"""The judge in a project: its canaries, its quote, its rulings, all through the ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import fmean

from understudy import models
from understudy.errors import UnderstudyError, UsageError
from understudy.evaluate import canaries, contest
from understudy.evaluate.judge import (
    PURPOSE,
    Pair,
    Ruling,
    call,
    pair_of,
    rubric,
    rulings,
    suspects,
)
from understudy.example import Example
from understudy.judgement import Canary, Contest, Judgement
from understudy.models.protocol import Endpoint, Model, Request
from understudy.money import CLIENT_CALLS_PER_S, Price, Quote, quote
from understudy.project.paid import with_models
from understudy.project.workplace import Workplace
from understudy.report import Outcome
from understudy.settings import Settings
from understudy.store import account, examples, labels
from understudy.task import Spec

Confirm = Callable[[Quote], None]
"""Asked before money is spent; raises if it is not to be."""
Match = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Jury:
    """The judge, and what it goes by."""

    place: Workplace
    endpoint: Endpoint
    price: Price
    settings: Settings
    rules: str

    @property
    def name(self) -> str:
        """Its model name."""
        return self.settings.judge


def settings_of(settings: Settings) -> Settings:
    """The settings as the judge's calls take them: the prices are its own, not the teacher's."""
    if settings.judge == settings.teacher and settings.judge_price_in is None:
        return settings
    prices = {"price_in": settings.judge_price_in, "price_out": settings.judge_price_out}
    return settings.model_copy(update=prices)


def opened(place: Workplace, spec: Spec) -> Jury | None:
    """The judge that the settings name, if one is named and the answers are free text.

    Raises UsageError, ProviderRefused if there is no such.
    """
    if not place.settings.judge:
        return None
    if spec.kind != "text":
        place.say("judge.unneeded", kind=spec.kind)
        return None
    settings = settings_of(place.settings)
    try:
        endpoint, price = models.endpoint(settings.judge, settings)
    except UsageError as error:  # the prices that it misses are the judge's, not the teacher's
        raise UsageError(error.what, error.fix.replace("--price-", "--judge-price-")) from None
    return Jury(place, endpoint, price, settings, rubric(spec))


def judge(
    jury: Jury,
    items: Sequence[Example],
    outcomes: Sequence[Outcome],
    names: Mapping[str, str],
    confirm: Confirm,
) -> tuple[Judgement, UnderstudyError | None]:
    """Compare the systems' answers; an error that stopped it comes beside what there is.

    ``names`` gives each system's model name. Canaries go first: a judge that fails them is asked
    nothing more. People's labelled pairs are put to it with the others.
    """
    pairs = _pairs(items, outcomes)
    said = _labels(jury.place)
    asked = canaries.canaries(items, jury.settings.seed)
    same_as = _same_as(jury, items, names)
    if same_as:
        jury.place.say("judge.same", judge=jury.name, same_as=same_as)
    whole = _Judging(jury, pairs, said, same_as, _favours(jury, items, names, same_as))
    if not pairs:
        return whole.judgement("there are no two systems that answered the same items"), None
    try:
        _confirm_canaries(jury, [one.pair for one in asked], confirm)
        whole.checked(_ask(jury, [one.pair for one in asked], known=True), asked)
        if why := canaries.unfit(whole.canaries):
            return whole.judgement(why), None
        every = list(dict.fromkeys([*(one for found in pairs.values() for one in found), *said]))
        told = _quote(jury, [one.pair for one in asked], every)
        if told.examples:
            confirm(told)
        _ask(jury, every, into=whole.rulings)
    except UnderstudyError as error:
        return whole.judgement(f"it was stopped: {error.what}"), error
    return whole.judgement(), None


class _Judging:
    """What is known so far."""

    def __init__(
        self,
        jury: Jury,
        pairs: Mapping[Match, Sequence[Pair]],
        said: contest.Labels,
        same_as: Sequence[str],
        notes: Sequence[str],
    ) -> None:
        self._jury, self._pairs, self._said, self._same_as = jury, pairs, said, same_as
        self._notes = notes
        self.rulings: list[Ruling] = []
        self.canaries: tuple[Canary, ...] = ()

    def checked(self, found: Sequence[Ruling], asked: Sequence[canaries.Asked]) -> None:
        """Take note of how the canaries went."""
        self.canaries = canaries.checked(asked, found)
        passed = {one.kind: [one.passed, one.asked] for one in self.canaries}
        why = canaries.unfit(self.canaries)
        self._jury.place.say("judge.canaries", judge=self._jury.name, passed=passed, unfit=why)

    def judgement(self, why: str = "") -> Judgement:
        """What it comes to; ``why`` says what keeps it from deciding, if that is known already."""
        by_pair = {ruling.pair: ruling for ruling in self.rulings}
        contests = [
            contest.contest(
                first,
                second,
                [by_pair.get(pair, Ruling(pair, None, note="not asked")) for pair in pairs],
                self._said,
            )
            for (first, second), pairs in self._pairs.items()
            if by_pair
        ]
        calibration = contest.calibration(self.rulings, self._said)
        why = why or contest.undecided(calibration, contests)
        every = [pair for pairs in self._pairs.values() for pair in pairs]
        return Judgement(
            model=self._jury.name,
            decides=not why,
            why=why,
            sentence=contest.sentence(self._jury.name, why, contests),
            contests=tuple(contests),
            canaries=self.canaries,
            calibration=calibration,
            same_as=tuple(self._same_as),
            suspects=tuple(suspects(every)),
            notes=(*self._notes, *_of_places(contests)),
        )


def _pairs(items: Sequence[Example], outcomes: Sequence[Outcome]) -> dict[Match, list[Pair]]:
    """The pairs of each match, in the order of the items; items that one did not answer are out."""
    answers: dict[str, dict[int, str]] = {}
    for outcome in outcomes:
        if outcome.answer is not None:
            answers.setdefault(outcome.system, {})[outcome.example_id] = outcome.answer
    found: dict[Match, list[Pair]] = {}
    for first, second in contest.matches(answers.keys()):
        both = [item for item in items if item.id in answers[first].keys() & answers[second].keys()]
        if both:
            found[first, second] = [
                pair_of(item, answers[first][item.id or 0], answers[second][item.id or 0])
                for item in both
            ]
    return found


def _labels(place: Workplace) -> contest.Labels:
    """What people said, by pair as the judge is shown it."""
    with place.database.read() as connection:
        given = [one for one in labels.labels(connection) if one.said != "skip"]
        ids = {one.example_id for one in given}
        items = {item.id: item for item in examples.by_id(connection, ids)}
    return {
        pair_of(items[one.example_id], one.first, one.second): one.said
        for one in given
        if one.said != "skip"
    }


def _ask(
    jury: Jury, pairs: Sequence[Pair], *, known: bool = False, into: list[Ruling] | None = None
) -> list[Ruling]:
    """Have the judge rule; ``into`` takes each ruling as it comes, also where an error ends it.

    ``known``: they are canaries, so it is asked of equal answers too.
    """
    found = [] if into is None else into

    async def work(model: Model) -> None:
        ruled = rulings(
            model,
            pairs,
            jury.rules,
            max_tokens=jury.settings.max_answer_tokens,
            concurrency=models.at_once(jury.name, jury.settings),
            identical_too=known,
        )
        async for ruling in ruled:
            found.append(ruling)
            if len(found) % 20 == 0 or len(found) == len(pairs):
                jury.place.say("judge.progress", done=len(found), total=len(pairs))

    endpoints = [models.endpoint(jury.name, jury.settings)]
    with_models(jury.place.database, jury.settings, endpoints, work, jury.place.say)
    return found


_FIRST = "first questions to the judge, at the most"


def _confirm_canaries(jury: Jury, pairs: Sequence[Pair], confirm: Confirm) -> None:
    """Ask if the canaries alone could be dear; what they cost then quotes the rest."""
    left = _unbought(jury, pairs)
    if not left:
        return
    worst = sum(
        jury.price.worst_micro(len(jury.endpoint.prepare(one)), one.max_tokens) for one in left
    )
    confirm(_told(jury, len(left), worst, worst, 0.0, 0.0, _FIRST))


def _quote(jury: Jury, known: Sequence[Pair], pairs: Sequence[Pair]) -> Quote:
    """What ``pairs`` will cost, by what the canaries cost and by how much longer these are."""
    left = _unbought(jury, [pair for pair in pairs if not pair.identical])
    with jury.place.database.read() as connection:
        bought = account.settled(connection, PURPOSE, jury.name)
    if not left or not bought:
        return _told(jury, len(left), 0, 0, 0.0, 0.0, "questions to the judge")
    usual = fmean(_size(one) for pair in known for one in _calls(jury, pair))
    longer = fmean(map(_size, left)) / usual
    guess = quote(
        len(left),
        0.0,
        [round(cost * longer) for cost, _ in bought],
        [seconds for _, seconds in bought],
        concurrency=models.at_once(jury.name, jury.settings),
        calls_per_s=CLIENT_CALLS_PER_S,
    )
    micro, seconds = (guess.low_micro, guess.high_micro), (guess.low_s, guess.high_s)
    return _told(jury, len(left), *micro, *seconds, "questions to the judge")


def _told(
    jury: Jury, number: int, low: int, high: int, low_s: float, high_s: float, what: str
) -> Quote:
    made_up = jury.name.startswith("practice:")
    return Quote(number, low, high, low_s, high_s, made_up, what)


def _calls(jury: Jury, pair: Pair) -> tuple[Request, Request]:
    limit = jury.settings.max_answer_tokens
    return call(pair, jury.rules, limit), call(pair.swapped(), jury.rules, limit)


def _unbought(jury: Jury, pairs: Sequence[Pair]) -> list[Request]:
    """The calls for ``pairs`` that are not on disk."""
    wanted = {one.key(jury.endpoint.identity): one for pair in pairs for one in _calls(jury, pair)}
    with jury.place.database.read() as connection:
        there = account.on_disk(connection, PURPOSE, jury.endpoint.identity)
    return [one for key, one in wanted.items() if key not in there]


def _size(request: Request) -> int:
    return sum(len(message.content) for message in request.messages)


def _same_as(jury: Jury, items: Sequence[Example], names: Mapping[str, str]) -> list[str]:
    """Whose words are the judge's own model's: systems by name, and the references."""
    found = [system for system, model in names.items() if _is(jury, model)]
    makers = {item.maker for item in items}
    return found + (["references"] if any(_is(jury, maker) for maker in makers) else [])


def _is(jury: Jury, model: str) -> bool:
    if model == jury.name:
        return True
    if not model or models.is_local(model):
        return False
    with suppress(UnderstudyError):
        return models.endpoint(model, jury.settings)[0].identity == jury.endpoint.identity
    return False


def _favours(
    jury: Jury, items: Sequence[Example], names: Mapping[str, str], same_as: Sequence[str]
) -> list[str]:
    """Whom the comparison may favour, in sentences."""
    notes = []
    if same_as:
        notes.append(
            f"The judge {jury.name} is the same model as the {' and the '.join(same_as)}: it may "
            "prefer its own words; another judge would tell more."
        )
    by_teacher = sum(item.maker == names.get("teacher") for item in items)
    if by_teacher:
        notes.append(
            f"Of {len(items)} reference answers {by_teacher} are the teacher's own words, which "
            "favours the teacher."
        )
    return notes


def _of_places(contests: Sequence[Contest]) -> list[str]:
    """How often the judge named one place in both orders."""
    return [
        f"Of {one.asked} pairs of {one.first} and {one.second} the judge named the first place in "
        f"both orders {one.first_place} times, the second {one.second_place} times; these are ties."
        for one in contests
        if one.asked
    ]
