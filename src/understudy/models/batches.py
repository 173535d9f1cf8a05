"""The batch side of an OpenAI-compatible endpoint: requests in a file, answers within a day.

    POST /files                  the requests, one JSON a line           -> the file's id
    POST /batches                GET /batches/{id}      GET /batches     -> how far it is
    GET /files/{id}/content      the replies, one JSON a line, in any order

Six calls over our own exchange (http.py) rather than a client library: one deadline for each, no
redirects, no retries that nobody sees, the key only where address.py lets it go.

Protocol: https://platform.openai.com/docs/api-reference/batch
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import aiohttp
from yarl import URL

from understudy.errors import DiskError, ProviderRefused, UsageError
from understudy.models.address import Address
from understudy.models.openai_compatible import OpenAICompatible
from understudy.models.protocol import CallFailed, Lost, Unpaid
from understudy.models.refusal import explain, not_an_api, refusal

ENDED = ("completed", "failed", "expired", "cancelled")
"""States from which a batch does not come back."""
MOST_DOWNLOAD = 20_000_000_000
"""Bytes of a file of replies at the most."""
_TRANSFER_S = 3600.0
"""Seconds that a file may take, in or out."""
_LINE_URL = "/v1/chat/completions"
_PAGE = 100
_CHUNK = 1 << 16


class Batch(NamedTuple):
    """A batch as the provider tells of it."""

    id: str
    state: str
    input_file: str
    files: tuple[str, ...]
    """Ids of the files of replies and of errors, as far as there are any."""
    completed: int
    failed: int
    total: int
    error: str
    """Why all of it failed, in words."""


class Line(NamedTuple):
    """What came of one request."""

    custom_id: str
    status: int
    """0 if it was never sent to the model."""
    raw: bytes
    """The body of the reply or of the error."""


class Gone(ProviderRefused):
    """The provider does not know the batch or the file any more (or not with this key)."""


class BatchEndpoint(OpenAICompatible):
    """An endpoint that takes single calls and batches."""

    @staticmethod
    def request_line(custom_id: str, body: bytes) -> bytes:
        """One line of the file of requests; ``body`` as ``prepare`` wrote it."""
        start = {"custom_id": custom_id, "method": "POST", "url": _LINE_URL}
        return json.dumps(start).encode()[:-1] + b', "body": ' + body + b"}\n"

    def read_line(self, line: bytes) -> Line | None:
        """Understand a line of a file of replies or errors; None if it is none."""
        try:
            said = json.loads(self._without_key(line))
            custom_id, response = said["custom_id"], said.get("response")
            if response is None:
                return Line(custom_id, 0, json.dumps({"error": said.get("error")}).encode())
            # ASCII, so that a lone surrogate is stored as it came.
            return Line(
                custom_id, int(response["status_code"]), json.dumps(response["body"]).encode()
            )
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return None

    def refused(self, line: Line) -> CallFailed | ProviderRefused:
        """The error that a line's status stands for."""
        if line.status == 0:
            said = explain(line.raw)
            return Unpaid(said.message or said.code or "the provider did not send it")
        return refusal(self.address, line.status, {}, line.raw)

    async def takes_batches(self) -> None:
        """Raises UsageError if the endpoint knows no batches, and what ``get`` raises."""
        await self._ask("GET", "/batches?limit=1")

    async def upload(self, path: Path) -> str:
        """Send a file of requests; its id. Raises like ``send``."""
        form = aiohttp.FormData()
        form.add_field("purpose", "batch")
        with path.open("rb") as file:
            form.add_field("file", file, filename=path.name, content_type="application/jsonl")
            body = form()
            headers = {"Content-Type": body.content_type}
            async with self._transfer("POST", "/files", data=body, headers=headers) as response:
                raw = await self._read_at_most(response, self._max_reply)
        return str(self._object(response, raw)["id"])

    async def create(self, input_file: str, about: str) -> Batch:
        """Start a batch over an uploaded file. Raises like ``send``."""
        body = {
            "input_file_id": input_file,
            "endpoint": _LINE_URL,
            "completion_window": "24h",
            "metadata": {"understudy": about},
        }
        return self._batch(await self._ask("POST", "/batches", body))

    async def get(self, batch_id: str) -> Batch:
        """How far a batch is. Raises Gone, and like ``send``."""
        return self._batch(
            await self._ask("GET", f"/batches/{quote(batch_id, safe='')}", batch_id=batch_id)
        )

    async def find(self, input_file: str) -> Batch | None:
        """The batch over that file, or None. Raises like ``send``."""
        after = ""
        while True:
            page = await self._ask("GET", f"/batches?limit={_PAGE}{after}")
            found = [self._batch(one) for one in page.get("data") or ()]
            for one in found:
                if one.input_file == input_file:
                    return one
            if not page.get("has_more") or not found:
                return None
            after = f"&after={quote(found[-1].id, safe='')}"

    async def download(self, file_id: str, path: Path) -> None:
        """Write a file of the provider to ``path``. Raises Gone, DiskError, and like ``send``."""
        async with self._transfer("GET", f"/files/{quote(file_id, safe='')}/content") as response:
            if response.status in (404, 410):
                raise self._gone(f"file {file_id}")
            if response.status != 200 or "Content-Encoding" in response.headers:
                raw = await self._read_at_most(response, self._max_reply)
                self._must_be_plain(response, raw)
            written = 0
            try:
                with path.open("wb") as file:
                    async for chunk in response.content.iter_chunked(_CHUNK):
                        written += file.write(chunk)
                        if written > MOST_DOWNLOAD:
                            raise Lost(f"the file is longer than {MOST_DOWNLOAD:,} bytes")
            except OSError as error:
                if isinstance(error, (aiohttp.ClientError, ConnectionError, TimeoutError)):
                    raise
                raise DiskError(f"{path} cannot be written: {error.strerror}") from None

    # -- one exchange ----------------------------------------------------------------------

    async def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, batch_id: str = ""
    ) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        status, headers, raw = await self._exchange(
            method, URL(self.address.base_url + path, encoded=True), data
        )
        if status in (404, 405) and batch_id and "html" not in headers.get("Content-Type", ""):
            raise self._gone(f"batch {batch_id}")
        return self._understood(status, headers, raw)

    def _gone(self, what: str) -> Gone:
        return Gone(
            f"{self.address.base_url} knows no {what}",
            "Use the key that it was made with; --resend-unknown gives it up as lost",
        )

    def _object(self, response: aiohttp.ClientResponse, raw: bytes) -> dict[str, Any]:
        return self._understood(response.status, response.headers, raw)

    def _understood(self, status: int, headers: Any, raw: bytes) -> dict[str, Any]:
        if status in (404, 405):
            raise no_batches(self.address)
        if not 200 <= status < 300:
            raise refusal(self.address, status, headers, raw)
        self._must_be_json(headers, raw)
        try:
            found = json.loads(raw)
        except (ValueError, RecursionError):
            raise Lost("the reply is not JSON", again=True) from None
        if not isinstance(found, dict):
            raise not_an_api(self.address, "its reply is no JSON object")
        return found

    def _must_be_plain(self, response: aiohttp.ClientResponse, raw: bytes) -> None:
        if response.status != 200:
            raise refusal(self.address, response.status, response.headers, raw)
        raise Lost("the file comes compressed, which was not asked for")

    def _batch(self, body: dict[str, Any]) -> Batch:
        try:
            counts = body.get("request_counts") or {}
            files = (body.get("output_file_id"), body.get("error_file_id"))
            errors = (body.get("errors") or {}).get("data") or []
            return Batch(
                id=str(body["id"]),
                state=str(body["status"]),
                input_file=str(body.get("input_file_id") or ""),
                files=tuple(str(one) for one in files if one),
                completed=int(counts.get("completed") or 0),
                failed=int(counts.get("failed") or 0),
                total=int(counts.get("total") or 0),
                error=str(errors[0].get("message") or "") if errors else "",
            )
        except (LookupError, TypeError, ValueError, AttributeError):
            raise not_an_api(self.address, "its batch cannot be read") from None

    @asynccontextmanager
    async def _transfer(
        self, method: str, path: str, **sent: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One exchange that may take long: a deadline for all, another for silence."""
        session = self._session or self._connect()
        quiet = aiohttp.ClientTimeout(total=None, connect=20, sock_read=self._timeout_s)
        try:
            async with (
                asyncio.timeout(_TRANSFER_S),
                session.request(
                    method,
                    URL(self.address.base_url + path, encoded=True),
                    allow_redirects=False,
                    proxy=self.address.proxy,
                    timeout=quiet,
                    **sent,
                ) as response,
            ):
                yield response
        except (TimeoutError, aiohttp.ClientError, ConnectionError) as error:
            raise self._failure(error, bytearray()) from None

    async def _read_at_most(self, response: aiohttp.ClientResponse, most: int) -> bytes:
        read = bytearray()
        while chunk := await response.content.readany():
            read += chunk
            if len(read) > most:
                raise Lost(f"the reply is longer than {most:,} bytes")
        return self._without_key(bytes(read))


def no_batches(where: Address | str) -> UsageError:
    """The error for an endpoint that does not offer batches."""
    name = where if isinstance(where, str) else where.base_url
    return UsageError(f"{name} takes no batches", "Leave --batch away: calls then go one by one")
