"""From a file to lines of bytes: opened, unpacked, brought to UTF-8 and cut, never held whole.

A file whose end cannot be read (a cut or damaged gzip, or one that swells beyond reason) raises
Damaged after all that came before it was handed out.
"""

from __future__ import annotations

import codecs
import gzip
import re
import stat
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.errors import DiskError, UsageError

MAX_ROW_BYTES = 32 * 2**20
"""Longest line or row read, in bytes; a longer one is bad, and skipped without being held."""
CHUNK_BYTES = 256 * 1024
HEAD_BYTES = 64 * 1024
"""What is looked at to tell the format."""
GZIP_FREE_BYTES = 256 * 2**20
"""A gzip file may always unpack to this many bytes,"""
GZIP_RATIO = 100
"""or to this many times its own size; JSONL and CSV rarely pass 20."""

TOO_LONG = f"longer than {MAX_ROW_BYTES // 2**20} MB"
NOT_UTF8 = "not UTF-8: save the file as UTF-8"

Row = dict[str, Any]
"""One row as its container gives it: column to value."""

_GZIP = b"\x1f\x8b"
# The mark of UTF-32 little-endian begins with that of UTF-16, so the longer ones come first.
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True, slots=True)
class BadLine:
    """A row that could not be read, and why.

    ``number`` is the line of the file on which it begins, from 1; in a JSON array or a Parquet
    file it is the row, from 1.
    """

    number: int
    reason: str


Item = BadLine | tuple[int, Row]
"""What a container yields: a row with its number, or why there is none."""


_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class BadRow(ValueError):
    """This one row cannot be used; the text is the reason."""


class Damaged(Exception):
    """The file cannot be read from here on; the text is the reason."""


def head(path: Path) -> bytes:
    """The first 64 KB (or a little more) as UTF-8 without a byte order mark.

    Raises UsageError if there is no such file, if it is not a regular one or holds nothing,
    DiskError if it cannot be read.
    """
    check_regular(path)
    found = b""
    try:
        for chunk in chunks(path):
            found = (found if found.strip() else b"") + chunk
            if len(found) >= HEAD_BYTES:
                break
    except Damaged as damage:
        if not found:
            raise UsageError(f"{path}: {damage}", "Make or download the file again") from None
    if not found.strip():
        raise UsageError(f"{path} is empty", "Give a file with at least one row")
    return found


def check_regular(path: Path) -> None:
    """Raise UsageError if ``path`` is no regular file, DiskError if it cannot be looked at."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise UsageError(f"no file {path}", "Check the name and the folder") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    if stat.S_ISDIR(mode):
        raise UsageError(f"{path} is a folder", "Name one file in it")
    if not stat.S_ISREG(mode):
        raise UsageError(f"{path} is not a regular file", "Save it to a file first")


def whole(text: str) -> str:
    """The text with U+FFFD for each lone surrogate, which no UTF-8 can hold."""
    return _LONE_SURROGATE.sub("\ufffd", text)


def lines(blocks: Iterable[bytes]) -> Iterator[bytes | None]:
    r"""Cut at ``\n``, ``\r\n`` and ``\r`` (nowhere else: U+2028 is text); ends are kept.

    None stands for a line longer than MAX_ROW_BYTES.
    """
    pending = _Pending()
    for block in blocks:
        # Whether a \r at the end of a block ends its line is only known now.
        if pending.text.endswith(b"\r") and not block.startswith(b"\n"):
            yield pending.take()
        first, *others = block.splitlines(keepends=True)
        pending.add(first)
        if others:
            yield pending.take()
            yield from others[:-1]
            pending.add(others[-1])
        if pending.text.endswith(b"\n"):
            yield pending.take()
    if pending.text:
        yield pending.take()


class _Pending:
    """The line that is being put together from pieces; one that is too long is let go."""

    def __init__(self) -> None:
        self.text = bytearray()
        self._too_long = False

    def add(self, piece: bytes) -> None:
        self.text += piece
        if len(self.text) > MAX_ROW_BYTES:
            self._too_long = True
            del self.text[:-1]  # its last byte may be half of an end of line

    def take(self) -> bytes | None:
        line = None if self._too_long else bytes(self.text)
        self.text.clear()
        self._too_long = False
        return line


def chunks(path: Path) -> Iterator[bytes]:
    """The file's text in pieces, as UTF-8 without a byte order mark; gzip is unpacked.

    UTF-16 and UTF-32 are known by their marks. Raises DiskError, Damaged.
    """
    pieces = _unpacked(path)
    first = b""
    for piece in pieces:
        first += piece
        if len(first) >= 4:
            break
    mark = next((mark for mark in _BYTE_ORDER_MARKS if first.startswith(mark)), None)
    if mark:
        whole = _chain(first, pieces)
        for text in codecs.iterdecode(whole, _BYTE_ORDER_MARKS[mark], "replace"):
            yield text.encode("utf-8", "replace")
        return
    yield from _chain(first.removeprefix(codecs.BOM_UTF8), pieces)


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest


def _unpacked(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP
            file.seek(0)
            if not packed:
                while block := file.read(CHUNK_BYTES):
                    yield block
                return
            limit = max(GZIP_FREE_BYTES, GZIP_RATIO * path.stat().st_size)
            with gzip.GzipFile(fileobj=file) as unpacking:
                while block := unpacking.read(CHUNK_BYTES):
                    limit -= len(block)
                    if limit < 0:
                        raise Damaged(f"it unpacks to more than {GZIP_RATIO} times its size")
                    yield block
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise Damaged("the gzip data is cut off or damaged here") from None
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> DiskError:
    return DiskError(
        f"{path} cannot be read: {error.strerror or error}", "Check its permissions and the disk"
    )
