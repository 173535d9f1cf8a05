"""A job is a run of the project, and leaves the project's own task, data and next step alone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fine_tuning import colours, conversation, written
from serving_project import until
from students import make_folder, numbers, recipe
from understudy import Project
from understudy.errors import ProjectBusy, UsageError
from understudy.project import job_files, job_results, jobs, uploads, views
from understudy.project.job_worker import Worker
from understudy.project.shelf import last_trained, newest_dataset, run_named, spec_of
from understudy.run import Run
from understudy.store import runs
from understudy.train.checkpoint import MARK

Rows = list[dict[str, Any]]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project with a task and a dataset of its own."""
    with closing(Project.new(tmp_path / "p", "Turn a number round")) as made:
        rows = tmp_path / "own.jsonl"
        lines = [json.dumps({"prompt": text, "completion": said}) for text, said in numbers(0, 40)]
        rows.write_text("\n".join(lines))
        made.import_examples(rows)
        made.freeze()
        yield made


def upload(project: Project, rows: Rows) -> uploads.Upload:
    path = written(project.folder / "x.jsonl", rows)
    with uploads.receiving(project) as incoming:
        incoming.write(path.read_bytes())
        with project.database.write() as connection:
            return incoming.keep(connection, "x.jsonl", "fine-tune")


def frozen_of(project: Project, rows: Rows, validation: Rows | None = None) -> runs.Frozen:
    check = None if validation is None else upload(project, validation)
    return job_files.freeze(project, upload(project, rows), check, folder="ftjob-x")


def rows_of(project: Project, frozen: runs.Frozen, side: str = "train") -> list[dict[str, Any]]:
    path = project.folder / "datasets" / str(frozen.id) / f"{side}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def asked(project: Project, rows: Rows, model: str = "tiny", **more: Any) -> dict[str, Any]:
    return {
        "model": model,
        "training_file": upload(project, rows).id,
        "validation_file": None,
        "suffix": None,
        "seed": None,
        "metadata": None,
        "hyperparameters": {},
        **more,
    }


