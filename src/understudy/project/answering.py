"""How a trained student answers a held-out split: asked here, once; kept beside the run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from understudy import dataset
from understudy import evaluate as evaluation
from understudy.errors import UsageError
from understudy.example import Example, Split
from understudy.models.local import Local
from understudy.project.hosted_plan import is_hosted
from understudy.project.paid import run as run_async
from understudy.project.shelf import checked_splits, dataset_of, spec_of
from understudy.project.workplace import Workplace
from understudy.report import Outcome
from understudy.run import AnyRun, Run
from understudy.task import Spec
from understudy.train.checkpoint import write_atomically


def answers_of(place: Workplace, run: AnyRun, side: Split) -> tuple[list[Example], list[Outcome]]:
    """The items of that side of the run's dataset, and what the student answers to them.

    Asked once; the same run on the same items is read from its folder. Raises UsageError for a
    student that lies at a host.
    """
    if not isinstance(run, Run):
        raise UsageError(
            f"{run.model} lies at a host, and only students here are asked for free",
            "Its report has answers to the test items: --on test",
        )
    frozen = dataset_of(place, run)
    items, spec = checked_splits(place, frozen)[side], spec_of(place, frozen)
    path = run.folder / f"{side}.json"
    mark = dataset.fingerprint({side: items}, spec.system_message)
    found = known_answers(path, mark)
    if found is None:
        place.say("answer.start", model=run.model, items=len(items), side=side)
        found = answer(place, run.folder / "model", run.model, items, spec)
        keep_answers(path, mark, found)
    return items, found


def only_here(place: Workplace, verb: str) -> None:
    """Raise UsageError if the project's student is one that a host trains."""
    if is_hosted(place.settings.student):
        raise UsageError(
            f"{verb} trains here, and {place.settings.student} is trained at a host",
            f"Name a student that is trained here: {verb} --student M",
        )


def answer(
    place: Workplace, folder: Path, name: str, items: Sequence[Example], spec: Spec
) -> list[Outcome]:
    """Have the model in ``folder`` answer ``items``, as ``evaluate`` asks them."""
    outcomes: list[Outcome] = []

    async def ask(_: object) -> None:
        model = Local(folder, name=name)
        try:
            answered = evaluation.evaluate(
                {"student": model},
                items,
                spec,
                system_message=spec.system_message,
                max_tokens=place.settings.max_answer_tokens,
                concurrency=1,
            )
            outcomes.extend([outcome async for outcome in answered])
        finally:
            await model.close()

    run_async(ask, place.say)
    return outcomes


def keep_answers(path: Path, mark: str, outcomes: Sequence[Outcome]) -> None:
    """Write what was answered; ``mark`` says to what."""
    body = {"mark": mark, "outcomes": [asdict(outcome) for outcome in outcomes]}
    write_atomically(path, json.dumps(body, ensure_ascii=False))


def known_answers(path: Path, mark: str) -> list[Outcome] | None:
    """What was kept there under the same mark; None if there is nothing."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["mark"] != mark:
            return None
        return [Outcome(**outcome) for outcome in kept["outcomes"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
