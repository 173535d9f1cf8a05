"""A round against the misses: new examples near them, a new student, and which items flipped.

What the teacher is told are values of the plan, and never a held-out item (held_out.py). Where to
aim is chosen by the validation misses if there are enough of them, else by those of the test, which
is booked: a test split that chose something is worn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from understudy.errors import UnderstudyError, UsageError
from understudy.evaluate.aims import Aim, aims
from understudy.evaluate.flips import Flips, flips
from understudy.money import MICRO, Quote
from understudy.project import examples as data
from understudy.project import making, quoting, training
from understudy.project.answering import answers_of, only_here
from understudy.project.failing import Failures, Side, evaluated, of_report, run_of, sorted_out
from understudy.project.held_out import HeldOut
from understudy.project.here import here
from understudy.project.judging import evaluate
from understudy.project.preparing import prepare
from understudy.project.progress import Wish
from understudy.project.shelf import Splits, checked_splits, dataset_of, newest_dataset
from understudy.project.training import How
from understudy.project.workplace import Workplace
from understudy.report import Report
from understudy.run import AnyRun, Run
from understudy.store import calls, events, runs
from understudy.task import Plan

ENOUGH = 5
"""Validation misses from which the aim is chosen by them alone."""
BEGUN, AIM, DONE = "improve.begun", "improve.aim", "improve.done"
TOLD = 4
"""Aims told in a line."""


@dataclass(frozen=True, slots=True)
class Improved:
    """What a round brought."""

    before: Report
    report: Report
    side: Side
    """Where the misses lay by which it was aimed."""
    aims: tuple[Aim, ...]
    made: int
    accepted: int
    spent_micro: int
    flips: Flips
    """On the test items of the report before."""

    @property
    def sentence(self) -> str:
        """In words."""
        text = f"{self.accepted:,} new examples to train on. {self.flips.sentence}."
        if self.side == "test":
            text += (
                " The aim was chosen by these very items, so the gain may be flattered: more "
                "validation items (`understudy config validation_share 0.2`) keep the next choice "
                "off the test."
            )
        return text


@dataclass(frozen=True, slots=True)
class _Round:
    """What was decided when the round began: the same command goes on with it."""

    side: Side
    aims: tuple[Aim, ...]
    seq: int
    """Number of the event with which it began."""


def improve(
    place: Workplace,
    examples: int,
    *,
    side: Side | None,
    confirm: Callable[[Quote], None],
    recipe: Mapping[str, Any],
) -> Improved:
    """Generate ``examples`` near the misses, train, evaluate, compare; see ``Project``."""
    only_here(place, "improve")
    before, plan = evaluated(place), place.find_plan()
    if plan is None:
        raise UsageError("there is no plan to aim by", f"understudy plan{here(place.folder)}")
    this = _resumed(place, before, examples) or _begin(place, plan, before, examples, side)
    spent = _spent(place)
    held_out = HeldOut(place, _splits(place, run_of(place, before)))
    _confirm(place, plan, this, held_out, confirm)
    generated = [
        making.make(place, plan, replace(wish, held_out=held_out)) for wish in _wishes(place, this)
    ]
    frozen = data.freeze(place)
    if frozen.id == before.dataset_id:
        raise UnderstudyError(
            "no new example could be used, so there is nothing to train on",
            "`understudy funnel` says why; ask for more, or import examples like the misses",
        )
    overrides = dict(recipe)
    prepared = prepare(place, method=overrides.pop("method", None), overrides=overrides)
    training.train(place, prepared, How())
    report = evaluate(place)
    found = Improved(
        before=before,
        report=report,
        side=this.side,
        aims=this.aims,
        made=sum(one.made for one in generated),
        accepted=sum(one.accepted for one in generated),
        spent_micro=_spent(place) - spent,
        flips=flips(before.outcomes, report.outcomes),
    )
    place.say(DONE, report=report.id, before=before.id, text=found.sentence)
    return found


def _begin(
    place: Workplace, plan: Plan, before: Report, examples: int, side: Side | None
) -> _Round:
    """Decide where to aim, and book it."""
    found = _misses(place, before, side)
    if not found.wrong:
        raise UsageError(
            f"nothing to aim at: all {found.items:,} {found.side} items are answered right",
            "More items would show more: `understudy generate N`, then freeze",
        )
    if found.side == "test":
        place.say(runs.LOOKED, dataset=before.dataset_id, by="improve", report=before.id)
    chosen = aims(found.clusters, plan, examples)
    place.say(
        BEGUN,
        report=before.id,
        examples=examples,
        side=found.side,
        aims=[aim._asdict() for aim in chosen],
        text=_told(found, chosen),
    )
    this = _resumed(place, before, examples)
    assert this is not None  # noqa: S101 (it was begun in the line before)
    return this


def _misses(place: Workplace, before: Report, side: Side | None) -> Failures:
    """Where the student fails on the side that is to choose; None: validation if that is enough."""
    run = run_of(place, before)
    if side == "validation" or (side is None and isinstance(run, Run)):
        found = sorted_out(place, run, "validation", *answers_of(place, run, "validation"), None)
        if side == "validation" or found.wrong >= ENOUGH:
            return found
    return of_report(place, before)


def _told(found: Failures, chosen: tuple[Aim, ...]) -> str:
    parts = []
    for aim in chosen[:TOLD]:
        cell = ", ".join(f"{name} = {value}" for name, value in aim.cell.items())
        parts.append(f"{aim.examples} of {cell or 'the whole plan'} ({aim.misses} misses)")
    parts += [f"{len(chosen) - TOLD} aims more"] if len(chosen) > TOLD else []
    return f"{found.wrong} misses on the {found.side} split; new examples: {'; '.join(parts)}"


def _resumed(place: Workplace, before: Report, examples: int) -> _Round | None:
    """The round on this report that was begun and not ended, if as many were asked for."""
    with place.database.read() as connection:
        begun = events.last_of(connection, BEGUN)
    if begun is None or (begun.data["report"], begun.data["examples"]) != (before.id, examples):
        return None
    chosen = tuple(Aim(**aim) for aim in begun.data["aims"])
    return _Round(begun.data["side"], chosen, begun.seq)


def _wishes(place: Workplace, this: _Round) -> Iterator[Wish]:
    """How many there should be of each aim in the end: decided, and booked, when its turn comes.

    An example may serve several aims, so that this depends on what the ones before have made.
    """
    for number, aim in enumerate(this.aims):
        wanted = _decided(place, this).get(number)
        if wanted is None:
            wanted = making.made(place, Wish(0, cell=aim.cell)) + aim.examples
            place.say(AIM, number=number, wanted=wanted)
        yield Wish(wanted, cell=aim.cell or None)


def _decided(place: Workplace, this: _Round) -> dict[int, int]:
    """By its number how many examples of an aim there should be, where that is decided."""
    with place.database.read() as connection:
        known = events.of_kind(connection, AIM)
    return {one.data["number"]: one.data["wanted"] for one in known if one.seq > this.seq}


def _splits(place: Workplace, run: AnyRun) -> Splits:
    """The sides of the newest dataset, with what was held out of the run's own."""
    splits = checked_splits(place, newest_dataset(place))
    own = checked_splits(place, dataset_of(place, run))
    for side in ("validation", "test"):
        known = {item.id for item in splits[side]}
        splits[side] += [item for item in own[side] if item.id not in known]
    return splits


