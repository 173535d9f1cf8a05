"""The provider's own account: a line of JSON for each event, on disk before a reply is sent."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from understudy.errors import DiskError


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
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def write(self, entry: dict[str, Any]) -> None:
        """Append ``entry``; return when it is safe on disk."""
        done = asyncio.get_running_loop().create_future()
        line = json.dumps(entry, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        self._waiting.append((line, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_waiting())
        await done

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    async def _write_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                await asyncio.to_thread(self._append, b"".join(line for line, _ in batch))
            except OSError as error:
                for _, done in batch:
                    done.set_exception(error)
            else:
                for _, done in batch:
                    if not done.done():
                        done.set_result(None)

    def _append(self, lines: bytes) -> None:
        self._file.write(lines)
        os.fsync(self._file.fileno())
