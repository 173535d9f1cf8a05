"""A job's life: its turn, its pauses, its end; and that it is told truly whoever is killed."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from fine_tuning import client, colours, ended, messages, sent, steps, until, written
from serving_project import serving
from understudy import Project
from understudy.store.lock import locked

LONG = {"n_epochs": 50, "batch_size": 1}
"""Two thousand steps: it does not end before it is stopped."""
MIDDLE = {"n_epochs": 6, "batch_size": 4}
"""Sixty steps, and a checkpoint at each eighth."""
SHORT = {"n_epochs": 1, "batch_size": 4}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Project.new(tmp_path / "p").close()
    written(tmp_path / "x.jsonl", colours()[:40])
    return tmp_path / "p"


@contextmanager
def at_home(folder: Path) -> Iterator[tuple[Any, Any]]:
    with serving(folder) as home, closing(client(home)) as sdk:
        yield home, sdk


def asked(sdk: Any, folder: Path, hyperparameters: dict[str, Any], **more: Any) -> Any:
    file = sent(sdk, folder.parent / "x.jsonl")
    return sdk.fine_tuning.jobs.create(
        model="tiny", training_file=file, hyperparameters=hyperparameters, seed=1, **more
    )


def trainer(folder: Path, run: int = 1) -> int:
    """Process id of whoever trains that run."""
    wanted = f"{folder}/runs/{run}"
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if "understudy.train.local" in words and wanted in words:
                return int(entry.name)
    raise AssertionError(f"nobody trains run {run}")


def gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def wait_for(right: Any, seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not right():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def runs(folder: Path) -> list[str]:
    with closing(Project(folder)) as project, project.database.read() as connection:
        from understudy.store.runs import runs as all_runs

        return [run.state for run in all_runs(connection, folder / "runs")]


def reached(sdk: Any, id: str, step: int) -> None:
    wait_for(lambda: steps(sdk, id) >= step)


def test_pause_resume_and_the_next_in_line(folder: Path) -> None:
    """A paused job lets the next one train, and goes on from its own step; a cancelled one ends."""
    with at_home(folder) as (_, sdk):
        jobs = sdk.fine_tuning.jobs
        first = asked(sdk, folder, LONG)
        second = asked(sdk, folder, SHORT)
        reached(sdk, first.id, 5)
        at_work = until(sdk, first.id, lambda job: job.estimated_finish is not None)
        assert at_work.estimated_finish >= at_work.created_at
        assert jobs.retrieve(second.id).status == "queued"
        paused = jobs.pause(first.id)
        assert paused.status == "queued"  # the SDK has no other word
        assert paused.to_dict()["understudy"]["state"] == "paused"
        assert ended(sdk, second.id).status == "succeeded"
        stopped = steps(sdk, first.id)
        kept = jobs.checkpoints.list(first.id).data
        assert stopped <= kept[0].step_number < stopped + 4  # of so many steps each fourth is told
        assert jobs.pause(first.id).id == first.id  # once more is no mistake
        assert runs(folder)[0] == "interrupted"

        assert jobs.resume(first.id).status == "queued"
        reached(sdk, first.id, stopped + 1)
        assert on(sdk, first.id)[0].endswith(f"step {kept[0].step_number}")
        assert jobs.cancel(first.id).status == "cancelled"
        wait_for(lambda: runs(folder) == ["interrupted", "succeeded"])
        assert jobs.cancel(first.id).status == "cancelled"
        with pytest.raises(Exception, match="cannot be resumed"):
            jobs.resume(first.id)
        assert jobs.retrieve(first.id).fine_tuned_model is None


def test_a_busy_project_lets_a_job_wait(folder: Path) -> None:
    """Another writer at work: the job is queued and says so; files and jobs are taken meanwhile."""
    with at_home(folder) as (_, sdk):
        with locked(folder / "understudy.lock"):
            job = asked(sdk, folder, SHORT)
            wait_for(lambda: any("in use by process" in one for one in messages(sdk, job.id)))
            assert sdk.fine_tuning.jobs.retrieve(job.id).status == "queued"
            cancelled = asked(sdk, folder, SHORT)
            assert sdk.fine_tuning.jobs.cancel(cancelled.id).status == "cancelled"
        until(sdk, job.id, lambda one: one.status == "running")
        assert sum("in use by" in one for one in messages(sdk, job.id)) == 1
        sdk.fine_tuning.jobs.cancel(job.id)


def test_a_killed_trainer_fails_its_job_which_can_go_on(folder: Path) -> None:
    """SIGKILL: the reason is told; resumed, the same run goes on from its last checkpoint."""
    with at_home(folder) as (_, sdk):
        job = asked(sdk, folder, MIDDLE)
        reached(sdk, job.id, 12)
        os.kill(trainer(folder), signal.SIGKILL)
        failed = ended(sdk, job.id)
        assert (failed.status, failed.error.code) == ("failed", "training_failed")
        assert "SIGKILL" in failed.error.message
        assert failed.finished_at is not None
        assert sdk.fine_tuning.jobs.resume(job.id).error is None
        done = ended(sdk, job.id)
        assert done.status == "succeeded"
        lines = sdk.files.content(done.result_files[0]).text.splitlines()[1:]
        assert [int(line.split(",")[0]) for line in lines] == list(range(1, 61))
    assert runs(folder) == ["succeeded"]


def test_a_server_that_ends_or_is_killed_leaves_no_job_hanging(folder: Path) -> None:
    """SIGTERM, SIGKILL, and SIGKILL of the trainer too: the next server goes on, with one run."""
    with at_home(folder) as (home, sdk), at_home(folder) as (standby, other):
        job = asked(sdk, folder, MIDDLE)
        reached(other, job.id, 4)
        home.process.terminate()
        assert home.process.wait(100) == 143
        assert home.process.stderr is not None
        assert "waiting for the training to save its step" in home.process.stderr.read()
        wait_for(lambda: len(on(other, job.id)) == 1)  # who stood by takes over
        assert "The server ends; the job goes on when it is back" in messages(other, job.id)
        process = trainer(folder)
        kill(standby)
        wait_for(lambda: gone(process))  # it hears that we are gone, and saves its step
    with at_home(folder) as (home, sdk):
        wait_for(lambda: len(on(sdk, job.id)) == 2)
        process = trainer(folder)
        kill(home)
        os.kill(process, signal.SIGKILL)
    with at_home(folder) as (_, sdk):
        assert ended(sdk, job.id).status == "succeeded"
        assert len(sdk.fine_tuning.jobs.list().data) == 1
        results = sdk.files.content(sdk.fine_tuning.jobs.retrieve(job.id).result_files[0])
        assert len(results.text.splitlines()) == 61
    assert runs(folder) == ["succeeded"]


def on(sdk: Any, id: str) -> list[str]:
    """How often, and from where, a job went on."""
    return [told for told in messages(sdk, id) if told.startswith("Went on from the checkpoint")]


def kill(home: Any) -> None:
    home.process.kill()
    home.process.wait()


@pytest.mark.sweep
@pytest.mark.parametrize("number", range(20))
def test_whoever_is_killed_whenever_the_job_ends_in_the_truth(folder: Path, number: int) -> None:
    """Server, trainer or both, at any moment of a job's life, twice over."""
    rng = random.Random(number)
    with at_home(folder) as (_, sdk):
        name = asked(sdk, folder, MIDDLE).id
    for _ in range(2):
        with at_home(folder) as (home, sdk):
            time.sleep(rng.uniform(0, 9))
            whom = rng.choice(["server", "trainer", "both"])
            if whom != "server":
                try:
                    os.kill(trainer(folder), signal.SIGKILL)
                except (AssertionError, OSError):
                    whom = "server"  # nobody trains at this moment
            if whom != "trainer":
                kill(home)
            else:
                job = ended(sdk, name)
                if job.status == "failed":
                    assert "SIGKILL" in job.error.message, job
                    sdk.fine_tuning.jobs.resume(name)
    with at_home(folder) as (_, sdk):
        job = ended(sdk, name)
        if job.status == "failed":
            assert "SIGKILL" in job.error.message, job
            sdk.fine_tuning.jobs.resume(name)
            job = ended(sdk, name)
        assert job.status == "succeeded"
        assert [one.id for one in sdk.fine_tuning.jobs.list()] == [name]
        lines = sdk.files.content(job.result_files[0]).text.splitlines()[1:]
        assert [int(line.split(",")[0]) for line in lines] == list(range(1, 61))
    assert runs(folder) == ["succeeded"]
    assert len(list((folder / "files").iterdir())) == 2
