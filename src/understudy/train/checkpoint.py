"""Checkpoints that are whole or do not count.

A checkpoint counts once its folder holds DONE.json, written last: the size and SHA-256 of every
file in it, and a hash of what the training was given. A kill or a full disk in the middle of a
save leaves a folder without it; a flipped bit is found before anything is loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

MARK = "DONE.json"
ASIDE = "aside"
"""In the run's folder: whole checkpoints of other inputs, until the run has one of its own."""
_OTHER = "belongs to another training"
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """The newest whole checkpoint, if there is one, and what was put aside to get to it."""

    folder: Path | None
    step: int
    removed: tuple[str, ...]
    """A sentence for each checkpoint that could not be used."""


def seal(folder: Path, *, inputs: str) -> None:
    """Declare ``folder`` whole: flush every file, then write its mark by rename."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
            name = path.relative_to(folder).as_posix()
            files[name] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    write_atomically(folder / MARK, json.dumps({"inputs": inputs, "files": files}))


def newest(run_folder: Path, *, inputs: str) -> Found:
    """Find the newest whole checkpoint made from ``inputs``.

    Those that are not whole are deleted. Whole ones of another training are put aside, to be found
    by it again, and deleted once this one has a checkpoint of its own.
    """
    removed: list[str] = []
    for folder in reversed(_all(run_folder)):
        reason = fault(folder, inputs=inputs)
        if reason is None:
            return Found(folder, _step(folder), tuple(removed))
        removed.append(f"{folder.name} {reason}")
        if reason == _OTHER:
            _put_aside(folder)
        else:
            shutil.rmtree(folder)
    _bring_back(run_folder, inputs=inputs)
    found = _all(run_folder)
    return Found(found[-1] if found else None, _step(found[-1]) if found else 0, tuple(removed))


def _put_aside(folder: Path) -> None:
    aside = folder.parent / ASIDE / folder.name
    aside.parent.mkdir(exist_ok=True)
    if aside.exists():
        shutil.rmtree(aside)
    folder.rename(aside)


def _bring_back(run_folder: Path, *, inputs: str) -> None:
    """Move whole checkpoints of these inputs that were put aside to their place again."""
    for folder in _all(run_folder / ASIDE):
        place = run_folder / folder.name
        if not place.exists() and fault(folder, inputs=inputs) is None:
            folder.rename(place)


def fault(folder: Path, *, inputs: str) -> str | None:
    """Say why a checkpoint cannot be used, or None if it can."""
    try:
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
        files, made_from = mark["files"], mark["inputs"]
        present = {
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
        }
        if present - {MARK} != files.keys():
            return "is not whole"
        for name, expected in files.items():
            path = folder / name
            if path.stat().st_size != expected["bytes"] or sha256(path) != expected["sha256"]:
                return f"is damaged ({name})"
    except FileNotFoundError:
        return "is not whole"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"is damaged ({MARK})"
    return None if made_from == inputs else _OTHER


def rotate(run_folder: Path, *, keep: int = 2, best: int | None = None) -> None:
    """Delete all but the newest ``keep`` checkpoints and the one of step ``best``.

    Called only when the newest is sealed; those of another training are then of no use.
    """
    shutil.rmtree(run_folder / ASIDE, ignore_errors=True)
    for folder in _all(run_folder)[: -keep or None]:
        if _step(folder) == best:
            continue
        (folder / MARK).unlink(missing_ok=True)  # from here on it no longer counts
        shutil.rmtree(folder)


def _all(run_folder: Path) -> list[Path]:
    """Every checkpoint folder, the oldest first."""
    return sorted((path for path in run_folder.glob("checkpoint-*") if path.is_dir()), key=_step)


def _step(folder: Path) -> int:
    digits = folder.name.removeprefix("checkpoint-")
    return int(digits) if digits.isdecimal() else -1


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that it has its old or its new content, never half of one."""
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
