"""Files that clients of the server send and fetch: their bytes in the project's ``files`` folder.

A file is received under the name that it keeps, its own id; it counts once the store knows it.
Whoever receives one holds a lock on it, so that what a crash left behind can be told from what is
still coming in, and swept away.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import string
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import Connection

from understudy.errors import DiskError
from understudy.project.workplace import Workplace
from understudy.store import uploads
from understudy.store.uploads import Upload

__all__ = ["Incoming", "Upload", "find", "new_id", "page", "receiving", "remove", "sweep", "where"]

FOLDER = "files"
MOST_NAME = 255
"""Characters kept of a file's name."""
_ID = re.compile(r"file-[A-Za-z0-9]{24}")
_DRAWN = string.ascii_letters + string.digits


def new_id(kind: str) -> str:
    """An id that nobody can guess: ``file-`` and 24 letters and digits, for example."""
    return f"{kind}-" + "".join(secrets.choice(_DRAWN) for _ in range(24))


class Incoming:
    """A file that is coming in, a piece at a time."""

    def __init__(self, id: str, file: BinaryIO) -> None:
        self.id, self._file = id, file
        self.bytes = 0
        self._digest = sha256()
        self.kept = False

    def write(self, piece: bytes) -> None:
        """Take the next piece. Raises DiskError if there is no room for it."""
        with _on_disk("storing a file"):
            self._file.write(piece)
        self._digest.update(piece)
        self.bytes += len(piece)

    def keep(self, connection: Connection, name: str, purpose: str) -> Upload:
        """Store it in that transaction, its bytes on disk first. Raises DiskError."""
        with _on_disk("storing a file"):
            self._file.flush()
            os.fsync(self._file.fileno())
        digest = self._digest.hexdigest()
        stored = uploads.add(
            connection, Upload(self.id, harmless(name), purpose, self.bytes, digest)
        )
        self.kept = True
        return stored


@contextmanager
def receiving(place: Workplace) -> Iterator[Incoming]:
    """Receive a file for the length of the block; unless it was kept, nothing is left of it."""
    name = new_id("file")
    path = place.folder / FOLDER / name
    with _on_disk("storing a file"):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    incoming = None
    try:
        with os.fdopen(handle, "wb", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            incoming = Incoming(name, file)
            yield incoming
    finally:
        # Its transaction may have failed behind ``keep``: only what the store knows counts.
        if incoming is None or not incoming.kept or find(place, name) is None:
            path.unlink(missing_ok=True)


def harmless(name: str) -> str:
    """A file's name without folders and control characters, of a sane length."""
    last = re.split(r"[/\\]", name)[-1]
    plain = "".join(letter for letter in last if letter.isprintable()).strip()
    return plain[:MOST_NAME] if plain.strip(".") else "file"


def find(place: Workplace, id: str) -> Upload | None:
    """The upload of that id, or None."""
    with place.database.read() as connection:
        return uploads.get(connection, id)


def page(
    place: Workplace,
    *,
    purpose: str | None = None,
    after: str | None = None,
    limit: int,
    newest_first: bool = True,
) -> list[Upload]:
    """Up to ``limit`` uploads, those behind the one of id ``after`` if one is named."""
    with place.database.read() as connection:
        return uploads.page(
            connection, purpose=purpose, after=after, limit=limit, newest_first=newest_first
        )


def where(place: Workplace, upload: Upload) -> Path:
    """Where its bytes lie. Raises DiskError if somebody took them away."""
    path = place.folder / FOLDER / upload.id
    if not path.is_file():
        raise DiskError(f"the content of {upload.id} is gone from {path.parent}", "Send it again")
    return path


def remove(place: Workplace, id: str) -> bool:
    """Delete an upload; False if there was none. What was trained on it stays."""
    with place.database.write() as connection:
        found = uploads.remove(connection, id)
    if found:
        (place.folder / FOLDER / id).unlink(missing_ok=True)
    return found


def sweep(place: Workplace) -> None:
    """Delete what half-received uploads of dead processes left behind."""
    for path in (place.folder / FOLDER).glob("file-*"):
        if _ID.fullmatch(path.name) and find(place, path.name) is None:
            _delete_unless_coming_in(place, path)


def _delete_unless_coming_in(place: Workplace, path: Path) -> None:
    with suppress(OSError), path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if find(place, path.name) is None:  # it may have been stored since
            path.unlink()


@contextmanager
def _on_disk(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskError(
            f"{doing} failed: {error.strerror}", "Make room, or check the disk and its quota"
        ) from None
