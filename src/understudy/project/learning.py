"""How many examples are needed: students on parts of the training split, a curve through them.

The whole split is the project's own run, as ``train`` makes it. The parts are kept apart from the
runs, as trials are: each in runs/curve/KEY/ROWS-SEED, where only what it answered is left in the
end. What is finished is not trained again, and what was interrupted goes on from its checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from understudy import dataset
from understudy.errors import UsageError
from understudy.evaluate import learning
from understudy.evaluate.learning import Curve, Forecast, Training
from understudy.example import Example
from understudy.money import MICRO, usd
from understudy.project import training
from understudy.project.answering import (
    answer,
    answers_of,
    keep_answers,
    known_answers,
    only_here,
)
from understudy.project.examples import write_rows
from understudy.project.funnel import funnel
from understudy.project.preparing import Prepared, prepare, prepare_for
from understudy.project.shelf import checked_splits
from understudy.project.training import How
from understudy.project.workplace import Workplace
from understudy.report import Outcome
from understudy.run import Event, Run
from understudy.store import runs
from understudy.task import Spec
from understudy.train.job import Job
from understudy.train.shrinking import fitted

SHARES = (0.25, 0.5, 0.75, 1.0)
RESULT = "answers.json"
HARDLY = 0.01
"""Gain below which more examples are said to bring hardly anything."""


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """The curve of a project's newest dataset, and what twice the examples would cost."""

    dataset: int
    student: str
    side: Literal["validation", "test"]
    """Where it was scored."""
    curve: Curve
    more: int
    """Accepted examples, all sides of the split together, that double what there is."""
    more_micro: int | None
    """What they would cost; None where none was generated, so that it is not known."""
    made_up: bool
    """True where the prices are those of a practice teacher."""
    seconds: float

    @property
    def sentence(self) -> str:
        """What twice as many examples would bring, in words."""
        found = self.curve.forecast
        if found is None:
            return f"What more examples would bring cannot be told: {self.curve.why_not}."
        price = "" if self.more_micro is None else f", about {usd(self.more_micro)}"
        price += " (made-up prices)" if price and self.made_up else ""
        return (
            f"Twice as many ({self.more:,} more{price}) should bring {found.now:.2f} to "
            f"{found.score:.2f} ({found.low:.2f}-{found.high:.2f}){_worth(found)}."
        )


def _worth(found: Forecast) -> str:
    if found.gain_high < HARDLY:
        return ": hardly anything"
    if found.gain_low < HARDLY:
        return "; it may also be hardly anything"
    return ""


def as_json(found: LearningCurve) -> dict[str, Any]:
    """The curve in its documented shape; money in US dollars, not known is null."""
    return {
        "dataset": found.dataset,
        "student": found.student,
        "on": found.side,
        "items": found.curve.items,
        "sizes": [asdict(size) for size in found.curve.sizes],
        "law": {name: getattr(found.curve, name) for name in ("floor", "reach", "speed")},
        "forecast": asdict(found.curve.forecast) if found.curve.forecast else None,
        "why_not": found.curve.why_not,
        "more_examples": found.more,
        "more_usd": None if found.more_micro is None else found.more_micro / MICRO,
        "sentence": found.sentence,
        "seconds": found.seconds,
    }


@dataclass(frozen=True, slots=True)
class Part:
    """One training that the curve needs."""

    share: float
    seed: int
    rows: Sequence[Example]

    @property
    def label(self) -> str:
        """``50 %``, and the seed where it is not the first."""
        return f"{100 * self.share:g} %"


def learning_curve(
    place: Workplace,
    *,
    shares: Sequence[float],
    seeds: int,
    side: Literal["validation", "test"],
    overrides: Mapping[str, Any],
) -> LearningCurve:
    """Train on every share with every seed, score each, fit the curve; see ``Project``."""
    started = time.monotonic()
    only_here(place, "learning-curve")
    _check(shares, seeds)
    given = dict(overrides)
    whole = prepare(place, method=given.pop("method", None), overrides=given)
    splits = checked_splits(place, whole.frozen)
    items, spec = splits[side], whole.spec or place.spec
    if len(items) < learning.LEAST_ITEMS:
        raise UsageError(
            f"{len(items)} {side} items are too few to tell: {learning.LEAST_ITEMS} are needed",
            "`understudy config validation_share 0.2` and `understudy freeze` hold out more and "
            "leave the test as it is; or --on test, which counts as a look at it",
        )
    first = whole.recipe.seed
    parts = [
        Part(share, seed, rows)
        for seed in range(first, first + seeds)
        for share, rows in zip(
            shares, dataset.nested(splits["train"], shares, seed=seed), strict=True
        )
    ]
    text = (
        f"{len(parts)} trainings, on {', '.join(f'{len(part.rows):,}' for part in parts)} "
        f"examples; scored on {len(items):,} {side} items"
    )
    place.say("curve.start", trainings=len(parts), items=len(items), side=side, text=text)
    if side == "test":
        place.say(runs.LOOKED, dataset=whole.frozen.id, by="learning-curve")
    trained = []
    for part in parts:
        outcomes = _outcomes(place, whole, part, overrides, items, spec, side)
        right = {one.example_id: one.score == 1 for one in outcomes if one.score is not None}
        one = Training(
            part.share, len(part.rows), part.seed, tuple(right.get(item.id or 0) for item in items)
        )
        trained.append(one)
        score = sum(right.values()) / max(len(right), 1)
        place.say("curve.point", share=part.share, seed=part.seed, rows=len(part.rows), score=score)
    curve = learning.fit(trained, [dataset.group_of(item) for item in items])
    more, micro = _price(place, sum(map(len, splits.values())))
    made_up = place.settings.teacher.startswith("practice:")
    seconds = round(time.monotonic() - started, 1)
    found = LearningCurve(
        whole.frozen.id, whole.student, side, curve, more, micro, made_up, seconds
    )
    place.say("curve.done", text=found.sentence)
    return found


