"""A project on disk: one folder with its settings, its store, and what was made from them.

understudy.toml   settings, for people to edit
understudy.db     the store (SQLite)
datasets/N/       a frozen dataset: train, validation and test as JSONL, and a manifest
runs/N/           a training: recipe, events, checkpoints, model
reports/          reports as JSON
export/           the model to hand over
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from understudy.errors import DiskError, ProjectError, UsageError
from understudy.money import to_micro
from understudy.settings import CONFIG_FILE, Settings, load
from understudy.store.calls import set_budget
from understudy.store.database import Database
from understudy.store.schema import VERSION

DATABASE = "understudy.db"
LOCK = "understudy.lock"


def create(folder: Path, settings: Mapping[str, Any]) -> Database:
    """Make a project folder. Raises UsageError if one is there, DiskError if it cannot be made."""
    if (folder / DATABASE).exists():
        raise UsageError(
            f"{folder} is a project already",
            "Open it (-p DIR, or Project(DIR) in Python), or name another folder",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        config = folder / CONFIG_FILE
        if not config.exists():
            write_private(config, _toml(settings))
    except FileExistsError:
        raise UsageError(f"{folder} is a file", "Name a folder") from None
    except OSError as error:
        raise DiskError(
            f"cannot make {folder}: {error.strerror}", "Choose a folder that you may write to"
        ) from None
    # The database is made under another name: a half-made project is none.
    half = folder / f"{DATABASE}.new"
    for path in (half, Path(f"{half}-wal"), Path(f"{half}-shm")):
        path.unlink(missing_ok=True)
    made = Database(half)
    made.migrate()
    with made.write() as connection:
        connection.exec_driver_sql("SELECT 1")
    made.close()  # the last connection to close folds the WAL into the file
    half.chmod(0o600)
    half.rename(folder / DATABASE)
    return Database(folder / DATABASE)


def open_existing(folder: Path) -> Database:
    """Open a project. Raises ProjectError if it is none, or from a newer version."""
    path = folder / DATABASE
    if not path.is_file():
        what = "is not a project" if folder.is_dir() else "does not exist"
        raise ProjectError(
            f"{folder} {what}", f"Make one: understudy new {folder}, or name yours with -p DIR"
        )
    if not os.access(folder, os.W_OK) or not os.access(path, os.W_OK):
        raise DiskError(f"{folder} cannot be written", "Check its permissions")
    database = Database(path)
    if database.version() != VERSION:
        database.migrate()
    return database


def write_settings(folder: Path, values: Mapping[str, Any]) -> None:
    """Put values into understudy.toml, keeping every other line as it is."""
    path = folder / CONFIG_FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    if not values:
        return
    # What follows the first [table] belongs to it: settings stand before.
    first = next((at for at, line in enumerate(lines) if line.lstrip().startswith("[")), len(lines))
    head, tables = lines[:first], lines[first:]
    for name, value in values.items():
        head = [line for line in head if line.split("=")[0].strip() != name]
        if isinstance(value, Mapping):
            tables = _without(tables, name)
        if value is not None:
            head.append(f"{name} = {_toml_value(value)}")
    write_private(path, "\n".join(head + tables) + "\n")


def _without(lines: list[str], table: str) -> list[str]:
    """The lines of every other table."""
    kept, inside = [], False
    for line in lines:
        if line.lstrip().startswith("["):
            inside = line.split("#")[0].strip().strip("[] ") == table
        if not inside:
            kept.append(line)
    return kept


def _toml_value(value: Any) -> str:
    """A JSON string, number or boolean is written the same in TOML; a table is not."""
    if isinstance(value, Mapping):
        pairs = (f"{_toml_value(name)} = {_toml_value(one)}" for name, one in value.items())
        return f"{{ {', '.join(pairs)} }}"
    return json.dumps(value, ensure_ascii=False)


def write_private(path: Path, text: str) -> None:
    """Write all of a file or nothing, for its owner alone; a link planted there is not followed."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)


def _toml(settings: Mapping[str, Any]) -> str:
    head = "# Settings of this project; `understudy config` lists them all, with their units.\n"
    return head + "".join(
        f"{name} = {_toml_value(value)}\n" for name, value in settings.items() if value is not None
    )


def change_setting(folder: Path, name: str, value: str) -> None:
    """Set one setting in understudy.toml; a budget takes force at once, also for a running verb.

    Raises UsageError for an unknown name or a bad value, which is then not written.
    """
    if name not in Settings.model_fields:
        raise UsageError(f"no setting {name!r}", "`understudy config` lists them")
    checked = getattr(load(None, {name: value}, {}).settings, name)
    database = open_existing(folder)
    write_settings(folder, {name: checked})
    if name == "budget":
        with database.write() as connection:
            set_budget(connection, to_micro(checked))
    database.close()
