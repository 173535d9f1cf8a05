"""One HTTP exchange with an endpoint, the same for every API: one send is one request, never more.

One deadline for the whole call, a cap on the bytes read, no redirects, no cookies, no retries:
whether to send again is the ledger's decision, because each send may be paid. The key is cut out of
whatever comes back. A name that resolves to a cloud's metadata service is not connected to.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from understudy.errors import ProviderRefused
from understudy.models.address import Address
from understudy.models.hosts import is_no_api
from understudy.models.limits import limits
from understudy.models.protocol import Lost, Quirks, Received, Unpaid
from understudy.models.refusal import Said, explain, not_an_api, refusal

_CONNECT_S = 20.0
_IDLE_S = 4.0
"""An idle connection is dropped after this, before common servers do it (5 s) with a call in it."""
_LARGE = 1 << 20


class _Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    raw: bytes


class HttpEndpoint:
    """What the APIs share: an address, its connections, and the quirks learned of it."""

    chat_path = ""
    """Path of the calls, below the base URL."""

    def __init__(
        self, address: Address, quirks: Quirks, *, timeout_s: float, max_reply: int
    ) -> None:
        self.name = address.name
        self.identity = address.identity
        self.quirks = quirks
        self._timeout_s = timeout_s
        self._max_reply = max_reply
        self._key = address.key.get_secret_value().encode() if address.key else b""
        # Letters and digits come as they are; the rest of a key may be escaped.
        self._key_core = max(re.findall(rb"[A-Za-z0-9]+", self._key) or [b""], key=len)
        self._key_written = _however_escaped(self._key)
        self._session: aiohttp.ClientSession | None = None
        self._move(address)

    def _move(self, address: Address) -> None:
        self.address = address
        self._chat_url = URL(address.base_url + self.chat_path)

    async def send(self, body: bytes) -> Received:
        """Send once. Raises Unpaid, Lost or ProviderRefused."""
        status, headers, raw = await self._exchange("POST", self._chat_url, body)
        if 200 <= status < 300:
            if raw[:1] != b"{":
                self._must_be_json(headers, raw)
            return Received(raw, limits(headers))
        if status in (400, 422):
            said = explain(raw)
            learned = self._learn(said, json.loads(body))
            if learned:
                what = f"{said.message} ({self.name} {learned})"
                raise Unpaid(what, wait_s=0, learned=learned, limits=limits(headers))
        raise refusal(self.address, status, headers, raw)

    async def models(self) -> list[str]:
        """Names that ``GET /models`` lists, none if there is no such list. Raises like ``send``."""
        url = URL(self.address.base_url + "/models")
        status, headers, raw = await self._exchange("GET", url, None)
        if status in (404, 405) and "html" not in headers.get("Content-Type", "").lower():
            return []
        if status != 200:
            raise refusal(self.address, status, headers, raw)
        self._must_be_json(headers, raw)
        try:
            body = json.loads(raw)
            rows = body if isinstance(body, list) else body["data"]
            return sorted(str(row["id"]) for row in rows)
        except (ValueError, LookupError, TypeError, RecursionError):
            raise not_an_api(self.address, "its list of models cannot be read") from None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _learn(self, said: Said, body: dict[str, Any]) -> str:
        """Change ``quirks`` by what was refused in ``body``; how, in words, or "" if in no way."""
        raise NotImplementedError

    def _headers(self) -> dict[str, str]:
        """Headers of every request. Compressed replies are not asked for: they may be bombs."""
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self._key:
            name, scheme = self.address.key_header, ""
            if name == "Authorization":
                scheme = "Bearer "
            headers[name] = scheme + self._key.decode()
        return headers

    def _connect(self) -> aiohttp.ClientSession:
        """The session, opened at the first call, inside the running loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0, keepalive_timeout=_IDLE_S, resolver=_Resolver()
                ),
                timeout=aiohttp.ClientTimeout(
                    total=None, connect=min(self._timeout_s * 0.9, _CONNECT_S)
                ),
                headers=self._headers(),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._session

    async def _exchange(self, method: str, url: URL, body: bytes | None) -> _Answer:
        """One HTTP exchange under one deadline."""
        session = self._session or self._connect()
        data = io.BytesIO(body) if body and len(body) > _LARGE else body
        read = bytearray()
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                session.request(
                    method, url, data=data, allow_redirects=False, proxy=self.address.proxy
                ) as response,
            ):
                content = response.content
                while not content.at_eof():
                    read += await content.readany()
                    if len(read) > self._max_reply:
                        response.close()
                        raise Lost(f"the reply is longer than {self._max_reply:,} bytes")
        except (aiohttp.ClientError, OSError, ValueError) as error:  # a time-out is an OSError
            raise self._failure(error, read) from None
        headers = response.headers
        raw = bytes(read)
        if "Content-Encoding" in headers:
            raw = self._unpacked(headers["Content-Encoding"], raw)
        return _Answer(response.status, headers, self._without_key(raw))

    def _failure(self, error: Exception, read: bytearray) -> ProviderRefused | Unpaid | Lost:
        """What it means that an exchange did not end."""
        where = self.address.base_url
        if isinstance(error, aiohttp.InvalidURL):
            return ProviderRefused(f"{where} is not an address")
        if isinstance(error, aiohttp.ClientConnectorError):
            why = error.os_error.strerror or type(error.os_error).__name__
            what = f"cannot reach {where}: {why}"
            return Unpaid(what, "Check the address and that it runs", unreachable=True)
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            what = f"{where} does not take the connection"
            return Unpaid(what, "Check the address", unreachable=True)
        if isinstance(error, TimeoutError):
            what = f"no whole reply within {self._timeout_s:g} s"
        else:
            what = f"connection lost ({type(error).__name__})"
        return Lost(what, torn=self._without_key(bytes(read), torn=True))

    def _unpacked(self, encoding: str, raw: bytes) -> bytes:
        """A reply that came compressed although it should not; never more than the cap."""
        encoding = encoding.strip().lower()
        if encoding in ("", "identity"):
            return raw
        if encoding not in ("gzip", "x-gzip", "deflate"):
            raise Lost(f"the reply is compressed ({encoding[:20]}), which was not asked for")
        inflate = zlib.decompressobj(wbits=47)  # gzip or zlib, told by its first bytes
        try:
            text = inflate.decompress(raw, self._max_reply + 1)
        except zlib.error:
            raise Lost("the reply is compressed and damaged") from None
        if len(text) > self._max_reply:
            raise Lost(f"the reply is longer than {self._max_reply:,} bytes")
        if not inflate.eof:
            raise Lost("the reply is compressed and cut", torn=self._without_key(text))
        return text

    def _without_key(self, raw: bytes, *, torn: bool = False) -> bytes:
        """What came back, the key cut out in case the endpoint echoes it, also in JSON's escapes.

        Of a reply that is ``torn`` the end may hold the beginning of the key.
        """
        if not self._key:
            return raw
        if self._key_core in raw:
            raw = self._key_written.sub(b"[key]", raw)
        if torn:
            for length in range(min(len(self._key), len(raw)), 3, -1):
                if raw.endswith(self._key[:length]):
                    return raw[:-length] + b"[key]"
        return raw

    def _must_be_json(self, headers: Mapping[str, str], raw: bytes) -> None:
        if "html" in headers.get("Content-Type", "").lower() or raw.lstrip()[:1] == b"<":
            raise not_an_api(self.address, "it answers with a web page")


def _however_escaped(key: bytes) -> re.Pattern[bytes]:
    """The key as it may stand in JSON: each character plain, after a backslash, or by its code."""
    return re.compile(
        b"".join(
            b"(?:%b|\\\\%b|\\\\u00(?i:%02x))" % (re.escape(one), re.escape(one), one[0])
            for one in (key[at : at + 1] for at in range(len(key)))
        )
        or b"(?!)"
    )


class _Resolver(AbstractResolver):
    """Names to addresses in a thread; none to an address that is no API's."""

    def __init__(self) -> None:
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        if any(is_no_api(one["host"]) for one in found):
            raise OSError(None, "it resolves to an address that is no API's")
        return found

    async def close(self) -> None:
        await self._inner.close()
