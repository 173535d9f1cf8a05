"""What a training would be: rows, student, recipe, and whether this machine can do it.

Nothing is downloaded but a hub student's config and tokenizer, and nothing is started.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy import models
from understudy.errors import UsageError
from understudy.models import hub
from understudy.models.huggingface import check_folder, check_template
from understudy.models.students import STUDENTS
from understudy.project.examples import write_dataset
from understudy.project.shelf import checked_splits, local_runs, newest_dataset, spec_of
from understudy.project.workplace import Workplace
from understudy.run import Method, Recipe
from understudy.store.runs import Frozen
from understudy.task import Spec
from understudy.train.recipe import SPARE_TOKENS, TINY, choose
from understudy.train.rows import stream_rows
from understudy.train.sizing.largest import advice, choose_fitting
from understudy.train.sizing.lengths import Lengths, of_split
from understudy.train.sizing.machine import Machine, look
from understudy.train.sizing.need import Need, estimate
from understudy.train.sizing.shape import Shape


@dataclass(frozen=True, slots=True)
class Prepared:
    """A training that could begin."""

    frozen: Frozen
    dataset_folder: Path
    spec: Spec | None
    """None where rows of a file share no system message: their answers are graded as text."""
    student: str
    """As runs record it."""
    recipe: Recipe
    machine: Machine
    need: Need | None = None
    """Memory, disk and time; None for ``tiny``, which fits everywhere."""
    lacking: tuple[str, ...] = ()
    """What this machine has too little of; empty: it fits."""
    advice: str = ""
    """What to do if it does not fit."""
    counted: str = ""
    """How the tokens of the rows were counted."""


def prepare(place: Workplace, *, method: Method | None, overrides: Mapping[str, Any]) -> Prepared:
    """Write the newest dataset's files and choose the recipe; see whether it fits.

    Raises UsageError without a dataset, for a wrong override or prompts that are too long,
    SetupError for a student that cannot be trained.
    """
    frozen = newest_dataset(place)
    splits, spec = checked_splits(place, frozen), spec_of(place, frozen)
    folder = dataset_folder(place, frozen)
    write_dataset(folder, splits, spec.system_message, frozen.fingerprint)
    student, seed = place.settings.student, place.settings.seed
    return prepare_for(place, frozen, spec, student, seed=seed, method=method, overrides=overrides)


def dataset_folder(place: Workplace, frozen: Frozen) -> Path:
    """Where the rows of a dataset lie."""
    return place.folder / "datasets" / str(frozen.id)


def prepare_for(
    place: Workplace,
    frozen: Frozen,
    spec: Spec | None,
    student: str,
    *,
    seed: int,
    method: Method | None = None,
    overrides: Mapping[str, Any],
    folder: Path | None = None,
) -> Prepared:
    """Choose the recipe of a student for a dataset whose files are written; see whether it fits.

    ``folder`` holds the rows where they are not those of the whole dataset. Raises UsageError for a
    wrong override or prompts that are too long, SetupError for a student that cannot be trained.
    """
    folder = folder or dataset_folder(place, frozen)
    student = _student(place, student)
    machine = look(place.folder)
    if student == TINY:
        sizes = [row.bytes for row in stream_rows(folder / "train.jsonl")]
        recipe = choose(TINY, sizes, method=method, seed=seed, overrides=overrides)
        return Prepared(frozen, folder, spec, student, recipe, machine)
    base, local = _described(place, student)
    rows = of_split(base, folder / "train.jsonl")
    recipe = choose(
        str(base),
        rows.tokens,
        answers=rows.answers,
        validation_rows=frozen.counts.get("validation", 0),
        method=method,
        machine=machine,
        local=local,
        seed=seed,
        overrides=overrides,
    )
    _check_prompts(rows, recipe.max_tokens)
    shape = Shape.of(base)
    fitting = choose_fitting(
        shape,
        recipe,
        rows.tokens,
        machine,
        answers=rows.answers,
        local=local,
        presets=[(f"hf:{preset.id}", int(preset.parameters * 1e9)) for preset in STUDENTS],
        fixed=Recipe.model_fields,
    )
    speed = _speed_before(place, student, recipe.method)
    need = estimate(
        shape,
        recipe,
        rows.tokens,
        machine,
        answers=rows.answers,
        local=local,
        tokens_per_s=speed,
    )
    return Prepared(
        frozen, folder, spec, student, recipe, machine,
        need, fitting.lacking, advice(fitting), rows.how,
    )  # fmt: skip


def _check_prompts(rows: Lengths, max_tokens: int) -> None:
    """Raise UsageError if no row has a prompt that leaves room for an answer."""
    both = zip(rows.tokens, rows.answers, strict=True)
    shortest = min(tokens - answer for tokens, answer in both)
    if rows.exact and shortest >= max_tokens + SPARE_TOKENS:
        raise UsageError(
            f"There is nothing to learn: of {len(rows.tokens):,} training rows none has an answer "
            f"within {max_tokens:,} tokens (the shortest prompt has {shortest:,})",
            "Shorten the prompts, choose a student with a longer context, or allow more max_tokens",
        )


def _student(place: Workplace, name: str) -> str:
    """A student's name as runs record it: the same model has one name in every run.

    ``tiny``, the absolute folder of a model, or ``hf:org/name@commit``: a model of the hub is
    pinned at its first run in a project, by its config alone, and stays so until a revision is
    named. Raises SetupError with the reason if the hub does not give it.
    """
    offline = place.settings.offline
    if name == TINY:
        return name
    if not models.is_hub_id(name):
        return str(models.local_folder(name).absolute())
    before = [run.student for run in local_runs(place) if run.student.startswith(f"{name}@")]
    return before[-1] if before else models.pinned(name, offline=offline)


def _described(place: Workplace, student: str) -> tuple[Path, bool]:
    """A folder with the student's config and tokenizer, and whether its weights are there too."""
    if not models.is_hub_id(student):
        check_folder(Path(student))
        check_template(Path(student), student)
        return Path(student), True
    whole = hub.cached(student)
    if whole is not None:
        return whole, True
    return hub.look(student, offline=place.settings.offline).folder, False


def _speed_before(place: Workplace, student: str, method: Method) -> float | None:
    """Tokens a second of the last training of this student in this way, here."""
    speeds: Sequence[float | None] = [
        run.metrics.get("tokens_per_s")
        for run in local_runs(place)
        if (run.student, run.recipe.method) == (student, method)
    ]
    return next((speed for speed in reversed(speeds) if speed), None)
