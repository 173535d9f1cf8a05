"""Train, and go on smaller by itself whenever memory runs out.

Each attempt is a process of its own, so that all memory has come back before the next. Where only
the way of computing changes, the next one goes on from the last checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from understudy.errors import SetupError, UnderstudyError
from understudy.run import Event, Recipe, Run
from understudy.train import Training, cancel, follow, never, out_of_memory, start
from understudy.train.checkpoint import write_atomically
from understudy.train.job import read_job
from understudy.train.recipe import TINY
from understudy.train.sizing import lengths, need
from understudy.train.sizing.shape import Shape
from understudy.train.sizing.smaller import smaller

SMALLER_FILE = "smaller.json"
"""In the run's folder: the recipe that was asked for, and the smaller one that it became."""
_TOO_SMALL = "Choose a smaller student, free some memory, or train on a larger machine"


def fitted(
    run: Run, dataset_folder: Path, *, stopped: Callable[[], bool] = never, **options: Any
) -> Generator[Event, None, None]:
    """Train ``run`` and yield its events; when memory runs out, go on smaller.

    ``stopped`` is that of ``follow``, ``options`` are those of ``start``. Each change is an event
    ``train.smaller`` with ``text`` and the whole new ``recipe``; it is remembered in the run's
    folder, so that an interrupted run does not meet the same wall again. What ran out of memory
    when all was trained is not trained anew: it ends, and its checkpoints are kept. The last event
    says how it ended, as in ``follow``. If the iterator is closed, the trainer is cancelled.
    """
    recipe = remembered(run)
    while True:
        training = start(replace(run, recipe=recipe), dataset_folder, **options)
        ended = yield from _attempt(training, stopped)
        if ended is None:
            return
        if ended.data["trained"]:
            yield _not_saved(run, recipe, dataset_folder, ended)
            return
        found = next_smaller(run, recipe, dataset_folder, ended)
        if found is None:
            yield _nothing_left(ended)
            return
        recipe, text = found
        remember(run, recipe)
        yield Event("train.smaller", {"text": text, "recipe": recipe.model_dump()})


def _attempt(
    training: Training, stopped: Callable[[], bool]
) -> Generator[Event, None, Event | None]:
    """Yield what a trainer says; return its last event if it ran out of memory."""
    ended = None
    try:
        for event in follow(training, stopped):
            yield event
            ended = event if event.kind == out_of_memory.KIND else None
    finally:
        if training.process.poll() is None:
            cancel(training)
        if training.process.stdin is not None:
            training.process.stdin.close()
    return ended


def next_smaller(
    run: Run, recipe: Recipe, dataset_folder: Path, ended: Event
) -> tuple[Recipe, str] | None:
    """The smaller recipe to go on with, from what is known of the rows; None: nothing is left."""
    folder = read_job(run.folder, dataset_folder).base_folder
    measured = lengths.of_split(folder, dataset_folder / "train.jsonl")
    step = ended.data["step"]
    reason = f"Out of memory behind step {step:,}" if step else "Out of memory at the start"
    adapters = run.student != TINY
    return smaller(recipe, reason, lengths=measured.tokens, adapters=adapters)


def remembered(run: Run) -> Recipe:
    """The recipe to train with: the one asked for, or what an earlier attempt made of it."""
    path = run.folder / SMALLER_FILE
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if Recipe(**known["asked"]) == run.recipe:
            return Recipe(**known["smaller"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return run.recipe


def remember(run: Run, recipe: Recipe) -> None:
    """Note that ``recipe`` is what fits of the one that was asked for."""
    known = {"asked": run.recipe.model_dump(), "smaller": recipe.model_dump()}
    write_atomically(run.folder / SMALLER_FILE, json.dumps(known, indent=1, ensure_ascii=False))


def _not_saved(run: Run, recipe: Recipe, dataset_folder: Path, ended: Event) -> Event:
    """The end of a training whose result found no room: nothing of it is lost."""
    room = ""
    with suppress(SetupError):
        shape = Shape.of(read_job(run.folder, dataset_folder).base_folder)
        room = f"; saving needs about {need.saving_bytes(shape, recipe) / need.GB:,.1f} GB"
    message = f"{ended.data['message']}{room}; its last checkpoint is kept"
    code = UnderstudyError.exit_code
    return Event("train.failed", {"message": message, "fix": ended.data["fix"], "exit_code": code})


def _nothing_left(ended: Event) -> Event:
    message = f"{ended.data['message']}; there is no smaller way to train this student"
    code = UnderstudyError.exit_code
    return Event("train.failed", {"message": message, "fix": _TOO_SMALL, "exit_code": code})
