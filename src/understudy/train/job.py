"""What a trainer process is given, where it puts what it makes, in which order it reads rows."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.errors import ProjectError
from understudy.models import is_hub_id
from understudy.run import Recipe
from understudy.task import Spec
from understudy.train.checkpoint import sha256
from understudy.train.recipe import TINY

RUN_FILE = "run.json"
RESULT_FILE = "training.json"
LOG_FILE = "trainer.log"
LOCK_FILE = "lock"
FORMAT = 1
NOT_DECIDING = frozenset({"why", "save_steps", "micro_batch_tokens", "gradient_checkpointing"})
"""Settings that decide how a result is computed, not what it is: a checkpoint outlives them."""
_WINDOW = 8
"""Batches that are sorted by length together: more saves padding, fewer mixes lengths better."""


@dataclass(frozen=True, slots=True)
class Job:
    """One training: its folders, student and recipe."""

    run_folder: Path
    dataset_folder: Path
    student: str
    recipe: Recipe
    spec: Spec | None = None
    """What a validation answer is graded by; None: as plain text."""
    saves: bool = True
    """False for a trial: it is measured, its weights are not kept."""
    base: Path | None = None
    """Where the student of the hub lies; None for ``tiny`` and for a student that is a folder."""

    @property
    def model_folder(self) -> Path:
        """Where the trained student goes."""
        return self.run_folder / "model"

    @property
    def adapter_folder(self) -> Path:
        """Where the adapter goes that was merged into the trained student (LoRA)."""
        return self.run_folder / "adapter"

    @property
    def base_folder(self) -> Path:
        """The untrained student: for ``tiny`` inside the run's folder, else as given."""
        if self.student == TINY:
            return self.run_folder / "base"
        return self.base or Path(self.student)

    def inputs(self) -> str:
        """Hash of all that decides the result: a checkpoint of other inputs is not resumed."""
        canon = [
            FORMAT,
            self.student,
            self.recipe.model_dump(exclude=set(NOT_DECIDING)),
            sha256(self.dataset_folder / "train.jsonl"),
        ]
        if self.student != TINY and not is_hub_id(self.student):  # the hub's name a commit
            canon.append(_files(self.base_folder))
        validation = self.dataset_folder / "validation.jsonl"
        watched = self.recipe.patience or not self.saves  # then validation decides something
        if watched and validation.is_file():
            canon += [self.spec and self.spec.model_dump(), sha256(validation)]
        return hashlib.sha256(json.dumps(canon, sort_keys=True).encode()).hexdigest()


def _files(folder: Path) -> list[tuple[str, int, int]]:
    """What a local student consists of: names, bytes and times of change (ns) of its files.

    Its weights are too large to be hashed at each start.
    """
    kinds = (".safetensors", ".json", ".jinja")
    paths = sorted(path for path in folder.glob("*") if path.suffix in kinds and path.is_file())
    return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]


def read_job(run_folder: Path, dataset_folder: Path) -> Job:
    """Read what ``start`` wrote. Raises ProjectError if it cannot be understood."""
    path = run_folder / RUN_FILE
    try:
        given: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        student, recipe = given["student"], Recipe(**given["recipe"])
        spec = Spec(**given["spec"]) if given.get("spec") else None
        saves = bool(given.get("saves", True))
        base = Path(given["base"]) if given.get("base") else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ProjectError(
            f"{path} is not the description of a run ({error})", "Start the training again"
        ) from None
    return Job(run_folder, dataset_folder, student, recipe, spec, saves, base)


def reading_order(lengths: Sequence[int], recipe: Recipe, *, variants: int = 1) -> list[int]:
    """Indices into ``lengths`` in the order of training, over all passes: whole batches.

    Each pass is a new shuffle; within a window of batches, rows of like length share a batch, so
    that little is spent on padding. With ``variants``, ``lengths`` holds all rows so many times
    over, and each pass reads the next variant. The order depends on the seed alone, so that a
    resumed training reads the same rows as one that was never interrupted.
    """
    rng = random.Random(recipe.seed)
    rows = len(lengths) // variants
    batches = max(1, round(rows * recipe.epochs / recipe.batch_size))
    drawn: list[int] = []
    for number in range(-(-batches * recipe.batch_size // rows)):
        first = number % variants * rows
        one_pass = list(range(first, first + rows))
        rng.shuffle(one_pass)
        drawn += one_pass
    del drawn[batches * recipe.batch_size :]
    ordered: list[int] = []
    window = _WINDOW * recipe.batch_size
    for start in range(0, len(drawn), window):
        alike = sorted(drawn[start : start + window], key=lambda row: lengths[row])
        chunks = [
            alike[first : first + recipe.batch_size]
            for first in range(0, len(alike), recipe.batch_size)
        ]
        rng.shuffle(chunks)
        ordered += [row for chunk in chunks for row in chunk]
    return ordered
