"""An OpenAI-compatible chat endpoint over aiohttp: one send is one HTTP request, never more.

No redirects, one deadline for the whole call, a cap on the bytes read, and no retries: whether to
send again is the ledger's decision, because each send may be paid. What an endpoint refuses
(``response_format``, ``max_tokens``, ``temperature``) is left out or renamed from then on.

Protocol: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

from understudy.errors import ProviderRefused
from understudy.example import valid
from understudy.models.address import Address
from understudy.models.protocol import CallFailed, Lost, Reply, Request, Unpaid, Unreadable

_JSON_RUNGS = ("json_schema", "json_object", "text")


class OpenAICompatible:
    """Endpoint for one model at one address."""

    def __init__(self, address: Address, *, timeout_s: float, max_reply: int) -> None:
        self.name = address.name
        self.identity = address.identity
        self.address = address
        self._timeout_s = timeout_s
        self._max_reply = max_reply
        self._session: aiohttp.ClientSession | None = None
        self._json_rung = 0
        self._limit_name = "max_tokens"
        self._left_out: set[str] = set()

    # -- sending ---------------------------------------------------------------------------

    def size(self, request: Request) -> int:
        """Bytes of the body that would be sent."""
        return len(json.dumps(self._body(request), ensure_ascii=False).encode())

    async def send(self, request: Request) -> bytes:
        """Send once; the whole body of a 200. Raises Unpaid, Lost or ProviderRefused."""
        body = self._body(request)
        async with self._exchange("POST", "/chat/completions", body) as (status, headers, raw):
            if status == 200:
                self._must_be_json(headers, raw)
                return raw
            raise self._refusal(status, headers, raw, body)

    async def models(self) -> list[str]:
        """Names that ``GET /models`` lists. Raises like ``send``."""
        async with self._exchange("GET", "/models", None) as (status, headers, raw):
            if status != 200:
                raise self._refusal(status, headers, raw, {})
            self._must_be_json(headers, raw)
            try:
                return sorted(str(row["id"]) for row in json.loads(raw)["data"])
            except (ValueError, KeyError, TypeError):
                raise self._not_an_api("its list of models cannot be read") from None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @contextlib.asynccontextmanager
    async def _exchange(
        self, method: str, path: str, body: dict[str, Any] | None
    ) -> AsyncIterator[tuple[int, Any, bytes]]:
        """One HTTP exchange under one deadline: status, headers, body."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=min(self._timeout_s, 20)),
                auto_decompress=False,
            )
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self.address.key:
            headers["Authorization"] = f"Bearer {self.address.key.get_secret_value()}"
        data = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        read = bytearray()
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._session.request(
                    method,
                    self.address.base_url + path,
                    data=data,
                    headers=headers,
                    allow_redirects=False,
                    proxy=self.address.proxy,
                ) as response,
            ):
                async for chunk in response.content.iter_any():
                    read += chunk
                    if len(read) > self._max_reply:
                        response.close()
                        raise Lost(f"the reply is longer than {self._max_reply:,} bytes")
        except aiohttp.ClientConnectorError as error:
            raise Unpaid(
                f"cannot reach {self.address.base_url}: {error.os_error.strerror or error}",
                "Check the address and that the server runs",
            ) from None
        except aiohttp.ConnectionTimeoutError:
            raise Unpaid(
                f"{self.address.base_url} does not take the connection", "Check the address"
            ) from None
        except aiohttp.InvalidURL:
            raise ProviderRefused(f"{self.address.base_url} is not an address") from None
        except TimeoutError:
            raise Lost(
                f"no whole reply within {self._timeout_s:g} s", torn=self._without_key(read)
            ) from None
        except (aiohttp.ClientError, ConnectionError, ValueError) as error:
            raise Lost(
                f"connection lost ({type(error).__name__})", torn=self._without_key(read)
            ) from None
        yield response.status, response.headers, self._without_key(read)

    def _without_key(self, read: bytearray) -> bytes:
        """What came back, the key cut out in case the endpoint echoes it."""
        key = self.address.key.get_secret_value() if self.address.key else ""
        return bytes(read).replace(key.encode(), b"[key]") if key else bytes(read)

    # -- what is sent ----------------------------------------------------------------------

    def _body(self, request: Request) -> dict[str, Any]:
        messages = [{"role": role, "content": valid(content)} for role, content in request.messages]
        body: dict[str, Any] = {
            "model": self.address.model,
            "messages": messages,
            self._limit_name: request.max_tokens,
        }
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.schema is not None:
            rung = _JSON_RUNGS[self._json_rung]
            if rung == "json_schema":
                schema = {"name": request.schema_name, "strict": True, "schema": request.schema}
                body["response_format"] = {"type": rung, "json_schema": schema}
            else:
                messages[-1]["content"] += (
                    "\n\nAnswer with one JSON object and nothing else. It must follow this JSON "
                    f"Schema:\n{json.dumps(request.schema, ensure_ascii=False)}"
                )
                if rung == "json_object":
                    body["response_format"] = {"type": rung}
        return {name: value for name, value in body.items() if name not in self._left_out}

    def _adapt(self, parameter: str, message: str, body: dict[str, Any]) -> str | None:
        """Leave out or rename what was refused; what was done, or None if nothing can be."""
        refused = parameter or next((name for name in body if name in message), "")
        refused = refused.split(".")[0]
        sent = body.get("response_format", {}).get("type")
        if refused == "response_format" and sent:
            # Calls in flight are refused together: only the first of them climbs down a rung.
            self._json_rung = max(self._json_rung, _JSON_RUNGS.index(sent) + 1)
            return f"asks for JSON as {_JSON_RUNGS[self._json_rung]} from now on"
        if refused == "max_tokens" and refused in body:
            self._limit_name = "max_completion_tokens"
            return "says max_completion_tokens from now on"
        if refused == "temperature" and refused in body:
            self._left_out.add(refused)
            return f"leaves out {refused} from now on"
        return None

    # -- what comes back -------------------------------------------------------------------

    def read(self, raw: bytes) -> Reply:
        """Understand a stored body. Raises Unreadable if there is no answer in it."""
        try:
            body = json.loads(raw)
            if isinstance(body, dict) and body.get("error"):
                raise Unreadable(f"answered with an error: {_error(body)[0]}")
            choice = body["choices"][0]
            message = choice["message"]
            content, refusal = message.get("content"), message.get("refusal")
            if isinstance(content, list):
                content = "".join(part.get("text", "") for part in content)
            usage = body.get("usage") or {}
            text = valid(str(content or refusal or ""))
            said = _count(usage.get("completion_tokens"))
            return Reply(
                text=text,
                finish=str(choice.get("finish_reason") or "stop"),
                refusal=bool(refusal),
                input_tokens=_count(usage.get("prompt_tokens")) or None,
                output_tokens=None if text and not said else said,  # nothing is written for nothing
                model=str(body.get("model") or self.address.model),
            )
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise Unreadable("the reply is not a chat completion") from None

    def _must_be_json(self, headers: Any, raw: bytes) -> None:
        if "html" in headers.get("Content-Type", "").lower() or raw.lstrip()[:1] == b"<":
            raise self._not_an_api("it answers with a web page")

    def _not_an_api(self, what: str) -> ProviderRefused:
        return ProviderRefused(
            f"{self.address.base_url} is not an OpenAI-compatible API: {what}",
            "Most such addresses end in /v1",
        )

    def _refusal(
        self, status: int, headers: Any, raw: bytes, body: dict[str, Any]
    ) -> CallFailed | ProviderRefused:
        """Turn an HTTP status other than 200 into what it means."""
        where = self.address.base_url
        message, code, parameter = _error(_loads(raw))
        message = message or f"HTTP {status}"
        if 300 <= status < 400:
            return ProviderRefused(
                f"{where} redirects elsewhere, which is not followed", "Give the final address"
            )
        if status in (401, 403):
            refused = "refused the key" if self.address.key else "wants a key"
            return ProviderRefused(f"{where} {refused}: {message}", self.address.key_help)
        if status == 404 and "html" in headers.get("Content-Type", "").lower():
            return self._not_an_api("it has no /chat/completions")
        if status == 404:
            return ProviderRefused(
                f"{where} knows no model {self.address.model}: {message}",
                f"`understudy doctor --teacher {self.name}` lists what it has"
                + ("" if "/v1" in where else "; most such addresses end in /v1"),
            )
        if status == 402 or code == "insufficient_quota":
            return ProviderRefused(f"{where}: {message}", "Add credit with the provider")
        if status in (408, 429, 503, 529):
            return Unpaid(message, wait_s=retry_after(headers), busy=True)
        if status >= 500:
            return Lost(f"HTTP {status}: {message}", again=True)
        done = self._adapt(parameter, message, body) if status in (400, 422) else None
        if done is not None:
            return Unpaid(f"{message} ({self.name} {done})", wait_s=0)
        return Unpaid(f"HTTP {status}: {message}", again=False)


def retry_after(headers: Any) -> float | None:
    """Seconds to wait, from retry-after-ms or Retry-After (seconds or HTTP-date), or None.

    Source: RFC 9110, section 10.2.3. Negative and senseless values count as not given.
    """
    for name, scale in (("retry-after-ms", 0.001), ("Retry-After", 1.0)):
        text = headers.get(name, "")
        try:
            seconds = float(text) * scale
        except ValueError:
            try:
                seconds = parsedate_to_datetime(text).timestamp() - time.time()
            except (ValueError, TypeError):
                continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    return None


def _count(value: object) -> int | None:
    sane = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9
    return int(value) if sane else None  # type: ignore[call-overload]


def _loads(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _error(body: Any) -> tuple[str, str, str]:
    """Message, code and parameter of an error in OpenAI's shape; empty where there is none."""
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, str):
        return error[:300], "", ""
    if not isinstance(error, dict):
        return "", "", ""
    message = " ".join(str(error.get("message") or "").split())[:300]
    return message.rstrip("."), str(error.get("code") or ""), str(error.get("param") or "")
