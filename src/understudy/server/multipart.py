"""A multipart form read as it comes in: one file goes straight to its place, fields are kept.

Nothing is held in memory but the piece at hand and the fields, which are short.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from understudy.server.errors import bad

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MOST_FIELD = 64 * 1024
"""Bytes of all fields together."""
MOST_PARTS = 32


class Form(NamedTuple):
    """What came besides the file's content."""

    fields: dict[str, str]
    filename: str | None
    """As the client called the file; None if no file came."""


async def read(request: Request, field: str, write: Callable[[bytes], None]) -> Form:
    """Read the form of a request, handing the content of the file in ``field`` to ``write``.

    ``write`` is called in a thread. Raises ApiError 400 for what is no such form, and whatever
    ``write`` raises.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise bad("send a form: Content-Type: multipart/form-data, with a boundary", code="no_form")
    parts = _Parts(field, write)
    try:
        parser = MultipartParser(options[b"boundary"], parts.callbacks())
        async for piece in request.stream():
            await asyncio.to_thread(parser.write, piece)
        parser.finalize()
    except FormParserError:
        raise bad("the form is malformed", code="bad_form") from None
    if not parts.whole:
        raise bad("the form ends before its last boundary", code="bad_form")
    return Form({name: _text(bytes(value)) for name, value in parts.fields.items()}, parts.filename)


class _Parts:
    """Hears the parser, part by part."""

    def __init__(self, field: str, write: Callable[[bytes], None]) -> None:
        self._field, self._write = field, write
        self.fields: dict[str, bytearray] = {}
        self.filename: str | None = None
        self.whole = False
        self._header, self._value, self._disposition = b"", b"", b""
        self._into: Callable[[bytes], object] = lambda _: None
        self._room, self._parts = MOST_FIELD, 0

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._disposition = b""
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise bad(f"the form has more than {MOST_PARTS} parts", code="bad_form")

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name, filename = _text(options.get(b"name", b"")), options.get(b"filename")
        if filename is None:
            self._into = self._field_of(name)
            return
        if name != self._field:
            raise bad(f"a file came in {name!a}; send it in {self._field!r}", code="bad_form")
        if self.filename is not None:
            raise bad("more than one file came", self._field, "bad_form")
        self.filename = _text(filename)
        self._into = self._write

    def _field_of(self, name: str) -> Callable[[bytes], object]:
        kept = self.fields.setdefault(name, bytearray())

        def keep(piece: bytes) -> None:
            self._room -= len(piece)
            if self._room < 0:
                raise bad(f"the fields have more than {MOST_FIELD:,} bytes", code="bad_form")
            kept.extend(piece)

        return keep

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._into(data[start:end])

    def _end(self) -> None:
        self.whole = True


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
