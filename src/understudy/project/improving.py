"""A round against the misses: new examples near them, a new student, and which items flipped.

What the teacher is told are values of the plan, and never a held-out item (held_out.py). Where to
aim is chosen by the validation misses if there are enough of them, else by those of the test, which
is booked: a test split that chose something is worn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from understudy.errors import UnderstudyError, UsageError
from understudy.evaluate.aims import Aim, aims
from understudy.evaluate.flips import Flips, flips
from understudy.money import MICRO, Quote
from understudy.project import examples as data
from understudy.project import making, quoting, training
from understudy.project.answering import LOOKED, answers_of
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
from understudy.run import Run
from understudy.store import calls, events
from understudy.task import Plan

ENOUGH = 5
"""Validation misses from which the aim is chosen by them alone."""
BEGUN, DONE = "improve.begun", "improve.done"


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
                "validation items (--validation-share) keep the next choice off the test."
            )
        return text


@dataclass(frozen=True, slots=True)
class _Round:
    """What was decided when the round began: the same command goes on with it."""

    report: int
    side: Side
    aims: tuple[Aim, ...]
    wanted: tuple[int, ...]
    """Examples that there should be of each aim in the end."""


def improve(
    place: Workplace,
    examples: int,
    *,
    side: Side | None,
    confirm: Callable[[Quote], None],
    recipe: Mapping[str, Any],
) -> Improved:
    """Generate ``examples`` near the misses, train, evaluate, compare; see ``Project``."""
    before, plan = evaluated(place), place.find_plan()
    if plan is None:
        raise UsageError("there is no plan to aim by", f"understudy plan{here(place.folder)}")
    this = _resumed(place, before, examples) or _begin(place, plan, before, examples, side)
    spent = _spent(place)
    held_out = HeldOut(place, _splits(place, run_of(place, before)))
    wishes = [
        Wish(wanted, cell=aim.cell or None, held_out=held_out)
        for aim, wanted in zip(this.aims, this.wanted, strict=True)
    ]
    _confirm(place, plan, wishes, confirm)
    generated = [making.make(place, plan, wish) for wish in wishes]
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
        place.say(LOOKED, dataset=before.dataset_id, by="improve", report=before.id)
    chosen = aims(found.clusters, plan, examples)
    wanted = tuple(making.made(place, Wish(0, cell=aim.cell)) + aim.examples for aim in chosen)
    this = _Round(before.id or 0, found.side, chosen, wanted)
    body = asdict(this) | {"aims": [aim._asdict() for aim in chosen]}
    place.say(BEGUN, examples=examples, text=_told(found, chosen), **body)
    return this


def _misses(place: Workplace, before: Report, side: Side | None) -> Failures:
    """Where the student fails on the side that is to choose; None: validation if that is enough."""
    if side != "test":
        run = run_of(place, before)
        found = sorted_out(place, run, "validation", *answers_of(place, run, "validation"), None)
        if side == "validation" or found.wrong >= ENOUGH:
            return found
    return of_report(place, before)


def _told(found: Failures, chosen: tuple[Aim, ...]) -> str:
    parts = []
    for aim in chosen:
        cell = ", ".join(f"{name} = {value}" for name, value in aim.cell.items())
        parts.append(f"{aim.examples} of {cell or 'the whole plan'} ({aim.misses} misses)")
    return f"{found.wrong} misses on the {found.side} split; new examples: {'; '.join(parts)}"


def _resumed(place: Workplace, before: Report, examples: int) -> _Round | None:
    """The round on this report that was begun and not ended, if as many were asked for."""
    with place.database.read() as connection:
        begun = events.last_of(connection, BEGUN)
    if begun is None or (begun.data["report"], begun.data["examples"]) != (before.id, examples):
        return None
    chosen = tuple(Aim(**aim) for aim in begun.data["aims"])
    return _Round(begun.data["report"], begun.data["side"], chosen, tuple(begun.data["wanted"]))


def _splits(place: Workplace, run: Run) -> Splits:
    """The sides of the newest dataset, with what was held out of the run's own."""
    splits = checked_splits(place, newest_dataset(place))
    own = checked_splits(place, dataset_of(place, run))
    for side in ("validation", "test"):
        known = {item.id for item in splits[side]}
        splits[side] += [item for item in own[side] if item.id not in known]
    return splits


def _confirm(
    place: Workplace, plan: Plan, wishes: list[Wish], confirm: Callable[[Quote], None]
) -> None:
    """Quote what is missing of the wishes, by a pilot if nothing was bought of this teacher yet."""
    missing = sum(max(wish.wanted - making.made(place, wish), 0) for wish in wishes)
    if not missing:
        return
    told = quoting.expected(place, missing, wishes[0])
    confirm(quoting.pilot(place, plan, wishes[0]) if told is None else told)


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
