"""The verbs that bring in, sort and split the data: import, clean, freeze, export."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from understudy import clean as cleaning
from understudy import dataset, formats
from understudy.errors import UsageError
from understudy.example import Example
from understudy.generate.spec import infer
from understudy.project.results import Cleaned, Exported, Imported
from understudy.project.workplace import Workplace
from understudy.store import examples, runs
from understudy.store.runs import Frozen
from understudy.task import Spec

BATCH = 1000
"""Rows stored in one transaction."""
PROGRESS_S = 0.25
"""Seconds at least between two events that say how far cleaning is."""


def import_file(
    place: Workplace, path: Path, format: str | None, columns: dict[str, str | None]
) -> Imported:
    """Read own examples, keeping the good lines and naming the bad; then clean the new ones."""
    task = place.task
    rows = added = 0
    bad: list[tuple[int, str]] = []
    waiting: list[Example] = []

    def store() -> int:
        with place.database.write() as connection:
            return examples.add(connection, waiting)

    place.say("import.start", file=path.name)
    for item in formats.read(path, format=format, **columns):
        if isinstance(item, formats.BadLine):
            bad.append((item.number, item.reason))
            continue
        rows += 1
        waiting.append(replace(item, task_version=task.version))
        if len(waiting) == BATCH:
            added += store()
            waiting.clear()
            place.say("import.progress", rows=rows, added=added, bad=len(bad))
    added += store()
    cleaned = clean(place)
    place.say("import.done", rows=rows, added=added, bad=len(bad), accepted=cleaned.accepted)
    return Imported(rows, added, cleaned.accepted, tuple(bad))


def clean(place: Workplace) -> Cleaned:
    """Decide about every new example, a batch at a time; what was decided is stored."""
    with place.database.read() as connection:
        versions = place.versions(connection)
        total = examples.waiting(connection, versions)
    if not total:
        return Cleaned(0, 0, {})
    kept = kept_so_far(place, versions)
    looked_at, told_at = 0, time.monotonic()
    reasons: Counter[str] = Counter()
    for batch in _new(place, versions):
        done = [decided for example in batch for decided in cleaning.decide(kept, example)]
        with place.database.write() as connection:
            examples.decide(connection, done)
        # An own example takes no place but of one that was accepted in an earlier go, so that
        # nothing is counted twice.
        looked_at += len(done)
        reasons.update(_head(example) for example in done if example.state == "rejected")
        if time.monotonic() - told_at >= PROGRESS_S:
            told_at = time.monotonic()
            place.say("clean.progress", looked_at=looked_at, total=total)
    accepted = looked_at - reasons.total()
    place.say("clean.done", looked_at=looked_at, accepted=accepted, reasons=dict(reasons))
    return Cleaned(looked_at, accepted, dict(reasons))


def kept_so_far(place: Workplace, versions: list[int]) -> cleaning.Kept:
    """The examples accepted so far, packed."""
    kept = cleaning.Kept(_spec_for(place, versions), place.settings.duplicate_similarity)
    with place.database.read() as connection:
        for example in examples.stream(connection, versions, state="accepted"):
            kept.add(example)
    return kept


def _new(place: Workplace, versions: list[int]) -> Iterator[list[Example]]:
    """Batches of the new ones in the order of their precedence."""
    for origin in cleaning.ORIGINS:
        after = 0
        while True:
            with place.database.read() as connection:
                batch = examples.new_after(connection, versions, origin, after, BATCH)
            if not batch:
                break
            yield batch
            after = batch[-1].id or 0


def _head(example: Example) -> str:
    return examples.reason_head(example.reason)


def _spec_for(place: Workplace, versions: list[int]) -> Spec:
    """The task's spec. Where no teacher and no person wrote one, it follows the own examples."""
    task = place.task
    if task.spec is not None and task.author != "examples":
        return task.spec
    with place.database.read() as connection:
        own = [
            example
            for state in ("accepted", "new")
            for example in examples.stream(connection, versions, state=state)
            if _is_own(example) and example.answer.strip()
        ]
    if task.spec is not None and not own:
        return task.spec
    spec = infer(task.description, own)
    if task.spec is not None:  # what it is run with was read off the rows, or is the description
        spec = spec.model_copy(update={"system_message": task.spec.system_message})
    if spec != task.spec:
        place.store_task(task.description, spec, "examples")
    return spec


def _is_own(example: Example) -> bool:
    """True if the user brought it, as a row or as a function that makes it."""
    return example.origin != "generated" or example.maker.startswith("python:")


def freeze(place: Workplace) -> Frozen:
    """Split the accepted examples, check for leaks, store the dataset and write its files."""
    clean(place)
    with place.database.read() as connection:
        versions = place.versions(connection)
        accepted = list(examples.stream(connection, versions, state="accepted"))
        older = examples.of_other_versions(connection, versions)
    if not accepted:
        raise UsageError(
            "there is no usable example to freeze",
            "Make some: understudy generate N, or understudy import FILE; "
            "`understudy status` shows why examples were set apart",
        )
    task, spec, settings = place.task, place.spec, place.settings
    splits = dataset.freeze(
        accepted,
        seed=settings.seed,
        validation_share=settings.validation_share,
        test_share=settings.test_share,
    )
    dataset.check_leaks(
        splits, similarity=settings.duplicate_similarity, free_text=spec.kind == "text"
    )
    mark = dataset.fingerprint(splits, spec.system_message)
    with place.database.write() as connection:
        frozen = runs.add_dataset(connection, task.version, mark, splits)
    write_dataset(place.folder / "datasets" / str(frozen.id), splits, spec.system_message, mark)
    place.say("freeze.done", dataset=frozen.id, counts=frozen.counts, of_older_specs=older)
    return frozen


def write_dataset(folder: Path, splits: dataset.Splits, system_message: str, mark: str) -> None:
    """Write each side as JSONL rows and a manifest; the folder appears whole or not at all."""
    if (folder / "manifest.json").exists():
        return
    half = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    manifest: dict[str, object] = {"fingerprint": mark, "system_message": system_message}
    for side, members in splits.items():
        body = write_rows(half / f"{side}.jsonl", members, system_message)
        manifest[side] = {"rows": len(members), "sha256": sha256(body).hexdigest()}
    (half / "manifest.json").write_text(json.dumps(manifest, ensure_ascii=False, indent=1) + "\n")
    half.rename(folder)


def write_rows(path: Path, members: Iterable[Example], system_message: str) -> bytes:
    """Write examples as the rows that a trainer reads; what was written."""
    body = "".join(
        json.dumps(dataset.rows(example, system_message), ensure_ascii=False) + "\n"
        for example in members
    ).encode("utf-8", "surrogatepass")
    path.write_bytes(body)
    return body


def export_file(place: Workplace, path: Path, format: str | None, *, raw: bool) -> Exported:
    """Write the accepted examples to a file, with a manifest beside it."""
    spec = place.task.spec
    with place.database.read() as connection:
        manifest = formats.write(
            path,
            examples.stream(connection, place.versions(connection), state="accepted"),
            format or formats.format_of(path),
            raw=raw,
            system_message=spec.system_message if spec else "",
        )
    return Exported(str(path), files=1, bytes=manifest.bytes, rows=manifest.examples)
