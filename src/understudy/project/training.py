"""The verb that makes the student: train, in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from understudy import dataset, models
from understudy import train as training
from understudy.errors import UnderstudyError
from understudy.project.examples import write_dataset
from understudy.project.shelf import all_runs, checked_splits, newest_dataset, spec_of
from understudy.project.workplace import Workplace
from understudy.run import Event, Method, Run
from understudy.store import events, runs
from understudy.train.recipe import TINY, choose


def train(
    place: Workplace, *, method: Method | None, again: bool, overrides: Mapping[str, Any]
) -> Run:
    """Train on the newest dataset; an unfinished run of the same settings goes on."""
    frozen = newest_dataset(place)
    folder = place.folder / "datasets" / str(frozen.id)
    splits = checked_splits(place, frozen)
    spec = spec_of(place, frozen)
    write_dataset(folder, splits, spec.system_message, frozen.fingerprint)
    student, seed = _student(place.settings.student), place.settings.seed
    lengths = [dataset.size(example, spec.system_message) for example in splits["train"]]
    recipe = choose(student, lengths, method=method, seed=seed, overrides=overrides)
    for old in reversed(all_runs(place)):
        same = (old.dataset_id, old.student, old.recipe) == (frozen.id, student, recipe)
        if same and old.state == "succeeded" and not again:
            return old
        if same and old.state in ("created", "running", "interrupted"):
            return _follow(place, old, folder)
    with place.database.write() as connection:
        run = runs.add_run(connection, frozen.id, student, recipe, place.folder / "runs")
    return _follow(place, run, folder)


def _follow(place: Workplace, run: Run, dataset_folder: Path) -> Run:
    """Run the trainer's process to its end, storing what it says."""
    started = time.monotonic()
    place.say("train.start", run=run.id, student=run.student, why=list(run.recipe.why))
    run = _set(place, replace(run, state="running"))
    at_work = training.start(run, dataset_folder)
    last = Event("train.failed", {"message": "the trainer said nothing"})
    try:
        for last in training.follow(at_work):
            with place.database.write() as connection:
                events.add(connection, replace(last, data={"run": run.id, **last.data}))
    except BaseException:
        training.cancel(at_work)
        _set(place, replace(run, state="interrupted"))
        raise
    if last.kind != "train.done":
        stopped = last.kind == "train.interrupted"
        _set(place, replace(run, state="interrupted" if stopped else "failed"))
        raise _error(last)
    run = _set(place, replace(run, state="succeeded", metrics=last.data))
    seconds = round(time.monotonic() - started, 1)
    place.say("run.state", run=run.id, state=run.state, seconds=seconds)
    return run


def _error(event: Event) -> UnderstudyError:
    """What the trainer's last words say."""
    error = UnderstudyError(str(event.data["message"]), str(event.data.get("fix", "")))
    error.exit_code = int(event.data.get("exit_code", 1))
    return error


def _student(name: str) -> str:
    """``tiny``, or the absolute folder of a model: the same model has one name in every run."""
    if name == TINY:
        return name
    return str(Path(models.local_folder(name)).expanduser().absolute())


def _set(place: Workplace, run: Run) -> Run:
    with place.database.write() as connection:
        runs.set_run(connection, run)
    return run
