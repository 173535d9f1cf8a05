"""Export a trained student: a folder that plain transformers opens, with a card and a proof.

    manifest = export(run_folder / "model", target, card=CardFacts(...), parity_items=requests)

The folder holds safetensors weights, tokenizer, chat template, generation config, README.md (the
model card), parity.json and manifest.json (size and SHA-256 of every file). It appears whole or
not at all, and only after the parity check.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.errors import DiskError, UsageError
from understudy.export.card import CardFacts
from understudy.export.card import card as card_text
from understudy.export.parity import MOST_TOKENS, check
from understudy.models.huggingface import check_folder, count_parameters, load_tokenizer
from understudy.models.protocol import Request
from understudy.models.rendering import folds_system

__all__ = ["CardFacts", "Manifest", "export"]

MANIFEST = "manifest.json"
MADE_BY = "understudy"
SUFFIXES = frozenset({".safetensors", ".json", ".jinja", ".model", ".txt"})
"""Kinds of file that belong to a model. Nothing that could hold code or a pickle is among them."""
_MARGIN = 10_000_000
"""Bytes kept free beyond the model's size."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What was written; the same is saved as manifest.json."""

    folder: Path
    files: int
    bytes: int
    parity: int
    """Held-out prompts that were answered to the letter as before."""
    sha256: dict[str, str]
    """Of each file, by its name in the folder."""


def export(
    model_folder: Path, target: Path, *, card: CardFacts, parity_items: Sequence[Request]
) -> Manifest:
    """Copy the trained student to ``target``, check that it answers as before, and describe it.

    An earlier export at ``target`` is replaced. Raises UsageError if anything else is there,
    DiskError if there is no room, UnderstudyError if an answer differs.
    """
    check_folder(model_folder)
    _check_target(target)
    files = [path for path in _files(model_folder) if path.suffix in SUFFIXES]
    with _disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _check_room(target.parent, files)
        with _appearing(target) as fresh:
            for path in files:
                copy = fresh / path.relative_to(model_folder)
                copy.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, copy)
            records = check(model_folder, fresh, parity_items)
            _write(fresh / "parity.json", {"prompts": len(records), "replayed": records})
            text = card_text(
                card,
                architecture=_architecture(model_folder),
                parameters=count_parameters(model_folder),
                max_tokens=MOST_TOKENS,
                folds=folds_system(load_tokenizer(model_folder)),
            )
            (fresh / "README.md").write_text(text, encoding="utf-8")
            return _seal(fresh, target, parity=len(records))


def _files(folder: Path) -> list[Path]:
    """Every file in ``folder`` and in its subfolders (more chat templates), in order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _check_target(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise UsageError(f"{target} is not a folder", "Name a new folder")
    if target.exists() and any(target.iterdir()) and not _is_ours(target):
        raise UsageError(f"{target} holds something else", "Name a new or an empty folder")


def _is_ours(folder: Path) -> bool:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return bool(manifest["made_by"] == MADE_BY)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _check_room(parent: Path, files: Sequence[Path]) -> None:
    needed = sum(path.stat().st_size for path in files) + _MARGIN
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise DiskError(
            f"{parent} has {free / 1e6:,.0f} MB free, the model needs {needed / 1e6:,.0f} MB",
            "Make room, or name a folder on another disk",
        )


@contextmanager
def _disk_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskError(
            f"{target} cannot be written: {error.strerror or error}",
            "Make room or choose another folder; nothing was replaced",
        ) from None


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """A fresh folder that takes the place of ``target`` in the end, or vanishes on an error."""
    fresh = target.with_name(f".{target.name}.new")
    old = target.with_name(f".{target.name}.old")
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir()
    try:
        yield fresh
        if target.exists():
            target.rename(old)
        fresh.rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _seal(fresh: Path, target: Path, *, parity: int) -> Manifest:
    """Flush every file and write the manifest, last."""
    listed: dict[str, dict[str, Any]] = {}
    for path in _files(fresh):
        with path.open("rb+") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        listed[path.relative_to(fresh).as_posix()] = {
            "bytes": path.stat().st_size,
            "sha256": digest,
        }
    _write(fresh / MANIFEST, {"made_by": MADE_BY, "files": listed})
    return Manifest(
        folder=target,
        files=len(listed) + 1,
        bytes=sum(path.stat().st_size for path in _files(fresh)),
        parity=parity,
        sha256={name: facts["sha256"] for name, facts in listed.items()},
    )


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _architecture(folder: Path) -> str:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return ", ".join(config.get("architectures") or ["causal language model"])
