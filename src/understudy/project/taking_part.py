"""Who takes part in an evaluation, by which model name, and how each is opened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from understudy import models
from understudy.errors import UsageError
from understudy.models.local import Local
from understudy.models.protocol import Endpoint, Model
from understudy.money import Price
from understudy.project import hosting
from understudy.project.shelf import run_named
from understudy.project.workplace import Workplace
from understudy.report import ROLES, System
from understudy.run import AnyRun, HostedRun, Run
from understudy.train.recipe import TINY

FEW = 5
"""Examples that a pretrained base is shown unless told otherwise."""


@dataclass(slots=True)
class Parts:
    """The systems of one evaluation."""

    names: dict[System, str] = field(default_factory=dict)
    """Each system's model name, in the order in which a report shows them."""
    folders: dict[System, Path] = field(default_factory=dict)
    """Of those that run here."""
    endpoints: dict[System, tuple[Endpoint, Price]] = field(default_factory=dict)
    """Of those that are asked over a wire, and so through the ledger."""
    hosted: dict[System, HostedRun] = field(default_factory=dict)
    """Of those that a host trained: they may have to be deployed first."""
    prompted: list[System] = field(default_factory=list)
    """Those that were not trained for the task, and are asked as the teacher is."""

    def sizes(self) -> dict[System, int]:
        """Bytes on disk of each model that runs here."""
        return {
            system: sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            for system, folder in self.folders.items()
        }

    @asynccontextmanager
    async def opened(
        self, place: Workplace, paid: Mapping[System, Model]
    ) -> AsyncIterator[dict[System, Model]]:
        """The models themselves; ``paid`` are those behind the ledger."""
        systems: dict[System, Model] = dict(paid)
        for system, run in self.hosted.items():
            systems[system] = hosting.Deployed(paid[system], place, run)
        async with AsyncExitStack() as stack:
            for system, folder in self.folders.items():
                if system != "few-shot":
                    model = Local(folder, name=self.names[system])
                    stack.push_async_callback(model.close)
                    systems[system] = model
            if "few-shot" in self.names:
                systems["few-shot"] = systems["base"]
            yield systems


def parts(
    place: Workplace, run: AnyRun | None, others: Sequence[str], few_shot: int | None
) -> tuple[Parts, int]:
    """Teacher, base, base with examples, student, and other models; and how many examples.

    The teacher takes part if one is named. ``few_shot``: None for 5, or for none where the base is
    an untrained model from scratch, which no prompt can tell anything. Raises UsageError if a model
    takes part already or has no known price.
    """
    found = Parts()
    if place.settings.teacher:
        found.names["teacher"] = place.teacher
        found.endpoints["teacher"] = models.endpoint(place.teacher, place.settings)
        found.prompted.append("teacher")
        place.tell_terms()
    shown = 0
    if run is not None:
        shown = (0 if run.student == TINY else FEW) if few_shot is None else few_shot
        _add_run(place, run, found, few_shot=shown > 0)
    for name in others:
        _add_other(place, name, found)
    return found, shown


def _add_run(place: Workplace, run: AnyRun, found: Parts, *, few_shot: bool) -> None:
    """The student, what it was before, and that with examples."""
    before = run.student if isinstance(run, HostedRun) else f"{run.student} before training"
    found.names["base"] = before
    if few_shot:
        found.names["few-shot"] = before
    if isinstance(run, HostedRun):
        found.names["student"] = run.remote
        found.endpoints["base"] = hosting.endpoint(place, before)
        found.endpoints["student"] = hosting.endpoint(place, run.remote)
        found.hosted["student"] = run
        return
    found.names["student"] = run.model
    found.folders["base"] = _base_folder(place, run)
    if few_shot:
        found.folders["few-shot"] = found.folders["base"]
    found.folders["student"] = run.folder / "model"


def _add_other(place: Workplace, name: str, found: Parts) -> None:
    """Any other model that was named."""
    if name in ROLES:
        raise UsageError(f"{name} is no model name", "`--model` takes hf:..., run:N, openai:...")
    run = run_named(place, name) if name.startswith("run:") else None
    name = name if run is None else run.model
    taken = next((role for role, model in found.names.items() if model == name), None)
    if taken is not None:
        raise UsageError(f"{name} takes part already, as {taken}", "Name it once")
    found.names[name] = name
    if isinstance(run, HostedRun):
        found.endpoints[name] = hosting.endpoint(place, run.remote)
        found.hosted[name] = run
    elif run is not None:
        found.folders[name] = run.folder / "model"
    elif models.is_local(name):
        offline = place.settings.offline
        found.folders[name] = models.local_folder(name, offline=offline, say=place.say)
    else:
        found.endpoints[name] = _endpoint(place, name)
        found.prompted.append(name)


def _endpoint(place: Workplace, name: str) -> tuple[Endpoint, Price]:
    """A remote model at its own price; the prices that were given are taken if none is known."""
    settings = place.settings
    try:
        return models.endpoint(
            name, settings.model_copy(update={"price_in": None, "price_out": None})
        )
    except UsageError:
        return models.endpoint(name, settings)


def _base_folder(place: Workplace, run: Run) -> Path:
    """The model that the student was before training; fetched again if the cache was emptied."""
    if run.student == TINY:
        return run.folder / "base"
    return models.local_folder(run.student, offline=place.settings.offline, say=place.say)
