"""The provider's own account: a line of JSON for each event, on disk before a reply is sent.

A request that may cost has two lines: ``"phase": "received"`` when it came, and ``"answered"`` when
the work was done, with what is billed for it. Both say its number ``n``, the seconds from the
server's start to its arrival ``t``, the SHA-256 of its canonical body, its model and its fault
(``limit``: over the rate limits); the second also its ``kind``, whether it is ``paid`` and the
tokens that are paid for.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from understudy.errors import DiskError

_json = json.JSONEncoder(ensure_ascii=False)


class Bill:
    """An append-only file. Lines that come together share one fsync (group commit).

    Raises DiskError if the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise DiskError(
                f"{path}: {error.strerror}", "Name a file that can be written"
            ) from None
        self._lines: list[bytes] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._writer: asyncio.Task[None] | None = None

    def add(self, entry: dict[str, Any]) -> None:
        """Append ``entry`` soon, before any that comes later."""
        self._lines.append(_json.encode(entry).encode("utf-8", "replace") + b"\n")
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_waiting())

    async def write(self, entry: dict[str, Any]) -> None:
        """Append ``entry``; return when it is safe on disk."""
        self.add(entry)
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        await done

    async def close(self) -> None:
        """Close the file, when all that was added is in it."""
        if self._writer:
            await self._writer
        self._file.close()

    async def _write_waiting(self) -> None:
        while self._lines:
            lines, self._lines = self._lines, []
            waiting, self._waiting = self._waiting, []
            try:
                await asyncio.to_thread(self._append, lines)
            except OSError as error:
                for done in waiting:
                    if not done.done():
                        done.set_exception(error)
            else:
                for done in waiting:
                    if not done.done():
                        done.set_result(None)

    def _append(self, lines: list[bytes]) -> None:
        self._file.write(b"".join(lines))
        os.fsync(self._file.fileno())
