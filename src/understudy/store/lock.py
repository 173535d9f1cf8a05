"""One writer a project: an flock, which the kernel frees however the process ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from understudy.errors import DiskError, ProjectBusy


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold ``path`` for the length of the block. Raises ProjectBusy naming who holds it."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DiskError(
            f"cannot open {path}: {error.strerror}", "Check the folder's permissions"
        ) from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(handle, 20).decode(errors="replace").strip() or "unknown"
            raise ProjectBusy(
                f"{path.parent} is in use by process {pid}", "Wait for it, or stop it"
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)
