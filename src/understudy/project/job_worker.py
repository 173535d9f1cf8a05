"""The worker of fine-tuning jobs: reads their files, and trains them one after the other.

It is two threads of the server's process, since reading a file need not wait for a training; the
trainer is a process of its own. Of several servers of a project one works: it holds a lock, and
when it is gone, however it ended, the next one takes up what it left. Every decision is a change of
state in the store that only one side can make, so a job is what the store says it is:

- nobody else works on a job that is ``running`` while the lock is held here: one that is found so
  was left by a dead process, and is queued again to go on from its checkpoint
- a job has one run, stored with it in one transaction; what goes on is that run
- a client that pauses or cancels changes the state at once; the trainer is stopped when that is
  seen, within a fraction of a second, behind its step
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from understudy.errors import DiskError, ProjectBusy, UnderstudyError
from understudy.project import job_files, job_results, training, uploads
from understudy.project.job_files import BadFile
from understudy.project.jobs import model_name, seed_of
from understudy.project.preparing import dataset_folder, prepare_for
from understudy.project.shelf import local_runs
from understudy.project.workplace import Workplace
from understudy.run import Event, Run
from understudy.store import events, jobs, runs
from understudy.store.jobs import Job, JobState
from understudy.store.lock import locked
from understudy.store.runs import Frozen
from understudy.train import at_work

LOCK = "understudy.jobs.lock"
_LOOK_S = 0.2
"""Seconds between two looks at the store: for work, and for a wish to stop."""
_AGAIN_S = 1.0
"""Seconds until what is taken, or failed for a while, is tried again."""
_LAST_WAIT_S = 90.0
"""Seconds that ``stop`` waits at the most for a trainer to save its checkpoint."""

_SAVING = (
    "understudy: waiting for the training to save its step; the next server goes on from there. "
    "Ctrl-C again ends at once\n"
)


class Worker:
    """Works on a project's jobs from ``start`` to ``stop``."""

    def __init__(self, place: Workplace) -> None:
        self._place = place
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._lead, name="jobs", daemon=True)
        self._busy_since: float | None = None
        self._training = False

    def start(self) -> None:
        """Begin, in threads of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the training, if there is one, with a checkpoint; its job is queued again."""
        self._ending.set()
        if self._training:
            sys.stderr.write(_SAVING)
            sys.stderr.flush()
        if self._thread.is_alive():
            self._thread.join(_LAST_WAIT_S)

    # -- the two loops -----------------------------------------------------------------------

    def _lead(self) -> None:
        """Wait until no other server works on the jobs; then do, until the end."""
        while not self._ending.is_set():
            with suppress(UnderstudyError), locked(self._place.folder / LOCK):
                with suppress(UnderstudyError, OSError):
                    self._put_in_order()
                reading = threading.Thread(
                    target=self._loop, args=(self._read_next,), name="job files", daemon=True
                )
                reading.start()
                self._loop(self._train_next)
                reading.join(_AGAIN_S)
            self._ending.wait(_AGAIN_S)

    def _loop(self, work: Callable[[], bool]) -> None:
        """Do what there is to do until the end; trouble with store and disk is waited out."""
        while not self._ending.is_set():
            try:
                if not work():
                    self._ending.wait(_LOOK_S)
            except Exception as error:  # noqa: BLE001  a worker that ends leaves jobs hanging
                told = error if isinstance(error, UnderstudyError) else type(error).__name__
                sys.stderr.write(f"understudy: jobs: {told}\n")  # no row of a file is ever logged
                self._ending.wait(_AGAIN_S)

    # -- reading files -----------------------------------------------------------------------

    def _read_next(self) -> bool:
        """Read the files of the oldest job that waits for it; False if none does."""
        place = self._place
        with place.database.read() as connection:
            job = jobs.first(connection, "validating_files")
        if job is None:
            return False
        self._say(job, "job.validating", files=_files(job))
        try:
            frozen = self._freeze(job)
        except ProjectBusy:
            raise  # somebody writes for long: read again
        except UnderstudyError as error:
            code = f"invalid_{error.param}" if isinstance(error, BadFile) else "file_unreadable"
            self._fail(job, "validating_files", error, code, getattr(error, "param", None))
            return True
        except OSError as error:
            full = DiskError(
                f"writing the dataset failed: {error.strerror}", "Make room, ask again"
            )
            self._fail(job, "validating_files", full, "disk")
            return True
        except Exception as error:
            unforeseen = UnderstudyError(f"reading the files failed: {type(error).__name__}")
            self._fail(job, "validating_files", unforeseen, "internal_error")
            raise
        told = {
            "rows": frozen.counts.get("train", 0),
            "validation_rows": frozen.counts.get("validation", 0),
            "repeated": job_files.repeated(place, frozen),
        }
        self._change(
            job, ("validating_files",), "job.queued", told, state="queued", dataset_id=frozen.id
        )
        return True

    def _freeze(self, job: Job) -> Frozen:
        found = {}
        for param, file in _files(job).items():
            upload = uploads.find(self._place, file)
            if upload is None:
                raise BadFile(param, f"{file} was deleted before it was read")
            found[param] = upload
        training_file = found["training_file"]
        return job_files.freeze(
            self._place, training_file, found.get("validation_file"), folder=job.id
        )

    # -- training ----------------------------------------------------------------------------

    def _train_next(self) -> bool:
        """Train the oldest job that waits for it; False if there is nothing to do now."""
        place = self._place
        with place.database.read() as connection:
            left, job = jobs.first(connection, "running"), jobs.first(connection, "queued")
        if left is not None:  # trouble with the store kept its end from being told
            self._change(left, _RUNNING, "job.recovered", {}, state="queued")
            return True
        if job is None or self._is_taken(job):
            return False
        try:
            with place.writing():
                self._busy_since = None
                self._train(job)
        except ProjectBusy as busy:
            self._tell_busy(job, busy)
            return False
        return True

    def _put_in_order(self) -> None:
        """Queue again what a dead process was training, and sweep away what it was receiving."""
        with self._place.database.read() as connection:
            found = jobs.page(connection)
        for job in found:
            if job.state == "running":
                self._change(job, _RUNNING, "job.recovered", {}, state="queued")
        theirs = {job.run_id for job in found}
        for run in local_runs(self._place):
            if run.id in theirs and run.state == "running":
                self._set_run(replace(run, state="interrupted"))
        uploads.sweep(self._place)

    def _is_taken(self, job: Job) -> bool:
        """True while a trainer that outlived its server saves its last checkpoint."""
        return job.run_id is not None and at_work(self._run(job).folder)

    def _tell_busy(self, job: Job, busy: ProjectBusy) -> None:
        """Say once that somebody is in the way, unless it is for a moment alone."""
        now = time.monotonic()
        if self._busy_since is None:
            self._busy_since = now
        if self._busy_since < now - _AGAIN_S:
            self._busy_since = math.inf
            self._say(job, "job.waiting", reason=busy.what)

    def _train(self, job: Job) -> None:
        """Train a job to its end, or until it is to stop."""
        began = self._change(job, ("queued",), "job.started", {}, state="running")
        if began is None:
            return
        self._training = True
        try:
            run = self._trained(began)
        except UnderstudyError as error:
            if self._ending.is_set():
                self._change(job, _RUNNING, "job.interrupted", {}, state="queued")
            elif isinstance(error, ProjectBusy):
                self._change(job, _RUNNING, "job.recovered", {}, state="queued")
            else:
                self._fail(job, "running", error, _CODES.get(error.exit_code, "training_failed"))
        except Exception as error:
            unforeseen = UnderstudyError(f"the training failed: {type(error).__name__}")
            self._fail(job, "running", unforeseen, "internal_error")
            raise
        else:
            self._finish(job, run)
        finally:
            self._training = False

    def _trained(self, job: Job) -> Run:
        """The job's run, trained to its end; begun if there is none."""
        place = self._place
        with place.database.read() as connection:
            frozen = runs.dataset(connection, job.dataset_id)
        assert frozen is not None  # noqa: S101  (no job is queued without, and a key holds it)
        spec = job_files.trained_spec(place, frozen)
        how = training.How(stopped=self._stopped(job))
        run = self._run(job) if job.run_id is not None else self._begun(job, frozen, how)
        if run.state == "succeeded":  # killed before that was told
            return run
        return training.follow(place, run, dataset_folder(place, frozen), spec, how)

    def _begun(self, job: Job, frozen: Frozen, how: training.How) -> Run:
        """Choose the recipe and store the run with its job: from then on the job has this one."""
        place = self._place
        spec, wished = job_files.trained_spec(place, frozen), job.asked["hyperparameters"]
        overrides: dict[str, Any] = {
            ours: wished[theirs]
            for theirs, ours in (("n_epochs", "epochs"), ("batch_size", "batch_size"))
            if wished.get(theirs, "auto") != "auto"
        }
        seed = seed_of(job)
        prepared = prepare_for(place, frozen, spec, job.student, seed=seed, overrides=overrides)
        factor = wished.get("learning_rate_multiplier", "auto")
        if factor != "auto":
            for rate in ("learning_rate", "matrix_learning_rate"):
                overrides[rate] = getattr(prepared.recipe, rate) * factor
            prepared = prepare_for(place, frozen, spec, job.student, seed=seed, overrides=overrides)
        training.make_ready(place, prepared, how)
        with place.database.write() as connection:
            if not _is_running(connection, job):
                raise UnderstudyError("stopped before it began")
            run = runs.add_run(
                connection, frozen.id, prepared.student, prepared.recipe, place.folder / "runs"
            )
            jobs.change(connection, job.id, _RUNNING, run_id=run.id)
        return run

    def _stopped(self, job: Job) -> Callable[[], bool]:
        """True once a client has paused or cancelled the job, or the server ends."""
        looked_at, stopped = 0.0, False

        def ask() -> bool:
            nonlocal looked_at, stopped
            if self._ending.is_set():
                return True
            if time.monotonic() - looked_at > _LOOK_S:
                looked_at = time.monotonic()
                with suppress(UnderstudyError), self._place.database.read() as connection:
                    stopped = not _is_running(connection, job)
            return stopped

        return ask

    # -- what is stored ----------------------------------------------------------------------

    def _finish(self, job: Job, run: Run) -> None:
        """Store results, the model's name and the end, all at once."""
        place, name = self._place, model_name(self._place, job)
        with uploads.receiving(place) as incoming:
            incoming.write(job_results.as_csv(run).encode())
            with place.database.write() as connection:
                if not _is_running(connection, job):
                    return  # paused at the last moment; it is trained when it is resumed
                results = incoming.keep(connection, job_results.FILE, job_results.PURPOSE)
                named = replace(run, metrics={**run.metrics, "fine_tuned_model": name})
                runs.set_run(connection, named)
                jobs.change(
                    connection,
                    job.id,
                    _RUNNING,
                    state="succeeded",
                    model=name,
                    results=results.id,
                )
                said = Event("job.succeeded", {"job": job.id, "model": name, "run": run.id})
                events.add(connection, said)

    def _fail(
        self,
        job: Job,
        came_from: JobState,
        error: UnderstudyError,
        code: str,
        param: str | None = None,
    ) -> None:
        told = {"code": code, "message": str(error), "param": param}
        self._change(job, (came_from,), "job.failed", told, state="failed", error=told)

    def _change(
        self, job: Job, came_from: tuple[JobState, ...], kind: str, told: dict[str, Any], **to: Any
    ) -> Job | None:
        """Change a job and say so, both or neither; None if it has gone another way meanwhile."""
        with self._place.database.write() as connection:
            changed = jobs.change(connection, job.id, came_from, **to)
            if changed is not None:
                events.add(connection, Event(kind, {"job": job.id, **told}))
        return changed

    def _say(self, job: Job, kind: str, **data: Any) -> None:
        self._place.say(kind, job=job.id, **data)

    def _run(self, job: Job) -> Run:
        return next(run for run in local_runs(self._place) if run.id == job.run_id)

    def _set_run(self, run: Run) -> None:
        with self._place.database.write() as connection:
            runs.set_run(connection, run)


_RUNNING: tuple[JobState, ...] = ("running",)
_CODES = {2: "invalid_request", 3: "setup", 9: "disk"}
"""Code of a job's error by the exit code of ours."""


def _is_running(connection: Connection, job: Job) -> bool:
    """True while no client has had it another way."""
    now = jobs.get(connection, job.id)
    return now is not None and now.state == "running"


def _files(job: Job) -> dict[str, str]:
    given = {param: job.asked[param] for param in ("training_file", "validation_file")}
    return {param: file for param, file in given.items() if file is not None}