def _check(shares: Sequence[float], seeds: int) -> None:
    if not shares or not all(0 < share <= 1 for share in shares):
        raise UsageError("a share is above 0 % and at most 100 %", "For example 25,50,75,100")
    if seeds < 1:
        raise UsageError(f"{seeds} seeds", "At least one")


def _price(place: Workplace, there_are: int) -> tuple[int, int | None]:
    """How many examples double what there is, and what they cost by those bought so far."""
    each = funnel(place).per_accepted_micro
    return there_are, None if each is None else round(there_are * each)


# -- one training --------------------------------------------------------------------------------


def _outcomes(
    place: Workplace,
    whole: Prepared,
    part: Part,
    overrides: Mapping[str, Any],
    items: Sequence[Example],
    spec: Spec,
    side: Literal["validation", "test"],
) -> list[Outcome]:
    """What a student answers that was trained on that part; trained now unless it was before."""
    if part.share == 1 and part.seed == whole.recipe.seed:
        return answers_of(place, training.train(place, whole, How()), side)[1]
    prepared, folder = _prepared(place, whole, part, overrides)
    run = Run(0, whole.frozen.id, whole.student, folder, prepared.recipe)
    job = Job(folder, prepared.dataset_folder, run.student, run.recipe, spec)
    mark = _hash(job.inputs(), dataset.fingerprint({side: list(items)}, spec.system_message))
    kept = folder / f"{side}-{RESULT}"
    found = known_answers(kept, mark)
    if found is None:
        _train(place, run, prepared, part)
        found = answer(place, folder / "model", f"{part.label} of the examples", items, spec)
        keep_answers(kept, mark, found)
    _tidy(folder)  # also what a kill behind the answers left
    return found


def _prepared(
    place: Workplace, whole: Prepared, part: Part, overrides: Mapping[str, Any]
) -> tuple[Prepared, Path]:
    """The training on a part, its rows written: with the recipe that so many rows would get."""
    spec = whole.spec or place.spec
    wishes = json.dumps(dict(overrides), sort_keys=True)
    key = _hash(whole.frozen.fingerprint, whole.student, wishes)
    folder = place.folder / "runs" / "curve" / key / f"{len(part.rows)}-{part.seed}"
    rows = folder / "dataset"
    rows.mkdir(parents=True, exist_ok=True)
    write_rows(rows / "train.jsonl", part.rows, spec.system_message)
    shutil.copyfile(whole.dataset_folder / "validation.jsonl", rows / "validation.jsonl")
    given = dict(overrides)
    prepared = prepare_for(
        place,
        whole.frozen,
        whole.spec,
        whole.student,
        seed=part.seed,
        method=given.pop("method", None),
        overrides=given | ({"seed": part.seed} if "seed" in given else {}),
        folder=rows,
    )
    return prepared, folder


def _train(place: Workplace, run: Run, prepared: Prepared, part: Part) -> None:
    """Follow a trainer to its end. Raises UnderstudyError with its last words if it fails."""
    told = {"part": part.label, "seed": part.seed}
    last = Event("train.failed", {"message": "the trainer said nothing"})
    with closing(fitted(run, prepared.dataset_folder, spec=prepared.spec)) as events:
        for last in events:
            if last.kind != "train.done":
                place.say(last.kind, **{**told, **last.data})
    if last.kind != "train.done":
        raise training.error_of(last)


def _tidy(folder: Path) -> None:
    """Leave what was answered, the rows and the events; weights and checkpoints have served."""
    for path in folder.iterdir():
        if path.is_dir() and path.name != "dataset":
            shutil.rmtree(path)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
