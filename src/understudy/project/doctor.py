"""What works here and what does not: the machine, the extras, the project, the teacher.

A teacher that is named is really asked: two tiny calls, through the ledger, told with their cost.
"""

from __future__ import annotations

import importlib.util
import platform
import shutil
import sqlite3
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from understudy.errors import UnderstudyError
from understudy.project import hosting
from understudy.project.hosted_plan import is_hosted
from understudy.project.probe import Found, probe
from understudy.project.workplace import Workplace
from understudy.settings import Settings
from understudy.store import account
from understudy.store.database import Database

EXTRAS = {
    "train": ("torch", "transformers", "trl", "peft", "datasets", "accelerate"),
    "hosted": ("openai",),
    "practice": ("babel",),
    "parquet": ("pyarrow",),
}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing the doctor looked at. ``ok`` is None where it is only told."""

    name: str
    ok: bool | None
    found: str
    fix: str = ""


def doctor(settings: Settings, place: Workplace | None) -> list[Check]:
    """Look at the machine, the extras, the project and the teacher.

    Spends nothing unless ``settings`` name a teacher; then the cost is the last row.
    """
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
    return [*checks, *_teacher_checks(settings, place), *_student_checks(settings)]


def _student_checks(settings: Settings) -> list[Check]:
    """Ask the host of a student whether it fine-tunes. It costs nothing."""
    if not is_hosted(settings.student):
        return []
    try:
        found = hosting.look_alone(settings)
    except UnderstudyError as error:
        return [Check("student fine-tuning", False, error.what, error.fix)]
    return [Check(f"student {name}", ok, told, fix) for name, ok, told, fix in found]


def _project_checks(place: Workplace) -> list[Check]:
    free = shutil.disk_usage(place.folder).free
    with place.database.read() as connection:
        told = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
        sound = "; ".join(map(str, told[:3]))
        orphans = len(connection.exec_driver_sql("PRAGMA foreign_key_check").all())
        adds_up = account.adds_up(connection)
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


def _teacher_checks(settings: Settings, place: Workplace | None) -> list[Check]:
    if not settings.teacher:
        return [_default_teacher()]
    try:
        if place is not None:
            with place.writing():
                found = probe(settings, place.database, place.say)
        else:
            with tempfile.TemporaryDirectory(prefix="understudy-") as folder:
                found = _probe_alone(settings, Path(folder))
    except UnderstudyError as error:
        found = [Found("asked", False, error.what, error.fix)]
    return [Check(f"teacher {name}", ok, told, fix) for name, ok, told, fix in found]


def _probe_alone(settings: Settings, folder: Path) -> list[Found]:
    """Without a project: through a ledger of its own, gone afterwards."""
    database = Database(folder / "understudy.db")
    try:
        database.migrate()
        return probe(settings, database, lambda *_, **__: None)
    finally:
        database.close()


def _default_teacher() -> Check:
    from understudy.models.address import default_teacher

    try:
        name = default_teacher()
    except UnderstudyError as error:
        return Check("teacher", None, error.what, error.fix)
    fix = f"understudy doctor --teacher {name} asks it (two tiny calls, a fraction of a cent)"
    return Check("teacher", None, f"none is named; by the key found it would be {name}", fix)
