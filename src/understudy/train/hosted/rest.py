"""One exchange with a host's own REST API: one send is one request (models/http.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from understudy.models.address import Address
from understudy.models.http import HttpEndpoint
from understudy.models.protocol import Lost, Quirks
from understudy.models.refusal import not_an_api
from understudy.train.hosted.saying_no import About, said_no

UPLOAD_S = 3600.0


class Rest(HttpEndpoint):
    """A REST API below one URL. ``about`` says what a refusal is about, see saying_no.py."""

    def __init__(self, address: Address, base: str, *, timeout_s: float, max_reply: int) -> None:
        super().__init__(address, Quirks(), timeout_s=timeout_s, max_reply=max_reply)
        self._base = base

    async def ask(
        self, method: str, path: str, body: Any = None, *, about: About = ""
    ) -> dict[str, Any]:
        """One request and the JSON object that comes back. Raises as ``said_no`` says, and Lost."""
        data = None if body is None else json.dumps(body).encode()
        status, headers, raw = await self._exchange(method, self._url(path), data)
        return self._read(status, headers, raw, about)

    async def upload(
        self, path: str, form: dict[str, str], file: Path, name: str
    ) -> dict[str, Any]:
        """Send a file as a form. Raises like ``ask``."""
        with file.open("rb") as opened:
            data = aiohttp.FormData(form)
            data.add_field("file", opened, filename=name, content_type="application/jsonl")
            body = data()
            session = self._session or self._connect()
            try:
                async with session.post(
                    self._url(path),
                    data=body,
                    headers={"Content-Type": body.content_type},
                    allow_redirects=False,
                    proxy=self.address.proxy,
                    timeout=aiohttp.ClientTimeout(total=UPLOAD_S, connect=20),
                ) as response:
                    raw = self._without_key(await response.content.read(self._max_reply))
            except (aiohttp.ClientError, OSError) as error:
                raise self._failure(error, bytearray()) from None
        return self._read(response.status, response.headers, raw, "")

    def _url(self, path: str) -> URL:
        return URL(self._base + path, encoded=True)

    def _read(self, status: int, headers: Any, raw: bytes, about: About) -> dict[str, Any]:
        if not 200 <= status < 300:
            raise said_no(self.address, status, headers, raw, about)
        self._must_be_json(headers, raw)
        try:
            found = json.loads(raw or b"{}")
        except (ValueError, RecursionError):
            raise Lost("the reply is not JSON", again=True) from None
        if not isinstance(found, dict):
            raise not_an_api(self.address, "its reply is no JSON object")
        return found