def _confirm(
    place: Workplace,
    plan: Plan,
    this: _Round,
    held_out: HeldOut,
    confirm: Callable[[Quote], None],
) -> None:
    """Quote what is missing of the round, by a pilot if nothing was bought of this teacher yet."""
    decided, missing = _decided(place, this), 0
    for number, aim in enumerate(this.aims):
        there_are = making.made(place, Wish(0, cell=aim.cell))
        missing += max(decided.get(number, there_are + aim.examples) - there_are, 0)
    if not missing:
        return
    told = quoting.expected(place, missing, Wish(missing))
    if told is None:
        wish = Wish(making.made(place, Wish(0)) + missing, held_out=held_out)
        told = quoting.pilot(place, plan, wish)
    confirm(told)


def _spent(place: Workplace) -> int:
    with place.database.read() as connection:
        return calls.read_purse(connection).spent_micro


def as_json(found: Improved) -> dict[str, Any]:
    """The round in its documented shape; money in US dollars."""
    return {
        "before": found.before.id,
        "report": found.report.id,
        "chosen_on": found.side,
        "aims": [aim._asdict() for aim in found.aims],
        "made": found.made,
        "accepted": found.accepted,
        "spent_usd": found.spent_micro / MICRO,
        "items": found.flips.items,
        "newly_right": [asdict(flip) for flip in found.flips.newly_right],
        "newly_wrong": [asdict(flip) for flip in found.flips.newly_wrong],
        "difference": found.flips.difference,
        "p_value": found.flips.p_value,
        "verdict": found.report.verdict,
        "sentence": found.sentence,
    }
