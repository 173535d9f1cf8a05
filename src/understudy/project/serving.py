"""Which models a project serves, under which names.

run:7, run:latest    a trained student
ft:BASE:...          the name that a fine-tuning job gave to its student
a name of ``bases``  whatever student the settings map it to: ``gpt-3.5-turbo = "hf:org/name"``
tiny                 always there to be trained; there is nothing to talk to before
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from understudy.errors import UsageError
from understudy.project.shelf import all_runs, dataset_of, run_named, spec_of
from understudy.project.workplace import Workplace
from understudy.run import Run
from understudy.train.recipe import TINY


class Served(NamedTuple):
    """A name, and what stands behind it."""

    name: str
    """As it is asked for."""
    model: str
    """The model name that it means here: ``run:7``, ``hf:org/name@commit``, ``tiny``."""
    created: int
    """Seconds since 1970; 0 for a base."""
    system_message: str = ""
    """The task's, for requests that bring none."""
    folder: Path | None = None
    """Where a trained student lies; None for a base."""


class Serving:
    """The models of one project."""

    def __init__(self, place: Workplace) -> None:
        self.place = place

    def served(self) -> list[Served]:
        """Every name, the newest run first, then the bases."""
        trained = [run for run in reversed(all_runs(self.place)) if run.state == "succeeded"]
        names = [run.model for run in trained] + [name for run in trained if (name := given(run))]
        names += ["run:latest"] if trained else []
        names += [name for name in self.place.settings.bases if name not in names]
        names += [] if TINY in names else [TINY]
        return [served for name in names if (served := self.find(name)) is not None]

    def find(self, name: str) -> Served | None:
        """What a name stands for; None if nothing does."""
        base = self.place.settings.bases.get(name)
        if base is not None:
            found = self.find(base) if base.startswith("run:") else Served(name, base, 0)
            return found and found._replace(name=name)
        if name == TINY:
            return Served(name, TINY, 0)
        run = self._run(name)
        return None if run is None else self._student(name, run)

    def _run(self, name: str) -> Run | None:
        if name.startswith("run:"):
            try:
                return run_named(self.place, name)
            except UsageError:
                return None
        runs = (run for run in all_runs(self.place) if run.state == "succeeded")
        return next((run for run in runs if given(run) == name), None)

    def _student(self, name: str, run: Run) -> Served:
        folder = run.folder / "model"
        created = int(folder.stat().st_mtime) if folder.is_dir() else 0
        spec = spec_of(self.place, dataset_of(self.place, run))
        return Served(name, run.model, created, spec.system_message, folder)

    async def close(self) -> None:
        """Let go of every model."""


def given(run: Run) -> str:
    """The name that a fine-tuning job gave to its student; empty if no job made it."""
    return str(run.metrics.get("fine_tuned_model", ""))