def test_the_dataset_is_exactly_the_files_rows(project: Project) -> None:
    """Every learned answer is a row with all that was said before it; nothing is set apart."""
    talk = {
        "messages": [
            {"role": "user", "content": "first"},
            {"role": "assistant", "content": "one", "weight": 0},
            {"role": "user", "content": "second"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": "third"},
            {"role": "assistant", "content": "three", "weight": 1},
        ]
    }
    same = [conversation("I saw a red car today", "red")] * 3
    frozen = frozen_of(project, [talk, *same, *colours()[:10]], colours()[:2])
    rows = rows_of(project, frozen)
    assert frozen.counts == {"train": 15, "validation": 2, "test": 0}
    assert [row["id"] for row in rows] == list(range(1, 16))
    assert [turn["content"] for turn in rows[0]["prompt"]] == ["first", "one", "second"]
    assert rows[0]["completion"] == [{"role": "assistant", "content": "two"}]
    assert [turn["content"] for turn in rows[1]["prompt"]][-1] == "third"
    assert rows[1]["completion"][0]["content"] == "three"
    assert rows[2:5] == [{**rows[2], "id": number} for number in (3, 4, 5)]
    assert job_files.repeated(project, frozen) == 2
    assert frozen_of(project, [talk, *same, *colours()[:10]], colours()[:2]).id == frozen.id


def test_the_projects_own_things_stay_as_they_are(project: Project) -> None:
    """Task, examples, the newest dataset, what is evaluated and exported, the next step."""
    before = views.status(project)
    task, own = project.task, newest_dataset(project)
    frozen = frozen_of(project, colours()[:20])
    trained = done(project, own.id), done(project, frozen.id)
    assert last_trained(project) == run_named(project, "run:latest") == trained[0]
    assert run_named(project, "run:2") == trained[1]
    assert newest_dataset(project) == own == project.freeze()
    assert project.task == task
    project.edit_spec(project.spec.model_copy(update={"title": "another"}))
    assert project.task.version == task.version + 1
    after = views.status(project)
    assert after["examples"] == before["examples"]
    assert after["next"].startswith("understudy evaluate")
    assert [one["task_version"] for one in after["datasets"]] == [task.version, -1]
    assert [one["dataset"] for one in after["runs"]] == [own.id, frozen.id]


def done(project: Project, dataset: int) -> Run:
    with project.database.write() as connection:
        run = runs.add_run(connection, dataset, "tiny", recipe(), project.folder / "runs")
        run = replace(run, state="succeeded")
        runs.set_run(connection, run)
    return run


def test_a_file_has_its_system_message_if_all_its_rows_share_one(project: Project) -> None:
    """Answers are graded by their kind then; rows that share none are run as they are."""
    shared = spec_of(project, frozen_of(project, colours()[:60]))
    assert (shared.system_message, shared.kind) == ("Name the colour.", "label")
    mixed = [*colours()[:12], conversation("x", "y", system="")]
    frozen = frozen_of(project, mixed)
    assert spec_of(project, frozen).system_message == ""
    assert job_files.trained_spec(project, frozen) is None


def test_a_run_of_a_file_alone_is_not_evaluated(tmp_path: Path) -> None:
    """It has no test items, and the message says how to get some."""
    with closing(Project.new(tmp_path / "p")) as project:
        done(project, frozen_of(project, colours()[:20]).id)
        with pytest.raises(UsageError, match="understudy adopt"):
            project.evaluate()


def worked(project: Project, *made: jobs.Job) -> list[jobs.Seen]:
    """The jobs once they ended."""
    worker = Worker(project)
    worker.start()
    deadline = time.monotonic() + 250
    try:
        while True:
            seen = jobs.seen(
                project, *[found for job in made if (found := jobs.find(project, job.id))]
            )
            if all(one.job.ended for one in seen):
                return seen
            assert time.monotonic() < deadline, seen
            time.sleep(0.05)
    finally:
        worker.stop()


def test_a_base_of_the_settings_is_trained_by_the_wishes_of_the_job(
    tmp_path: Path,
) -> None:
    """A folder of this machine under a name; passes, batch and rate as asked; and further on it."""
    make_folder(tmp_path / "base")
    folder = tmp_path / "p"
    Project.new(folder).close()
    bases = f'[bases]\nsmall = "{tmp_path / "base"}"\n'
    (folder / "understudy.toml").write_text(bases)
    with closing(Project(folder)) as project:
        wish = {"n_epochs": 2, "batch_size": 5, "learning_rate_multiplier": 0.5}
        usual = jobs.create(project, asked(project, colours()[:20], "small", hyperparameters={}))
        jobs.cancel(project, usual)
        job = jobs.create(project, asked(project, colours()[:20], "small", hyperparameters=wish))
        assert job.student == str(tmp_path / "base")
        cancelled, (job, run, _) = worked(project, usual, job)
        assert (cancelled.job.state, cancelled.run) == ("cancelled", None)
        assert job.state == "succeeded", job.error
        assert run is not None
        assert (run.recipe.epochs, run.recipe.batch_size) == (2, 5)
        assert run.recipe.learning_rate == pytest.approx(5e-4)  # half of a small student's
        assert run.metrics["tokens"] > 0
        assert run_named(project, "run:latest").metrics["fine_tuned_model"] == job.model
        assert job_results.checkpoints(run)[0].is_model
        told = views.status(project)["jobs"]
        assert [(one["job"], one["state"], one["run"]) for one in told] == [
            (cancelled.job.id, "cancelled", None),
            (job.id, "succeeded", run.id),
        ]

        further = asked(project, colours()[:20], str(job.model))
        for name in (job.model, run.model, "run:latest"):
            assert jobs.student_of(project, str(name)) == str(run.folder / "model")
        last = jobs.create(project, further)
        assert jobs.model_name(project, last).startswith("ft:small:understudy::")


def test_a_file_deleted_before_it_is_read_fails_its_job(project: Project) -> None:
    """The reason and the parameter are told; no run is made."""
    request = asked(project, colours()[:20])
    job = jobs.create(project, request)
    assert uploads.remove(project, request["training_file"])
    ((job, run, _),) = worked(project, job)
    assert job.error == {
        "code": "invalid_training_file",
        "message": f"{request['training_file']} was deleted before it was read.",
        "param": "training_file",
    }
    assert run is None
    assert job_results.told(project, job)[0].level == "error"


def test_a_project_that_is_written_to_for_long_fails_no_job(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files are read again once the other one is done."""
    real, busy = job_files.freeze, [True]

    def freeze(*given: Any, **named: Any) -> runs.Frozen:
        if busy.pop() if busy else False:
            raise ProjectBusy("another program holds it", "")
        return real(*given, **named)

    monkeypatch.setattr(job_files, "freeze", freeze)
    job = jobs.create(project, asked(project, colours()[:20], hyperparameters={"n_epochs": 1}))
    worker = Worker(project)
    worker.start()
    try:
        assert until(lambda: seen(project, job).state not in ("validating_files", "queued"))
        jobs.cancel(project, job)
    finally:
        worker.stop()
    assert seen(project, job).state == "cancelled"


def seen(project: Project, job: jobs.Job) -> jobs.Job:
    found = jobs.find(project, job.id)
    assert found is not None
    return found


def test_a_checkpoint_that_is_deleted_while_it_is_listed_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(1, 1, "tiny", tmp_path, recipe())
    for step in (1, 2):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / MARK).touch()
    real = Path.glob

    def glob(folder: Path, pattern: str) -> Iterator[Path]:
        for path in list(real(folder, pattern)):
            if path.parent.name == "checkpoint-1":
                path.unlink()
            yield path

    monkeypatch.setattr(Path, "glob", glob)
    assert [one.step for one in job_results.checkpoints(run)] == [2]
