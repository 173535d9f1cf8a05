"""Reading a project without changing it: status, ledger, doctor."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import sqlite3
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from understudy import models
from understudy.errors import UnderstudyError
from understudy.models.openai_compatible import OpenAICompatible
from understudy.models.protocol import Endpoint
from understudy.money import MICRO
from understudy.project.paid import run
from understudy.project.workplace import Workplace
from understudy.settings import Settings
from understudy.store import calls, examples, runs

EXTRAS = {
    "train": ("torch", "transformers", "trl", "peft", "datasets", "accelerate"),
    "practice": ("babel",),
    "parquet": ("pyarrow",),
}


def status(place: Workplace) -> dict[str, Any]:
    """Counts of examples by state and reason, datasets, runs, reports; and the next step."""
    task = place.find_task()
    with place.database.read() as connection:
        states, reasons = examples.counts(connection)
        found = [
            {"dataset": frozen.id, "task_version": frozen.task_version, **frozen.counts}
            for frozen in runs.datasets(connection)
        ]
        trained = [
            {
                "run": one.id,
                "dataset": one.dataset_id,
                "student": one.student,
                "state": one.state,
                "model": one.model,
            }
            for one in runs.runs(connection, place.folder / "runs")
        ]
        report = runs.report(connection)
    body = {
        "project": str(place.folder),
        "description": task.description if task else None,
        "task_version": task.version if task else None,
        "spec": task.spec.title if task and task.spec else None,
        "examples": states,
        "reasons": reasons,
        "datasets": found,
        "runs": trained,
        "verdict": report.verdict if report else None,
    }
    here = "" if place.folder == Path() else f" -p {place.folder}"
    return body | {"next": f"{_next(body)}{here}"}


def _next(body: dict[str, Any]) -> str:
    """What to type next."""
    if body["description"] is None:
        return 'understudy describe "A model that ..."'
    if not body["examples"].get("accepted"):
        return "understudy import FILE, or understudy generate N"
    if not body["datasets"]:
        return "understudy freeze"
    if not any(run["state"] == "succeeded" for run in body["runs"]):
        return "understudy train"
    if body["verdict"] is None:
        return "understudy evaluate"
    return 'understudy export, or understudy predict "INPUT"'


def ledger(place: Workplace) -> dict[str, Any]:
    """Calls and money: in all, and by purpose, model and state."""
    with place.database.read() as connection:
        rows, purse = calls.totals(connection), calls.read_purse(connection)

    def number(*states: str) -> int:
        return sum(row["calls"] for row in rows if not states or row["state"] in states)

    return {
        "calls": number(),
        "received": number("received", "settled"),
        "unpaid": number("failed_unpaid"),
        "unknown": number("unknown"),
        "in_flight": number("sent"),
        "spent_usd": purse.spent_micro / MICRO,
        "held_usd": purse.held_micro / MICRO,
        "budget_usd": None if purse.budget_micro is None else purse.budget_micro / MICRO,
        "lines": [
            {
                "purpose": row["purpose"],
                "model": row["model"],
                "state": row["state"],
                "calls": row["calls"],
                "usd": (row["cost_micro"] or 0) / MICRO,
                "input_tokens": row["input_tokens"] or 0,
                "output_tokens": row["output_tokens"] or 0,
                "estimated": row["estimated"],
            }
            for row in rows
        ],
    }


@dataclass(frozen=True, slots=True)
class Check:
    """One thing the doctor looked at. ``ok`` is None where it is only told."""

    name: str
    ok: bool | None
    found: str
    fix: str = ""


def doctor(settings: Settings, place: Workplace | None) -> list[Check]:
    """Look at the machine, the extras, the project and the teacher. Spends nothing."""
    checks = [
        Check("understudy", True, f"{version('understudy')} on Python {platform.python_version()}"),
        Check("sqlite", True, sqlite3.sqlite_version),
    ]
    for extra, packages in EXTRAS.items():
        missing = [name for name in packages if importlib.util.find_spec(name) is None]
        fix = f'pip install "understudy[{extra}]"' if missing else ""
        found = f"missing {', '.join(missing)}" if missing else "installed"
        checks.append(Check(f"extra {extra}", None if missing else True, found, fix))
    if place is not None:
        checks += _project_checks(place)
    return [*checks, _teacher_check(settings)]


def _project_checks(place: Workplace) -> list[Check]:
    free = shutil.disk_usage(place.folder).free
    with place.database.read() as connection:
        told = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
        sound = "; ".join(map(str, told[:3]))
        orphans = len(connection.exec_driver_sql("PRAGMA foreign_key_check").all())
        adds_up = calls.adds_up(connection)
    return [
        Check("disk", free > 1e9, f"{free / 1e9:.1f} GB free", "Free some space"),
        Check(
            "store",
            sound == "ok" and not orphans,
            sound if not orphans else f"{orphans} rows point nowhere",
            "Restore the project from a copy",
        ),
        Check(
            "ledger", adds_up, "adds up" if adds_up else "the purse differs from the sum of calls"
        ),
    ]


def _teacher_check(settings: Settings) -> Check:
    try:
        name = settings.teacher
        if not name:
            from understudy.models.address import default_teacher

            name = default_teacher()
        endpoint, price = models.endpoint(name, settings)
        listed = run(lambda _: _models(endpoint), lambda _: None)
    except UnderstudyError as error:
        return Check("teacher", None if not settings.teacher else False, error.what, error.fix)
    where = getattr(endpoint, "address").base_url  # noqa: B009 (every endpoint here has one)
    cost = f"${price.usd_in}/${price.usd_out} per million tokens in/out, {price.source}"
    told = f"{name} at {where}; {cost}"
    model = name.partition("#")[2] or name.partition(":")[2] or name
    if listed and not {name, model} & set(listed):
        near = ", ".join(listed[:8])
        return Check("teacher", False, f"{told}; it has no {model}", f"It lists: {near}")
    return Check("teacher", True, told)


async def _models(endpoint: Endpoint) -> list[str]:
    try:
        return await endpoint.models() if isinstance(endpoint, OpenAICompatible) else []
    finally:
        await endpoint.close()
