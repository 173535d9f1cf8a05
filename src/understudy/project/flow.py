"""``run`` and ``demo``: the verbs in order, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy import models, practice
from understudy.errors import ProviderRefused, UsageError
from understudy.example import valid
from understudy.models.address import default_teacher
from understudy.money import Quote
from understudy.project import Project, hosting
from understudy.project.folder import DATABASE
from understudy.project.hosted_plan import TrainingQuote, is_hosted
from understudy.project.results import Exported
from understudy.report import Report
from understudy.run import AnyRun, HostedRun
from understudy.settings import load

KEPT = (
    "student",
    "examples",
    "validation_share",
    "test_share",
    "seed",
)
"""Flags that later verbs need too: they are written into the project's file."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What the whole way gave."""

    run: AnyRun
    report: Report
    exported: Exported | None
    """None: a host keeps the model."""


def run(
    project: Project,
    description: str,
    examples: int,
    confirm: Callable[[Quote | TrainingQuote], None],
) -> Finished:
    """One description to one measured student. Again: goes on where it stopped.

    ``confirm`` is given the quote after the pilot, a host's price before it trains, and a judge's
    quote if one is set; it raises to stop before the spend. A host that does not train is found
    out before anything is bought.
    """
    with project.writing():
        if is_hosted(project.settings.student):
            hosting.must_be_open(project)
        project.describe(description)
        project.plan()
        if project.made() < examples:
            confirm(project.pilot(examples))
        project.generate(examples)
        project.freeze()
        trained = project.train(confirm=confirm)
        report = project.evaluate(confirm=confirm)
        hosted = isinstance(trained, HostedRun)
        return Finished(trained, report, None if hosted else project.export())


def open_or_new(folder: Path, description: str, flags: Mapping[str, Any]) -> Project:
    """The project in ``folder``, made if it is not there; flags are kept in its settings file.

    Raises UsageError if it is there with another description.
    """
    if not (folder / DATABASE).exists():
        if not description.strip():
            raise UsageError("the description is empty", "Say what is to be learned in a sentence")
        settings = load(folder, flags).settings
        models.endpoint(
            settings.teacher or default_teacher(), settings
        )  # refused before it is made
        return Project.new(folder, description, flags)
    project = Project(folder, flags)
    task = project.find_task()
    if task is not None and description.strip() and task.description != valid(description).strip():
        project.close()
        raise UsageError(
            f'{folder} is the project of another task: "{task.description[:80]}"',
            "Name another folder with -p DIR; `understudy describe` changes a project's task",
        )
    with project.writing():
        project.keep(*KEPT)
    return project


def open_to_adopt(folder: Path, flags: Mapping[str, Any]) -> Project:
    """The project in ``folder``, made if it is not there; flags are kept in its settings file.

    The teacher among them, the model that is to be replaced, is asked nothing now, so its key may
    be missing. Raises UsageError if its name or price is not known.
    """
    settings = load(folder, flags).settings
    if settings.teacher:
        with suppress(ProviderRefused):
            models.endpoint(settings.teacher, settings)
    if not (folder / DATABASE).exists():
        return Project.new(folder, "", flags)
    project = Project(folder, flags)
    with project.writing():
        project.keep("teacher", "price_in", "price_out", *KEPT)
    return project


def open_demo(task: str, folder: Path, flags: Mapping[str, Any]) -> Project:
    """The practice project for ``task``: an ordinary project whose teacher is a program."""
    description = practice.load(task).DESCRIPTION
    return open_or_new(folder, description, {**flags, "teacher": f"practice:{task}"})
