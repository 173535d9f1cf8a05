"""Train a student: choose a recipe, start a trainer process, follow what it says.

    recipe = choose(student, lengths)              # recipe.py: the settings, and why
    training = start(run, dataset_folder)          # local.py: a process of its own
    for event in follow(training): ...             # train.step, ..., train.done or train.failed

Training always happens in a process of its own: its memory comes back, it can be killed, and
nothing else ever imports torch for it. What it says is in RUN_FOLDER/events.jsonl.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from understudy import models
from understudy.errors import DiskError, ProjectBusy
from understudy.run import Event, Run
from understudy.task import Spec
from understudy.train import launch as launching
from understudy.train import out_of_memory, trackers
from understudy.train.checkpoint import write_atomically
from understudy.train.job import LOG_FILE, RUN_FILE
from understudy.train.local import clean_environment, lock
from understudy.train.plot import plot
from understudy.train.progress import EVENTS, mend
from understudy.train.recipe import choose
from understudy.train.sizing import machine

__all__ = ["Trainer", "Training", "cancel", "choose", "follow", "start"]

_POLL_S = 0.05
_BUSY_WAIT_S = 3.0
"""How long ``start`` waits for a trainer that is saving its last checkpoint."""
_CANCEL_WAIT_S = 60.0
"""How long ``cancel`` waits for a checkpoint before it kills."""
_ENDINGS = frozenset({"train.done", "train.failed", "train.interrupted", out_of_memory.KIND})
_DRAWN = _ENDINGS | {"train.evaluation"}
"""Events behind which the picture of the training is drawn anew."""


@dataclass(frozen=True, slots=True)
class Training:
    """A trainer process at work on a run."""

    run: Run
    process: subprocess.Popen[bytes]
    offset: int
    """Byte of the events file where this process's events begin."""
    oom_kills: int = 0
    """Processes that the kernel had killed for want of memory when it began."""


class Trainer(Protocol):
    """Anything that trains a run on a frozen dataset."""

    def start(self, run: Run, dataset_folder: Path) -> Training:
        """Begin, or go on from the last checkpoint. Raises ProjectBusy if it is being trained."""
        ...

    def follow(self, training: Training) -> Iterator[Event]:
        """Yield events until the training has ended; the last one says how."""
        ...

    def cancel(self, training: Training) -> None:
        """Stop behind the current step, with a checkpoint to go on from."""
        ...


def start(
    run: Run,
    dataset_folder: Path,
    *,
    spec: Spec | None = None,
    saves: bool = True,
    launch: str | None = None,
    report_to: Sequence[str] = (),
) -> Training:
    """Start a trainer process in ``run.folder``, or let an interrupted one go on.

    ``dataset_folder`` holds train.jsonl and perhaps validation.jsonl, with rows
    ``{"id", "prompt": [{"role", "content"}...], "completion": [{"role", "content"}]}``.
    ``spec`` says how validation answers are graded; without ``saves`` (a trial) no weights are
    kept; ``launch`` says how several processes train it (train/launch); ``report_to``, which
    trackers are told (train/trackers.py). Raises ProjectBusy if another trainer is at work in the
    folder, UsageError and SetupError if it cannot be launched or reported so.
    """
    launch = launching.check(launch, run.recipe.batch_size) if launch else None
    report_to = trackers.check(report_to)
    run.folder.mkdir(parents=True, exist_ok=True)
    _wait_until_free(run.folder)
    given = {
        "student": run.student,
        "base": models.is_hub_id(run.student) and str(models.local_folder(run.student)),
        "recipe": run.recipe.model_dump(),
        "spec": spec and spec.model_dump(),
        "saves": saves,
        "report_to": report_to,
    }
    write_atomically(run.folder / RUN_FILE, json.dumps(given, indent=1, ensure_ascii=False))
    offset, kills = mend(run.folder / EVENTS), machine.oom_kills()
    with (run.folder / LOG_FILE).open("ab") as log:
        process = subprocess.Popen(
            _command(launch, run.folder, dataset_folder),
            stdin=subprocess.PIPE,  # held open: its end tells the trainer that we are gone
            stdout=log,
            stderr=log,
            env=clean_environment(os.environ, report_to, launched=launch is not None),
        )
    return Training(run, process, offset, oom_kills=kills)


