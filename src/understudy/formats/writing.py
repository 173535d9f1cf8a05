"""Write examples to a file of any known format: whole or not at all, with a manifest beside it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from understudy.errors import DiskError, UsageError
from understudy.example import Example, Message
from understudy.formats.encoding import ENCODERS, HEADER, CannotHold
from understudy.formats.parquet import write_parquet
from understudy.formats.source import Row, whole
from understudy.formats.table import guard

FORMATS = tuple(ENCODERS)
"""Names of the formats, the default first."""
SUFFIXES = {
    ".jsonl": "chat",
    ".ndjson": "chat",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
_DELIMITERS = {"csv": ",", "tsv": "\t"}
_JSON = json.JSONEncoder(ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What was written; the same is saved as JSON beside the file."""

    file: str
    format: str
    examples: int
    bytes: int
    sha256: str
    origins: dict[str, int]
    """Examples by origin: generated, imported, written."""
    makers: dict[str, int]
    """Examples by who wrote the answer."""


def format_of(path: str | os.PathLike[str]) -> str:
    """The format that a file's suffix stands for. Raises UsageError for an unknown one."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(
            f"the name {Path(path).name} says no format", f"Known suffixes: {', '.join(SUFFIXES)}"
        )
    return SUFFIXES[suffix]


def write(
    path: str | os.PathLike[str],
    examples: Iterable[Example],
    format: str,
    *,
    raw: bool = False,
    system_message: str = "",
) -> Manifest:
    """Write ``examples`` to ``path`` and ``<path>.manifest.json``, streamed.

    ``system_message`` is put in front of each example that has none of its own. ``raw`` leaves out
    the guard against formulas in CSV and TSV. JSON formats are one object a line; ``json``, and
    any of them under a name that ends with ``.json``, is one array.

    Either the whole new file is there in the end or the old one, untouched. Raises UsageError (bad
    target, unknown format, an example that the format cannot hold), DiskError, SetupError; what
    ``examples`` raises passes through.
    """
    path = Path(path)
    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}", f"Known are: {', '.join(FORMATS)}")
    _check_target(path)
    beside = path.with_name(path.name + ".manifest.json")
    _check_target(beside)
    written = _Written()
    rows = _rows(written.counting(examples), format, system_message)
    with _replacing(path) as file:
        if format == "parquet":
            write_parquet(file, rows)
        elif format in _DELIMITERS:
            _write_table(file, rows, _DELIMITERS[format], raw=raw)
        else:
            _write_json(file, rows, array=format == "json" or path.suffix.lower() == ".json")
        manifest = written.manifest(path.name, format, file)
        os.fsync(file.fileno())  # so that a full disk is known before the manifest is replaced
        with _replacing(beside) as note:
            note.write(_JSON.encode(asdict(manifest)).encode("utf-8", "replace") + b"\n")
    return manifest


class _Written:
    """Counts the examples on their way through."""

    def __init__(self) -> None:
        self._origins: Counter[str] = Counter()
        self._makers: Counter[str] = Counter()

    def counting(self, examples: Iterable[Example]) -> Iterator[Example]:
        for example in examples:
            self._origins[example.origin] += 1
            self._makers[example.maker] += 1
            yield example

    def manifest(self, name: str, format: str, file: IO[bytes]) -> Manifest:
        size, digest = _measure(file)
        return Manifest(
            file=name,
            format=format,
            examples=self._origins.total(),
            bytes=size,
            sha256=digest.hex(),
            origins=dict(sorted(self._origins.items())),
            makers=dict(sorted(self._makers.items())),
        )


def _rows(examples: Iterable[Example], format: str, system_message: str) -> Iterator[Row]:
    encode = ENCODERS[format]
    for number, example in enumerate(examples, 1):
        messages, answer = _text(example)
        if system_message and messages[0].role != "system":
            messages = (Message("system", system_message), *messages)
        try:
            yield encode(messages, answer)
        except CannotHold as error:
            raise UsageError(
                f"example {number} {error}, which the format {format} cannot hold",
                "Use the format chat",
            ) from None


def _text(example: Example) -> tuple[tuple[Message, ...], str]:
    """Messages and answer, lone surrogates replaced, since no file can hold them."""
    messages, answer = example.messages, example.answer
    try:
        "".join([*(content for _, content in messages), answer]).encode()
    except UnicodeEncodeError:
        return tuple(Message(role, whole(content)) for role, content in messages), whole(answer)
    return messages, answer


def _write_json(file: IO[bytes], rows: Iterable[Row], *, array: bool) -> None:
    opening, between, closing = (b"[\n", b",\n", b"\n]\n") if array else (b"", b"\n", b"\n")
    lead = opening
    for row in rows:
        file.write(lead)
        file.write(_JSON.encode(row).encode())
        lead = between
    file.write(closing if lead is between else opening + closing if array else b"")


def _write_table(file: IO[bytes], rows: Iterable[Row], delimiter: str, *, raw: bool) -> None:
    file.write((delimiter.join(HEADER) + "\n").encode())
    for row in rows:
        cells = [row[name] if raw else guard(row[name]) for name in HEADER]
        # Every cell is quoted, so that a lone CR and spaces at its ends come back.
        quoted = ['"' + cell.replace('"', '""') + '"' for cell in cells]
        file.write((delimiter.join(quoted) + "\n").encode())


def _measure(file: IO[bytes]) -> tuple[int, bytes]:
    """Its size in bytes and its SHA-256."""
    size, digest = 0, hashlib.sha256()
    file.seek(0)
    while block := file.read(2**20):
        size += len(block)
        digest.update(block)
    return size, digest.digest()


def _check_target(path: Path) -> None:
    """Raises UsageError if a file cannot or should not be written there, DiskError."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        if path.parent.is_dir():
            return
        raise UsageError(f"no folder {path.parent}", "Make it first") from None
    except (NotADirectoryError, ValueError):
        raise UsageError(f"{str(path)!r} is no name for a file", "Give another") from None
    except OSError as error:
        raise _unwritable(path, error) from None
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a link" if stat.S_ISLNK(mode) else "no file"
        raise UsageError(f"{path} is {kind}", "Give the name of a file, new or to be replaced")


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A new file in the same folder that takes the place of ``path`` if all goes well."""
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(".part", ".understudy-", path.parent)
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
        temporary = ""
        _sync_folder(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every system can open a folder
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _unwritable(path: Path, error: OSError) -> DiskError:
    return DiskError(
        f"{path} cannot be written: {error.strerror or error}",
        "Free space or choose another folder; what was there is untouched",
    )
