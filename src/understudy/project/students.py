"""The verbs that make and use the student: train, evaluate, predict, export."""

from __future__ import annotations

import json
import time
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from understudy import dataset, models
from understudy import evaluate as evaluation
from understudy import export as exporting
from understudy import train as training
from understudy.errors import UnderstudyError, UsageError
from understudy.example import Example, Message
from understudy.models.protocol import Model
from understudy.models.question import question
from understudy.project.examples import write_dataset
from understudy.project.paid import Interrupted, with_teacher
from understudy.project.paid import run as run_async
from understudy.project.results import Exported
from understudy.project.workplace import Workplace
from understudy.report import Outcome, Report, SystemScore
from understudy.run import Event, Method, Recipe, Run
from understudy.store import events, runs
from understudy.store.runs import Frozen


def newest_dataset(place: Workplace) -> Frozen:
    """The newest dataset. Raises UsageError if nothing was frozen yet."""
    with place.database.read() as connection:
        frozen = runs.dataset(connection)
    if frozen is None:
        raise UsageError("no dataset is frozen yet", "understudy freeze")
    return frozen


def all_runs(place: Workplace) -> list[Run]:
    """Every run, oldest first."""
    with place.database.read() as connection:
        return runs.runs(connection, place.folder / "runs")