def _command(launch: str | None, run_folder: Path, dataset_folder: Path) -> list[str]:
    if launch:
        return launching.supervisor(launch, run_folder, dataset_folder)
    trainer = [sys.executable, "-m", "understudy.train.local"]
    return [*trainer, str(run_folder), str(dataset_folder)]


def _wait_until_free(run_folder: Path) -> None:
    deadline = time.monotonic() + _BUSY_WAIT_S
    while True:
        try:
            lock(run_folder).close()
        except ProjectBusy:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)
        else:
            return


def at_work(run_folder: Path) -> bool:
    """True if a trainer is at work in that folder: also one that outlived whoever started it."""
    if not run_folder.is_dir():
        return False
    try:
        lock(run_folder).close()
    except ProjectBusy:
        return True
    return False


def never() -> bool:
    """A ``stopped`` that lets a training go on to its end."""
    return False


def follow(training: Training, stopped: Callable[[], bool] = never) -> Iterator[Event]:
    """Yield the trainer's events until it has ended; the last one says how.

    A line that is still being written is never yielded. A trainer that was killed says nothing
    itself: the last event is then a ``train.failed`` that says so. ``stopped`` is asked many times
    a second; once it says so, the trainer is to stop behind its step, with a checkpoint.
    """
    offset, last, told_at = training.offset, "", 0.0
    while True:
        ended = training.process.poll() is not None
        if not ended and not told_at and stopped():
            told_at = time.monotonic()
            training.process.terminate()
        elif told_at and time.monotonic() - told_at > _CANCEL_WAIT_S:
            training.process.kill()
        events, offset = _read_events(training.run.folder / EVENTS, offset)
        for event in events:
            last = event.kind
            yield event
        if any(event.kind in _DRAWN for event in events):
            _draw(training.run.folder)
        if ended:
            break
        if not events:
            time.sleep(_POLL_S)
    if last not in _ENDINGS:
        yield _killed_for_memory(training) or _unexplained_end(training)


def _draw(run_folder: Path) -> None:
    with contextlib.suppress(OSError):  # a picture is not worth a training
        plot(run_folder / EVENTS)


def _read_events(path: Path, offset: int) -> tuple[list[Event], int]:
    """Events in whole lines behind ``offset``, and where they end."""
    with path.open("rb") as file:
        file.seek(offset)
        whole, newline, _torn = file.read().rpartition(b"\n")
    lines = [json.loads(line) for line in whole.splitlines()]
    events = [Event(kind=line["kind"], data=line["data"]) for line in lines]
    return events, offset + len(whole) + len(newline)


def _killed_for_memory(training: Training) -> Event | None:
    """What is said for a trainer that the kernel killed because memory ran out."""
    why = out_of_memory.killed(
        training.process.returncode,
        training.run.folder,
        kills=machine.oom_kills() - training.oom_kills,
        memory_bytes=machine.look(training.run.folder).memory_bytes,
    )
    data = out_of_memory.data(training.run.folder, why)
    return Event(kind=out_of_memory.KIND, data=data) if why else None


def _unexplained_end(training: Training) -> Event:
    code = training.process.returncode
    if code == ProjectBusy.exit_code:
        message, fix = f"Another process is training in {training.run.folder}", "Wait for it"
    elif code == DiskError.exit_code:
        message = f"{training.run.folder} could not be written"
        fix = "Make room or mend the disk, then start again: it goes on from its last checkpoint"
    elif code < 0:
        name = signal.Signals(-code).name
        message = f"The trainer was killed ({name}), perhaps for want of memory"
        fix = "Start again: it goes on from its last checkpoint"
    else:
        message = f"The trainer ended with code {code}"
        fix = f"{training.run.folder / LOG_FILE} has the details"
    data = {"message": message, "fix": fix, "exit_code": code if code > 0 else 1}
    return Event(kind="train.failed", data=data)


def cancel(training: Training) -> None:
    """Ask the trainer to stop with a checkpoint, and wait; kill it if it does not."""
    training.process.terminate()
    try:
        training.process.wait(_CANCEL_WAIT_S)
    except subprocess.TimeoutExpired:
        training.process.kill()
        training.process.wait()
