"""What the tests of training at a host share: a project with a dataset, and a practice host."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from conftest import Server
from understudy.practice import load
from understudy.practice.faults import parse_fault
from understudy.practice.options import Options
from understudy.practice.server import in_background
from understudy.practice.tuning import TUNING_FAULTS
from understudy.project import Project, views
from understudy.store import account, calls

ROWS = 60
PRICE = 3.0
FLAGS = {"train_price": PRICE, "student_price_in": 0.0, "student_price_out": 0.0}
PRICED = ("--train-price", "3", "--student-price-in", "0", "--student-price-out", "0")


def frozen_project(folder: Path, rows: int = ROWS) -> Path:
    """A project with own examples of the practice task durations, frozen. Needs no teacher."""
    task, drawn = load("durations"), Random(5).sample(range(2, 1000), rows)
    seen = [f"{hours} hours and {hours % 59 + 1} minutes" for hours in drawn]
    file = folder.with_suffix(".jsonl")
    file.write_text(
        "".join(json.dumps({"prompt": one, "response": task.answer(one)}) + "\n" for one in seen)
    )
    project = Project.new(folder, "durations to ISO 8601", {})
    project.import_examples(file)
    project.freeze()
    project.close()
    return folder


@contextmanager
def practice_host(
    log: Path, *faults: str, seconds: float = 0.2, **options: Any
) -> Iterator[Server]:
    """A practice server that fine-tunes, with those faults, in a thread."""
    found = tuple(parse_fault(one, TUNING_FAULTS) for one in faults)
    with in_background(Options(log=log, tune_seconds=seconds, tune_faults=found, **options)) as url:
        yield Server(url, log)


def opened(folder: Path, host: Server, base: str = "novice", **flags: Any) -> Project:
    """The project, its student a model at that host."""
    return Project(folder, {"student": f"{host.url}#{base}", **FLAGS, **flags})


def lines(host: Server, phase: str) -> list[dict[str, Any]]:
    """What the host's own account has of files, jobs, or trainings."""
    if not host.log.exists():
        return []
    return [line for line in host.account() if line["phase"] == phase and line["kind"] == "tuning"]


def made(host: Server) -> tuple[int, int, int]:
    """Files, jobs and trainings that were ever made there."""
    return tuple(len(lines(host, phase)) for phase in ("file", "job", "trained"))  # type: ignore[return-value]


def billed_micro(host: Server) -> int:
    """What the host bills, at the tests' price."""
    return round(sum(line["input_tokens"] * PRICE for line in lines(host, "trained")))


def spent_and_held(place: Project) -> tuple[int, int]:
    """Micro-dollars; the books add up."""
    with place.database.read() as connection:
        assert account.adds_up(connection)
        purse = calls.read_purse(connection)
    return purse.spent_micro, purse.held_micro


def states(place: Project) -> list[str]:
    """Of the runs, oldest first."""
    return [run["state"] for run in views.status(place)["runs"]]


def names_are_unique(host: Server) -> bool:
    names = [line["name"] for line in lines(host, "file")]
    return len(set(names)) == len(names)
