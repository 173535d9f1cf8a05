"""What a row is known by: its content, and how often the same came before it in its file.

Reading a file again, or once it has grown, gives known keys for known rows, and true duplicates
stay apart.
"""

from __future__ import annotations

import hashlib

from understudy.example import Message


class Keys:
    """The keys of one file's rows, in their order."""

    def __init__(self) -> None:
        self._seen: dict[bytes, int] = {}

    def of(self, messages: tuple[Message, ...], answer: str) -> str:
        """The key of the next row. Raises UnicodeEncodeError where half of a pair stands alone."""
        digest = _digest(messages, answer)
        short = digest[:16]
        before = self._seen.get(short, 0)
        self._seen[short] = before + 1
        return f"{digest.hex()}:{before}"


def _digest(messages: tuple[Message, ...], answer: str) -> bytes:
    """SHA-256 of the content; lengths keep texts that run together apart."""
    turns = "".join([f"{role}:{len(content)}:{content}" for role, content in messages])
    return hashlib.sha256(f"{len(messages)}:{turns}{answer}".encode()).digest()
