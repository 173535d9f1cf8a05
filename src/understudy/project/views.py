"""Reading a project without changing it: status, ledger, coverage."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from understudy.dataset import MIN_GROUPS
from understudy.errors import UsageError
from understudy.evaluate.reality import as_json
from understudy.generate.coverage import Coverage
from understudy.generate.coverage import coverage as covered
from understudy.money import MICRO
from understudy.project.checking import last as last_check
from understudy.project.folder import LOCK
from understudy.project.here import here
from understudy.project.hosting import OPEN
from understudy.project.standing import Standing, standing
from understudy.project.workplace import Workplace
from understudy.run import HostedRun
from understudy.store import account, calls, events, examples, jobs, runs, tasks, traces


def status(place: Workplace) -> dict[str, Any]:
    """Counts of examples, how far generating is, money, datasets, runs; and the next step."""
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
                "at_host": isinstance(one, HostedRun) and one.state in OPEN,
            }
            for one in runs.runs(connection, place.folder / "runs")
        ]
        asked = [
            {
                "job": job.id,
                "model": job.asked["model"],
                "student": job.student,
                "state": job.state,
                "run": job.run_id,
            }
            for job in reversed(jobs.page(connection))
        ]
        report = runs.report(connection)
        checked = last_check(connection, place.versions(connection))
        purse = calls.read_purse(connection)
        wish = standing(connection, place.versions(connection))
        tainted = runs.datasets_with(connection, examples.PURGED)
        frozen_at = events.last_of(connection, "freeze.done")
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
        "generating": None if wish is None else {"made": wish.made, "wanted": wish.wanted},
        "spent_usd": purse.spent_micro / MICRO,
        "budget_usd": None if purse.budget_micro is None else purse.budget_micro / MICRO,
        "in_use_by": _in_use_by(place.folder),
        "batches": waiting,
        "datasets": found,
        "runs": trained,
        "jobs": asked,
        "verdict": report.verdict if report else None,
        "check": as_json(checked) if checked else None,
    }
    open_wish = wish if wish is not None and wish.is_open else None
    if frozen_at is not None and open_wish is not None and frozen_at.seq > open_wish.seq:
        open_wish = None  # whoever froze it has enough
    # What clients of the server trained on their files is no step of the project's own way.
    own = [one for one in found if one["task_version"] > 0]
    usable = [one for one in own if one["dataset"] not in tainted]
    theirs = {one["dataset"] for one in own}
    runs_of_own = [one for one in trained if one["dataset"] in theirs]
    ways = _next(
        body | {"datasets": usable, "runs": runs_of_own}, open_wish, place.settings.examples
    )
    then = ", or ".join(f"{one}{here(place.folder)}" for one in ways)
    busy = body["in_use_by"]
    return body | {"next": f"wait for process {busy}; then {then}" if busy else then}


def check_enough(place: Workplace, wanted: int) -> None:
    """Raise UsageError if ``wanted`` generated examples are too few to be split into a dataset.

    Told before anything is paid; the user's own examples count too.
    """
    if wanted + len(place.own_examples()) < MIN_GROUPS:
        raise UsageError(
            f"{wanted} examples are too few to train and test with: at least {MIN_GROUPS} that say "
            "different things are needed",
            "Ask for more, for example --examples 200; nothing was spent",
        )


def _next(body: dict[str, Any], wish: Standing | None, examples: int) -> list[str]:
    """What to type next: one command, or some to choose from; the project is not named."""
    accepted, trained = body["examples"].get("accepted", 0), [run["state"] for run in body["runs"]]
    if body["description"] is None:
        return ['understudy describe "A model that ..."']
    if body["batches"]:
        return [f"{wish.command if wish else f'understudy generate {examples}'} --batch"]
    if wish is not None:
        return [wish.command]
    if not body["datasets"] and accepted < MIN_GROUPS:
        return ["understudy import FILE", f"understudy generate {examples}"]
    if not body["datasets"]:
        return ["understudy freeze"]
    if "succeeded" not in trained or any(run["at_host"] for run in body["runs"]):
        return ["understudy train"]
    if body["verdict"] is None:
        return ["understudy evaluate"]
    return ["understudy export", 'understudy predict "INPUT"']


def _in_use_by(folder: Path) -> int | None:
    """Id of the process that is writing to the project, or None.

    Its number stays in the file when it has gone, so that it is looked for; the lock is tried only
    if there is such a process, since whoever starts in that moment would be told it is busy.
    """
    try:
        with (folder / LOCK).open() as lock:
            pid = int(lock.read(20))
            with suppress(PermissionError):  # it is there, and another user's
                os.kill(pid, 0)
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return pid
    except (OSError, ValueError):
        return None
    return None


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
