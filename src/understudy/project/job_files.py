"""A job's files made a dataset: exactly their rows, every learned turn one, nothing left out.

The dataset has no examples in the store: the file is its record, by its hash. Its task is stored
below version 0, so that the project's own task, plan and examples stay as they were (store/tasks).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from understudy import dataset
from understudy.errors import UnderstudyError
from understudy.example import Example, Split
from understudy.formats import conversations
from understudy.formats.source import BadLine
from understudy.generate.spec import infer
from understudy.project import uploads
from understudy.project.preparing import dataset_folder
from understudy.project.uploads import Upload
from understudy.project.workplace import Workplace
from understudy.store import runs
from understudy.store.runs import Frozen
from understudy.task import Spec, Task

_INFERRED_FROM = 20_000
"""Rows at the most that the kind of answer is read off; of more, answers are graded as text."""
_TOLD = 3
"""Breaches that an error names."""


class BadFile(UnderstudyError):
    """A file that cannot be trained on; ``param`` says which one it was given as."""

    def __init__(self, param: str, what: str) -> None:
        super().__init__(what)
        self.param = param


@dataclass
class _Taught:
    """What is seen of the rows while they are written."""

    system_messages: set[str]
    answers: list[Example]
    asked: set[bytes]
    repeated: int = 0

    def common_system_message(self) -> str:
        """The system message that all rows share; '' if they do not, or have none."""
        return next(iter(self.system_messages)) if len(self.system_messages) == 1 else ""


def freeze(place: Workplace, training: Upload, validation: Upload | None, folder: str) -> Frozen:
    """Check the files and store their rows as a dataset; the same content is stored once.

    ``folder`` names where they are written until they are whole. Raises BadFile with the first
    breaches of the rules, line by line; DiskError.
    """
    given: dict[Split, tuple[str, Upload]] = {"train": ("training_file", training)}
    if validation is not None:
        given["validation"] = ("validation_file", validation)
    for param, upload in given.values():
        _check(place, param, upload)
    half = place.folder / "datasets" / f"{folder}.new"
    shutil.rmtree(half, ignore_errors=True)
    try:
        half.mkdir(parents=True)
        return _freeze(place, given, half)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _freeze(place: Workplace, given: dict[Split, tuple[str, Upload]], half: Path) -> Frozen:
    seen = _Taught(set(), [], set())
    sides: dict[Split, tuple[int, str]] = {
        split: _write(half / f"{split}.jsonl", _rows(place, upload), seen, counts=split == "train")
        for split, (_, upload) in given.items()
    }
    counts: dict[Split, int] = {"train": 0, "validation": 0, "test": 0}
    for split, (rows, _) in sides.items():
        counts[split] = rows
    canon = ["file", *(f"{split} {digest}" for split, (_, digest) in sides.items())]
    mark = hashlib.sha256("\n".join(canon).encode()).hexdigest()
    common = seen.common_system_message()
    task = Task(given["train"][1].name, _spec(common, seen, counts["train"]), author="examples")
    with place.database.write() as connection:
        frozen = runs.add_dataset_of_file(connection, task, mark, counts)
    folder = dataset_folder(place, frozen)
    if (folder / "manifest.json").exists():
        return frozen
    manifest: dict[str, object] = {
        "fingerprint": mark,
        "system_message": common,
        "repeated_in_validation": seen.repeated,
    }
    for split, (rows, digest) in sides.items():
        manifest[split] = {"rows": rows, "sha256": digest, "file": given[split][1].id}
    text = json.dumps(manifest, ensure_ascii=False, indent=1)
    (half / "manifest.json").write_text(f"{text}\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    half.rename(folder)
    return frozen


def repeated(place: Workplace, frozen: Frozen) -> int:
    """Validation rows that ask what a training row asks too: they say less than they seem to."""
    manifest = json.loads((dataset_folder(place, frozen) / "manifest.json").read_text("utf-8"))
    return int(manifest.get("repeated_in_validation", 0))


def trained_spec(place: Workplace, frozen: Frozen) -> Spec | None:
    """What validation answers are graded by; None: as text."""
    from understudy.project.shelf import spec_of

    spec = spec_of(place, frozen)
    return spec if spec.system_message else None


def _check(place: Workplace, param: str, upload: Upload) -> None:
    rules = conversations.Rules()
    if param == "validation_file":
        rules = rules._replace(min_rows=1)
    breaches = conversations.check(uploads.where(place, upload), rules)
    if not breaches:
        return
    told = "; ".join(
        f"line {line.number}: {line.reason}" if line.number else line.reason
        for line in breaches[:_TOLD]
    )
    more = f"; and {len(breaches) - _TOLD:,} more" if len(breaches) > _TOLD else ""
    raise BadFile(param, f"{upload.id} cannot be trained on: {told}{more}")


def _rows(place: Workplace, upload: Upload) -> Iterator[Example]:
    for item in conversations.conversations(uploads.where(place, upload)):
        if isinstance(item, BadLine):  # ``check`` let it pass: never leave a row out in silence
            raise BadFile("training_file", f"{upload.id}, line {item.number}: {item.reason}")
        yield from conversations.examples(item, maker=upload.name, source=upload.id)


def _write(path: Path, rows: Iterator[Example], seen: _Taught, *, counts: bool) -> tuple[int, str]:
    """Write rows as the trainer reads them; their number and the SHA-256 of the file."""
    digest, number = hashlib.sha256(), 0
    with path.open("wb") as file:
        for number, example in enumerate(rows, 1):
            row = json.dumps(dataset.rows(replace(example, id=number), ""), ensure_ascii=False)
            line = f"{row}\n".encode("utf-8", "surrogatepass")
            digest.update(line)
            file.write(line)
            asked = hashlib.blake2b(repr(dataset.asked(example)).encode(), digest_size=12).digest()
            if counts:
                seen.asked.add(asked)
                seen.system_messages.add(_system_message(example))
                if number <= _INFERRED_FROM:
                    seen.answers.append(example)
            else:
                seen.repeated += asked in seen.asked
    return number, digest.hexdigest()


def _system_message(example: Example) -> str:
    first = example.messages[0]
    return first.content if first.role == "system" else ""


def _spec(common: str, seen: _Taught, rows: int) -> Spec | None:
    if not common:
        return None
    spec = infer(common, seen.answers)
    return spec if rows <= _INFERRED_FROM else spec.model_copy(update={"kind": "text"})
