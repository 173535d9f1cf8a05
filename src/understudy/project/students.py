"""The verbs that make and use the student: train, evaluate, predict, export."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy import dataset, models, train as training
from understudy import evaluate as evaluation
from understudy import export as exporting
from understudy.errors import UnderstudyError, UsageError
from understudy.example import Example, Message
from understudy.models.protocol import Model
from understudy.models.question import question
from understudy.project.examples import write_dataset
from understudy.project.paid import Interrupted, run as run_async, with_teacher
from understudy.project.results import Exported
from understudy.project.workplace import Workplace
from understudy.report import Outcome, Report, SystemScore
from understudy.run import Event, Method, Recipe, Run
from understudy.store import events, runs
from understudy.store.runs import Frozen

if TYPE_CHECKING:
    from understudy.models.local import Local
