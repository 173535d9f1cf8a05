"""understudy: describe a task in a sentence, get a small model that does it, with proof.

    from understudy import Project

    project = Project.new("dates", "Written dates to ISO 8601", {"teacher": "practice:dates"})
    project.generate(2000)
    project.freeze()
    project.train()
    print(project.evaluate().verdict)
    print(project.predict("the 3rd of March 2021"))

Importing this imports nothing heavy; each name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from understudy.errors import UnderstudyError
    from understudy.example import Example, Message
    from understudy.project import Project
    from understudy.report import Report
    from understudy.run import Recipe, Run
    from understudy.settings import Settings
    from understudy.task import Plan, Spec, Task

__version__ = "0.1.0"

__all__ = [
    "Example",
    "Message",
    "Plan",
    "Project",
    "Recipe",
    "Report",
    "Run",
    "Settings",
    "Spec",
    "Task",
    "UnderstudyError",
]

_HOMES = {
    "Example": "example",
    "Message": "example",
    "Plan": "task",
    "Project": "project",
    "Recipe": "run",
    "Report": "report",
    "Run": "run",
    "Settings": "settings",
    "Spec": "task",
    "Task": "task",
    "UnderstudyError": "errors",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
