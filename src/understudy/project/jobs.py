"""Fine-tuning jobs: trainings of the project that clients of the server asked for.

    create -> validating_files -> queued -> running -> succeeded | failed | cancelled
                                    ^          |
                                    +- paused <+

A job is one run of the project; job_worker.py reads its files and trains it, one job at a time.
What is asked here is stored, and the worker sees it there: also one of another process.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection

from understudy.errors import UsageError
from understudy.models import is_hub_id
from understudy.project import uploads
from understudy.project.shelf import last_trained, local_runs
from understudy.project.uploads import new_id
from understudy.project.workplace import Workplace
from understudy.run import Event, Run
from understudy.store import events, jobs
from understudy.store.jobs import Job, JobState
from understudy.train.recipe import TINY

__all__ = ["Job", "Refused", "Seen", "cancel", "create", "find", "page", "pause", "resume", "seen"]

PURPOSE = "fine-tune"
"""Purpose of a file that can be trained on."""
_NAME = re.compile(r"[^A-Za-z0-9._-]+")


class Refused(UsageError):
    """A request that no job is made of, or that a job in its state cannot follow."""

    def __init__(self, what: str, fix: str = "", *, param: str | None = None, code: str) -> None:
        super().__init__(what, fix)
        self.param, self.code = param, code


class Seen(NamedTuple):
    """A job with what its run tells of it."""

    job: Job
    run: Run | None
    finish: datetime | None
    """When a running one will be trained, by its speed so far; None: not known."""


# -- asking --------------------------------------------------------------------------------


def create(place: Workplace, asked: Mapping[str, Any], key: str | None = None) -> Job:
    """Store a job. The same request with the same ``key`` gives the job that it made before.

    ``asked`` holds model, training_file, validation_file, suffix, seed, metadata (each may be
    None), hyperparameters (n_epochs, batch_size, learning_rate_multiplier: a number or "auto").
    Raises Refused naming the parameter that is wrong.
    """
    asked = dict(asked)
    with place.database.read() as connection:
        before = _made_before(connection, asked, key)
    if before is not None:
        return before
    student = student_of(place, asked["model"])
    for param in ("training_file", "validation_file"):
        _check_file(place, param, asked[param])
    with place.database.write() as connection:
        before = _made_before(connection, asked, key)
        if before is not None:
            return before
        new = Job(new_id("ftjob"), asked, student, key=key, since=events.last(connection))
        job = jobs.add(connection, new)
        events.add(
            connection,
            Event("job.created", {"job": job.id, "model": asked["model"], "student": student}),
        )
    return job


def _made_before(connection: Connection, asked: Mapping[str, Any], key: str | None) -> Job | None:
    job = jobs.of_key(connection, key) if key else None
    if job is not None and job.asked != asked:
        raise Refused(
            "another request had this Idempotency-Key",
            "Send a new key with each new request",
            code="idempotency_key_reused",
        )
    return job


def student_of(place: Workplace, model: str) -> str:
    """The student that a model's name stands for here. Raises Refused if it stands for none.

    ``tiny``, ``hf:org/name`` and trained students (``run:7``, ``ft:...``) are themselves; any other
    name is looked up in the setting ``bases``.
    """
    name = place.settings.bases.get(model, model)
    if name == TINY or is_hub_id(name):
        return name
    latest = last_trained(place) if name == "run:latest" else None
    for run in reversed(local_runs(place)):
        names = (run.model, run.metrics.get("fine_tuned_model"))
        if run == latest or (run.state == "succeeded" and name in names):
            return str((run.folder / "model").absolute())
    if model in place.settings.bases:
        return name  # a folder of this machine: whoever wrote the settings may name one
    raise Refused(
        f"the model {ascii(model)[1:-1]!r} stands for nothing here",
        f'Map it to a student in understudy.toml: [bases] "{model}" = "hf:org/name" (or "tiny")',
        param="model",
        code="model_not_found",
    )


def _check_file(place: Workplace, param: str, id: str | None) -> None:
    if id is None:
        return
    upload = uploads.find(place, id)
    if upload is None:
        raise Refused(f"no such file: {ascii(id)[1:-1]}", param=param, code="file_not_found")
    if upload.purpose != PURPOSE:
        raise Refused(
            f"{id} has the purpose {upload.purpose}, not {PURPOSE}",
            f'Upload it with purpose="{PURPOSE}"',
            param=param,
            code="invalid_purpose",
        )


def cancel(place: Workplace, job: Job) -> Job:
    """Stop a job for good; one that was cancelled before stays so. Raises Refused if it ended."""
    return _ask(
        place, job, ("validating_files", "queued", "running", "paused"), "cancelled", ("cancelled",)
    )


def pause(place: Workplace, job: Job) -> Job:
    """Stop a job behind its step, to go on later. Raises Refused if it is not to be trained."""
    return _ask(place, job, ("queued", "running"), "paused", ("paused",))


def resume(place: Workplace, job: Job) -> Job:
    """Have a paused job go on from its checkpoint; a failed one too, once its files were read."""
    came_from: tuple[JobState, ...] = ("paused", "failed") if job.dataset_id else ("paused",)
    return _ask(place, job, came_from, "queued", ("queued", "running"))


_KINDS: Mapping[JobState, str] = {
    "cancelled": "job.cancelled",
    "paused": "job.paused",
    "queued": "job.resumed",
}


def _ask(
    place: Workplace,
    job: Job,
    came_from: tuple[JobState, ...],
    state: JobState,
    done: tuple[JobState, ...],
) -> Job:
    with place.database.write() as connection:
        changed = jobs.change(connection, job.id, came_from, state=state, error=None)
        if changed is not None:
            events.add(connection, Event(_KINDS[state], {"job": job.id}))
            return changed
        now = jobs.get(connection, job.id) or job
    if now.state in done:
        return now
    verb = _KINDS[state].removeprefix("job.")
    raise Refused(f"a job that is {now.state} cannot be {verb}", code=f"job_{now.state}")


# -- looking -------------------------------------------------------------------------------


def find(place: Workplace, id: str) -> Job | None:
    """The job of that id, or None."""
    with place.database.read() as connection:
        return jobs.get(connection, id)


def page(
    place: Workplace,
    *,
    after: str | None = None,
    limit: int,
    metadata: Mapping[str, str] | None = None,
    no_metadata: bool = False,
) -> list[Job]:
    """Up to ``limit`` jobs, the newest first: behind the one of id ``after``, if one is named."""
    with place.database.read() as connection:
        return jobs.page(
            connection, after=after, limit=limit, metadata=metadata, no_metadata=no_metadata
        )


def seen(place: Workplace, *found: Job) -> list[Seen]:
    """Jobs with what their runs tell of them."""
    known = {run.id: run for run in local_runs(place)} if any(job.run_id for job in found) else {}
    return [
        Seen(
            job,
            None if job.run_id is None else known[job.run_id],
            _finish(place, job) if job.state == "running" else None,
        )
        for job in found
    ]


def _finish(place: Workplace, job: Job) -> datetime | None:
    with place.database.read() as connection:
        last = events.about(
            connection, job.id, job.run_id, ("train.step",), since=job.since, limit=1
        )
    if not last:
        return None
    return datetime.fromisoformat(last[0].at) + timedelta(seconds=last[0].data["seconds_left"])


def seed_of(job: Job) -> int:
    """The seed asked for; else one that follows from the id, so that it is the same each time."""
    asked: int | None = job.asked["seed"]
    if asked is not None:
        return asked
    return int.from_bytes(hashlib.sha256(job.id.encode()).digest()[:4]) % 2**31


def model_name(place: Workplace, job: Job) -> str:
    """What the trained student is called: ``ft:BASE:understudy:SUFFIX:ID``, as OpenAI would."""
    base, by_name = job.asked["model"], {}
    with place.database.read() as connection:
        by_name = {one.model: one for one in jobs.page(connection) if one.model}
    while base in by_name:  # trained further: it is called by what it all began with
        base = by_name[base].asked["model"]
    suffix = _NAME.sub("-", job.asked["suffix"] or "")
    return f"ft:{base}:understudy:{suffix}:{job.id.removeprefix('ftjob-')[:8]}"
