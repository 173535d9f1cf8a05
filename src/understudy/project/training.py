"""The verb that makes the student: train, in processes of its own."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from understudy import models
from understudy.errors import SetupError, UnderstudyError
from understudy.project.preparing import Prepared
from understudy.project.shelf import local_runs
from understudy.project.workplace import Workplace
from understudy.run import Event, Recipe, Run
from understudy.store import events, runs
from understudy.task import Spec
from understudy.train import launch, never, trackers
from understudy.train.job import NOT_DECIDING
from understudy.train.recipe import TINY, asked, tried
from understudy.train.shrinking import fitted
from understudy.train.sizing.words import said
from understudy.train.trials import Found, search

_UNFINISHED = ("created", "running", "interrupted", "failed")
"""A failed one too: killed, or out of disk, it goes on from its last checkpoint."""


@dataclass(frozen=True, slots=True)
class How:
    """How a training is carried out; what it is, its recipe says."""

    again: bool = False
    """Train anew what is trained already."""
    anyway: bool = False
    """Start although it does not seem to fit."""
    trials: int = 0
    """Recipes to try first; 0: take the chosen one."""
    launch: str | None = None
    """Processes on this machine, or an accelerate configuration."""
    report_to: tuple[str, ...] = ()
    """Trackers that are told."""
    stopped: Callable[[], bool] = never
    """Asked many times a second; once it says so, the training stops, with a checkpoint."""


def train(place: Workplace, prepared: Prepared, how: How) -> Run:
    """Train as prepared; an unfinished run of the same settings goes on.

    Raises SetupError if it does not fit this machine, unless ``how.anyway``, and UsageError or
    SetupError if it cannot be launched or reported as asked.
    """
    make_ready(place, prepared, how)
    if not how.trials:
        return _train(place, prepared, how)
    found = _search(place, prepared, how)
    run = _train(place, replace(prepared, recipe=found.recipe), how)
    place.say("train.confirmed", run=run.id, text=found.confirmed(run.metrics))
    return run


def make_ready(place: Workplace, prepared: Prepared, how: How) -> None:
    """Say whether it fits, and fetch the student; raises as ``train`` does."""
    check(prepared, how)
    if prepared.need is not None:
        place.say("train.fits", text=said(prepared.need, prepared.machine))
    if prepared.lacking and not how.anyway:
        raise SetupError(
            f"{prepared.student} does not fit this machine: {'; '.join(prepared.lacking)}",
            f"{prepared.advice}. To try all the same: --anyway",
        )
    if prepared.student != TINY:
        models.local_folder(prepared.student, offline=place.settings.offline, say=place.say)


def check(prepared: Prepared, how: How) -> None:
    """Raise UsageError or SetupError if it cannot be launched or reported as asked."""
    if how.launch:
        launch.check(how.launch, prepared.recipe.batch_size)
    trackers.check(how.report_to)


def _train(place: Workplace, prepared: Prepared, how: How) -> Run:
    for old in reversed(local_runs(place)) if not how.again else ():
        if not _same(prepared, old):
            continue
        if old.state == "succeeded":
            return old
        if old.state in _UNFINISHED:
            return follow(place, old, prepared.dataset_folder, prepared.spec, how)
    with place.database.write() as connection:
        run = runs.add_run(
            connection, prepared.frozen.id, prepared.student, prepared.recipe, place.folder / "runs"
        )
    return follow(place, run, prepared.dataset_folder, prepared.spec, how)


def _search(place: Workplace, prepared: Prepared, how: How) -> Found:
    """The best of some recipes around the chosen one; what was tried before is not tried again."""
    wanted = f"{prepared.frozen.id} {prepared.student} {_deciding(prepared.recipe)} {how.trials}"
    key = hashlib.sha256(wanted.encode()).hexdigest()[:16]
    folder = place.folder / "runs" / "trials" / key
    run = Run(0, prepared.frozen.id, prepared.student, folder, prepared.recipe)
    return search(
        run,
        prepared.dataset_folder,
        how.trials,
        folder=folder,
        say=lambda event: place.say(event.kind, **event.data),
        spec=prepared.spec,
        training_s=sum(prepared.need.training_s) / 2 if prepared.need else None,
        launch=how.launch,
    )


def _same(prepared: Prepared, old: Run) -> bool:
    """True if a run is the training that is asked for.

    What fits depends on the memory that is free today; so the same wishes make the same training,
    and it keeps the recipe that it began with.
    """
    if (old.dataset_id, old.student) != (prepared.frozen.id, prepared.student):
        return False
    if _deciding(old.recipe) == _deciding(prepared.recipe):
        return True
    alike = old.recipe.seed == prepared.recipe.seed and not tried(prepared.recipe)
    return alike and not tried(old.recipe) and asked(old.recipe) == asked(prepared.recipe)


def _deciding(recipe: Recipe) -> str:
    """The same for two recipes that end in the same weights."""
    return json.dumps(recipe.model_dump(exclude=set(NOT_DECIDING)), sort_keys=True)


def follow(place: Workplace, run: Run, dataset_folder: Path, spec: Spec | None, how: How) -> Run:
    """Run the trainer's processes to their end, storing what they say; needs ``writing``.

    Begins, or goes on from the last checkpoint. Raises UnderstudyError with the trainer's last
    words if it ends otherwise than well; the run's state then says how.
    """
    started = time.monotonic()
    place.say("train.start", run=run.id, student=run.student, why=list(run.recipe.why))
    run = _set(place, replace(run, state="running"))
    last = Event("train.failed", {"message": "the trainer said nothing"})
    at_work = fitted(
        run,
        dataset_folder,
        stopped=how.stopped,
        spec=spec,
        launch=how.launch,
        report_to=how.report_to,
    )
    try:
        with closing(at_work):
            for last in at_work:
                if last.kind == "train.smaller":
                    run = _set(place, replace(run, recipe=Recipe(**last.data["recipe"])))
                with place.database.write() as connection:
                    events.add(connection, replace(last, data={"run": run.id, **last.data}))
    except BaseException:
        _set(place, replace(run, state="interrupted"))
        raise
    if last.kind != "train.done":
        stopped = last.kind == "train.interrupted"
        _set(place, replace(run, state="interrupted" if stopped else "failed"))
        raise error_of(last)
    run = _set(place, replace(run, state="succeeded", metrics=last.data))
    seconds = round(time.monotonic() - started, 1)
    place.say("run.state", run=run.id, state=run.state, seconds=seconds)
    return run


def error_of(event: Event) -> UnderstudyError:
    """What the trainer's last words say."""
    error = UnderstudyError(str(event.data["message"]), str(event.data.get("fix", "")))
    error.exit_code = int(event.data.get("exit_code", 1))
    return error


def _set(place: Workplace, run: Run) -> Run:
    with place.database.write() as connection:
        runs.set_run(connection, run)
    return run
