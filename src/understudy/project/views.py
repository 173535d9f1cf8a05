"""Reading a project without changing it: status, ledger, coverage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from understudy.generate.coverage import Coverage
from understudy.generate.coverage import coverage as covered
from understudy.money import MICRO
from understudy.project.workplace import Workplace
from understudy.store import account, calls, examples, runs, tasks, traces


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
        waiting = [
            {"batch": row.id, "state": row.state, "requests": row.requests, "at": row.at}
            for row in account.open_batches(connection)
        ]
    body = {
        "project": str(place.folder),
        "description": task.description if task else None,
        "task_version": task.version if task else None,
        "spec": task.spec.title if task and task.spec else None,
        "examples": states,
        "reasons": reasons,
        "batches": waiting,
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
    if body["batches"]:
        return "understudy generate N --batch"
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
        rows, purse = account.totals(connection), calls.read_purse(connection)

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


def coverage(place: Workplace, wanted: int | None = None) -> Coverage | None:
    """How the generated examples cover the newest plan; None if there is no plan yet.

    ``wanted`` is how many there should be; by default the most that were ever asked for.
    """
    with place.database.read() as connection:
        versions = place.versions(connection)
        plan = tasks.latest_plan(connection, versions)
        if plan is None:
            return None
        asked = [data["wanted"] for _, _, data in traces.events(connection, "generate.start")]
        most = wanted or max(asked, default=place.settings.examples)
        return covered(plan, examples.cells(connection, versions), most)
