"""The offline teacher: programs that know a task perfectly, behind a real server on loopback.

A practice task is the smallest whole example of what a task is. It says what it does
(``DESCRIPTION``), makes it exact (``spec``), plans what to cover (``plan``), writes inputs for one
cell of the plan (``inputs``), and solves any text (``answer``), not only text of its own making.
"""

from __future__ import annotations

from importlib import import_module
from typing import Protocol, cast

from understudy.errors import UsageError
from understudy.task import Cell, Plan, Spec

TASKS = {
    "dates": "understudy.practice.dates",
    "durations": "understudy.practice.durations",
    "support": "understudy.practice.support",
}
"""Name of each task to the module that knows it, imported on use."""


class PracticeTask(Protocol):
    """What every module in ``TASKS`` offers."""

    DESCRIPTION: str

    def spec(self) -> Spec:
        """The task made exact, with the system message that any model could follow."""
        ...

    def plan(self) -> Plan:
        """What the examples are to cover."""
        ...

    def inputs(self, cell: Cell, how_many: int, seed: int) -> list[str]:
        """Write inputs for a cell; the same arguments give the same texts."""
        ...

    def answer(self, text: str) -> str:
        """Solve any text; never fails, and always keeps to the spec."""
        ...


def load(name: str) -> PracticeTask:
    """Import the task called ``name``.

    Raises UsageError if there is none, SetupError if it needs a package that is missing.
    """
    if name not in TASKS:
        raise UsageError(f"no practice task {name!r}", f"Choose one of: {', '.join(TASKS)}")
    return cast("PracticeTask", import_module(TASKS[name]))
