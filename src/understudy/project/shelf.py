"""What was frozen and trained before: datasets, their splits and specs, runs."""

from __future__ import annotations

from understudy import dataset
from understudy.errors import UsageError
from understudy.example import Example, Split
from understudy.project.here import here
from understudy.project.workplace import Workplace
from understudy.run import AnyRun, Run
from understudy.store import examples, runs, tasks
from understudy.store.runs import Frozen
from understudy.task import Spec

Splits = dict[Split, list[Example]]


def newest_dataset(place: Workplace) -> Frozen:
    """The newest dataset. Raises UsageError if nothing was frozen yet."""
    with place.database.read() as connection:
        frozen = runs.dataset(connection)
    if frozen is None:
        raise UsageError("no dataset is frozen yet", f"understudy freeze{here(place.folder)}")
    return frozen


def dataset_of(place: Workplace, run: AnyRun) -> Frozen:
    """The dataset that a run was trained on."""
    return frozen_of(place, run.dataset_id)


def frozen_of(place: Workplace, number: int) -> Frozen:
    """The dataset of that number, which is there."""
    with place.database.read() as connection:
        frozen = runs.dataset(connection, number)
    assert frozen is not None  # noqa: S101 (a foreign key holds it)
    return frozen


def checked_splits(place: Workplace, frozen: Frozen) -> Splits:
    """The dataset's sides, after the leak check: it runs before every training and evaluation."""
    with place.database.read() as connection:
        sides: tuple[Split, ...] = ("train", "validation", "test")
        splits = {side: list(runs.members(connection, frozen.id, side)) for side in sides}
        purged = frozen.id in runs.datasets_with(connection, examples.PURGED)
    if purged:
        raise UsageError(
            f"dataset {frozen.id} holds examples that were purged",
            f"`understudy freeze{here(place.folder)}` makes one without them; then train",
        )
    settings = place.settings
    free_text = spec_of(place, frozen).kind == "text"
    dataset.check_leaks(splits, similarity=settings.duplicate_similarity, free_text=free_text)
    return splits


def spec_of(place: Workplace, frozen: Frozen) -> Spec:
    """The spec under which the dataset was frozen: a later one does not change what was trained.

    Rows of a fine-tuning file that share no system message have a spec with an empty one.
    """
    with place.database.read() as connection:
        task = tasks.version(connection, frozen.task_version)
    if task.spec is None and not frozen.own:
        return _of_rows(task.description)
    return task.spec or place.spec


def _of_rows(title: str) -> Spec:
    """What can be said of rows that bring their system messages themselves, or have none."""
    said = "as in the file"
    # Unchecked: a spec that somebody writes has a system message.
    return Spec.model_construct(
        title=title, input=said, output=said, kind="text", system_message=""
    )


def all_runs(place: Workplace) -> list[AnyRun]:
    """Every run, here and at hosts, oldest first."""
    with place.database.read() as connection:
        return runs.runs(connection, place.folder / "runs")


def local_runs(place: Workplace) -> list[Run]:
    """Every run that was trained here, oldest first."""
    return [run for run in all_runs(place) if isinstance(run, Run)]


def last_trained(place: Workplace) -> AnyRun | None:
    """The newest run that succeeded, or None; one of a fine-tuning file only if there is no other.

    What a client of the server trained is not what the project is about to prove or hand over.
    """
    with place.database.read() as connection:
        own = {frozen.id for frozen in runs.datasets(connection) if frozen.own}
    trained = [run for run in all_runs(place) if run.state == "succeeded"]
    found = [run for run in trained if run.dataset_id in own] or trained
    return found[-1] if found else None


def run_named(place: Workplace, name: str) -> AnyRun:
    """The trained run of that name (``run:7``, ``run:latest``). Raises UsageError if none."""
    wanted = name.removeprefix("run:")
    trained = [run for run in all_runs(place) if run.state == "succeeded"]
    found = [run for run in trained if str(run.id) == wanted]
    if wanted == "latest" and (latest := last_trained(place)) is not None:
        found = [latest]
    if not found:
        known = ", ".join(run.model for run in trained)
        train = f"understudy train{here(place.folder)}"
        raise UsageError(f"there is no trained {name}", f"There are: {known}" if known else train)
    return found[0]
