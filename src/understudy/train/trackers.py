"""Where a training's curves can be sent as they grow: TensorBoard, trackio, Weights & Biases.

transformers does the sending. By default nothing is sent anywhere; a tracker that was asked for
gets just what it needs: TensorBoard and trackio write files on this machine, Weights & Biases gets
its own variables, its key among them.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from understudy.errors import SetupError, UsageError
from understudy.train.job import RUN_FILE

TRACKERS = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "trackio": ("trackio",),
    "wandb": ("wandb",),
}
"""Each tracker's packages; one of them has to be there."""
PROJECT = "understudy"


def check(report_to: Sequence[str]) -> tuple[str, ...]:
    """Return the trackers asked for, each once.

    Raises UsageError for an unknown name and SetupError if a package is missing.
    """
    for name in report_to:
        if name not in TRACKERS:
            raise UsageError(
                f"Nothing is known of a tracker called {name!r}",
                f"Use one of {', '.join(TRACKERS)}",
            )
        if not any(map(importlib.util.find_spec, TRACKERS[name])):
            raise SetupError(
                f"Reporting to {name} needs a package that is not installed",
                f"Install it with: pip install {TRACKERS[name][0]}",
            )
    return tuple(dict.fromkeys(report_to))


def environment(report_to: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Variables that the trackers need beside a trainer's clean environment."""
    if "wandb" not in report_to:
        return {"WANDB_DISABLED": "true"}
    own = {name: value for name, value in environ.items() if name.startswith("WANDB_")}
    return {"WANDB_PROJECT": PROJECT, **own}


def asked_for(run_folder: Path) -> list[str]:
    """The trackers that ``start`` wrote down for a run; none if that cannot be read."""
    try:
        given = json.loads((run_folder / RUN_FILE).read_text(encoding="utf-8"))
        return [str(name) for name in given.get("report_to", [])]
    except (OSError, ValueError, AttributeError):
        return []  # read_job says what is wrong


def arguments(run_folder: Path) -> dict[str, Any]:
    """Arguments of transformers' trainer."""
    return {
        "report_to": asked_for(run_folder) or "none",
        "run_name": f"{PROJECT}-{run_folder.name}",
        "project": PROJECT,
        "trackio_static_space_id": False,  # nothing is published
    }
