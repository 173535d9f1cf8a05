"""What a job's training measured: at each step as CSV, at each checkpoint, and told as events.

Steps and losses come from the file that the trainer itself writes, so that nothing is missing after
a crash; where a step was trained twice, the later time counts.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from understudy.project.workplace import Workplace
from understudy.run import Event, Run
from understudy.store import events
from understudy.store.jobs import Job
from understudy.train.checkpoint import MARK
from understudy.train.progress import EVENTS

FILE = "step_metrics.csv"
PURPOSE = "fine-tune-results"
_COLUMNS = ("step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy")
"""OpenAI's, in its order; the accuracies of tokens are not measured here, and stay empty."""
_OURS = ("valid_score", "learning_rate")


class Checkpoint(NamedTuple):
    """A state of the weights that is on disk."""

    step: int
    at: datetime
    measured: dict[str, float]
    """By the names of OpenAI's columns."""
    is_model: bool
    """True for the trained student; False for one to go on from, which cannot be asked."""


class Told(NamedTuple):
    """One thing that happened to a job, in words."""

    seq: int
    at: datetime
    level: str
    """``info``, ``warn`` or ``error``."""
    message: str
    metrics: dict[str, Any] | None
    """Numbers, if it is about a step."""


def as_csv(run: Run) -> str:
    """One line a step that was told, with OpenAI's columns first."""
    text = io.StringIO()
    lines = csv.DictWriter(text, [*_COLUMNS, *_OURS], lineterminator="\n")
    lines.writeheader()
    lines.writerows({"step": step, **found} for step, found in sorted(_measured(run).items()))
    return text.getvalue()


def _measured(run: Run) -> dict[int, dict[str, float]]:
    """What is known of each step, by the names of the columns."""
    steps: dict[int, dict[str, float]] = {}
    path = run.folder / EVENTS
    whole = path.read_bytes().rpartition(b"\n")[0] if path.is_file() else b""
    for line in whole.splitlines():
        event = json.loads(line)
        data = event["data"]
        if event["kind"] == "train.step":
            found = {"train_loss": data["loss"], "learning_rate": data["learning_rate"]}
        elif event["kind"] == "train.evaluation":
            found = {"valid_loss": data["loss"], "valid_score": data["score"]}
        else:
            continue
        steps.setdefault(data["step"], {}).update(found)
    return steps


def checkpoints(run: Run) -> list[Checkpoint]:
    """The states of the weights that are there, the newest first.

    While it is trained those are what it could go on from; a trained one has its student alone.
    """
    measured = _measured(run)
    if run.state == "succeeded" and not (run.folder / "model").is_dir():
        return []
    if run.state == "succeeded":
        step = int(run.metrics["steps"])
        at = datetime.fromtimestamp((run.folder / "model").stat().st_mtime, UTC)
        return [Checkpoint(step, at, measured.get(step, {}), is_model=True)]
    found = []
    for mark in run.folder.glob(f"checkpoint-*/{MARK}"):
        step = int(mark.parent.name.removeprefix("checkpoint-"))
        try:
            at = datetime.fromtimestamp(mark.stat().st_mtime, UTC)
        except FileNotFoundError:
            continue  # the trainer has a newer one
        found.append(Checkpoint(step, at, measured.get(step, {}), is_model=False))
    return sorted(found, key=lambda one: -one.step)


# -- in words ------------------------------------------------------------------------------


def told(
    place: Workplace, job: Job, *, before: int | None = None, limit: int | None = None
) -> list[Told]:
    """What happened to a job and its run, the newest first; only what came ``before`` a number."""
    with place.database.read() as connection:
        found = events.about(
            connection,
            job.id,
            job.run_id,
            tuple(_WORDS),
            since=job.since,
            before=before,
            limit=limit,
        )
    return [_in_words(event) for event in found]


def _in_words(event: Event) -> Told:
    words, metrics = _WORDS[event.kind], _METRICS.get(event.kind)
    level = _LEVELS.get(event.kind, "info")
    numbers = metrics(event.data) if metrics else None
    return Told(event.seq, datetime.fromisoformat(event.at), level, words(event.data), numbers)


def _created(data: Mapping[str, Any]) -> str:
    here = (
        "" if data["model"] == data["student"] else f"; {data['model']} is {data['student']} here"
    )
    return f"Fine-tuning job {data['job']} created{here}"


def _queued(data: Mapping[str, Any]) -> str:
    validation = (
        f" and {data['validation_rows']:,} of validation" if data["validation_rows"] else ""
    )
    again = f", of which {data['repeated']:,} repeat training rows" if data["repeated"] else ""
    return f"Files read: {data['rows']:,} rows to learn from{validation}{again}; waiting to start"


def _data(data: Mapping[str, Any]) -> str:
    short = f", {data['cut']:,} cut for their length" if data["cut"] else ""
    short += (
        f", {data['dropped']:,} left out since no answer was within it" if data["dropped"] else ""
    )
    return f"{data['rows']:,} rows loaded{short}"


_WORDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "job.created": _created,
    "job.validating": lambda data: f"Reading {' and '.join(data['files'].values())}",
    "job.queued": _queued,
    "job.waiting": lambda data: f"Waiting: {data['reason']}",
    "job.started": lambda _: "Fine-tuning started",
    "job.paused": lambda _: "Paused; it goes on from its last step when it is resumed",
    "job.resumed": lambda _: "Resumed; waiting to go on",
    "job.recovered": lambda _: "Interrupted; waiting to go on from the last checkpoint",
    "job.interrupted": lambda _: "The server ends; the job goes on when it is back",
    "job.cancelled": lambda _: "Cancelled",
    "job.failed": lambda data: f"Failed: {data['message']}",
    "job.succeeded": lambda data: f"Trained: {data['model']} (here: run:{data['run']})",
    "train.data": _data,
    "train.system_folded": lambda data: f"Note: {data['text']}",
    "train.resumed": lambda data: f"Went on from the checkpoint of step {data['step']:,}",
    "train.smaller": lambda data: str(data["text"]),
    "train.interrupted": lambda data: (
        f"Stopped behind step {data['step']:,}, with a checkpoint"
        if data["step"]
        else "Stopped before the first step"
    ),
    "train.step": lambda data: (
        f"Step {data['step']}/{data['steps']}: training loss={_short(data['loss'])}"
    ),
    "train.evaluation": lambda data: (
        f"Step {data['step']}/{data['steps']}: validation loss={_short(data['loss'])}, "
        f"{data['metric']} {data['score']:.0%} of {data['rows']} answers"
    ),
    "train.checkpoint": lambda data: f"Checkpoint at step {data['step']}/{data['steps']}",
}
_METRICS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "train.step": lambda data: {
        "step": data["step"],
        "train_loss": data["loss"],
        "total_steps": data["steps"],
    },
    "train.evaluation": lambda data: {
        "step": data["step"],
        "valid_loss": data["loss"],
        "valid_score": data["score"],
        "total_steps": data["steps"],
    },
}
_LEVELS = {"job.failed": "error", "job.waiting": "warn", "train.smaller": "warn"}


def _short(loss: float | None) -> str:
    return "not a number" if loss is None else f"{loss:.4f}"
