"""What an endpoint means by saying no: an HTTP status and an error body become one of our errors.

Bodies come in the shapes of OpenAI (``{"error": {"message", "code", "param"}}``), Anthropic
(``{"type": "error", "error": {"type", "message"}}``), Mistral and vLLM (``{"message", "code"}``),
FastAPI (``{"detail": [{"loc", "msg"}]}``) and Gemini (a list of one).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from understudy.errors import ProviderRefused
from understudy.models.address import Address
from understudy.models.limits import duration_s, limits, retry_after
from understudy.models.protocol import CallFailed, Lost, NotServed, Unpaid

_LONGEST = 300
_WAIT_IN_BODY = re.compile(
    r'(?:"retryDelay"\s*:\s*"|try again in )(\d[\d.]*(?:ms|h|m|s)(?:\d[\d.]*(?:ms|m|s))*)'
)
_NO_CREDIT = re.compile(r"credit balance|insufficient (balance|quota|credit|funds)", re.IGNORECASE)
_NO_CREDIT_CODES = ("insufficient_quota", "billing_error")
_FILTERED = re.compile(r"content.{0,12}(filter|policy)", re.IGNORECASE)
_FLAGGED = re.compile(r"flagged|moderation", re.IGNORECASE)
_NO_MODEL = re.compile(
    r"model.{0,80}(not exist|not found)|invalid model|no such model", re.IGNORECASE
)


class Said(NamedTuple):
    """An error body in plain words; each empty where it is not said."""

    message: str = ""
    code: str = ""
    parameter: str = ""


def explain(raw: bytes) -> Said:
    """What the error in ``raw`` says; of anything else, nothing."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return Said()
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, dict):
        return Said()
    error = body.get("error") or body.get("detail") or body
    if isinstance(error, dict) and isinstance(error.get("message"), dict):
        error = error["message"].get("detail") or error["message"]
    if isinstance(error, list):
        return _of_fields(error)
    if not isinstance(error, dict):
        return Said(_line(error))
    code = error.get("code") or error.get("type") or ""
    return Said(_line(error.get("message")), str(code), str(error.get("param") or ""))


def _of_fields(errors: list[Any]) -> Said:
    """Of FastAPI's list: the first field that is wrong."""
    first = errors[0] if errors and isinstance(errors[0], dict) else {}
    place = first.get("loc")
    names = [str(part) for part in place if part != "body"] if isinstance(place, list) else []
    message = f"{'.'.join(names)}: {first.get('msg', '')}" if names else first.get("msg")
    return Said(_line(message), str(first.get("type") or ""), names[0] if names else "")


def _line(value: object) -> str:
    """A text on one line, not too long, without a full stop."""
    return " ".join(str(value or "").split())[:_LONGEST].rstrip(".")


def refusal(
    to: Address, status: int, headers: Mapping[str, str], raw: bytes
) -> CallFailed | ProviderRefused:
    """The error that an HTTP status other than 2xx stands for."""
    said = explain(raw)
    message = said.message or f"HTTP {status}"
    if 300 <= status < 400:
        return ProviderRefused(
            f"{to.base_url} redirects elsewhere, which is not followed", "Give the final address"
        )
    if status == 403 and _FLAGGED.search(raw[:4000].decode(errors="replace")):
        return Unpaid(f"HTTP {status}: {message}", again=False)  # this input, not the key
    if status in (401, 403):
        refused = "refused the key" if to.key else "wants a key"
        # With 401 the key is wrong; with 403 it is right, and what it asks for is not allowed.
        kind = NotServed if status == 403 else ProviderRefused
        return kind(f"{to.base_url} {refused}: {message}", to.key_help)
    if status == 402 or said.code in _NO_CREDIT_CODES or _NO_CREDIT.search(message):
        return ProviderRefused(f"{to.base_url}: {message}", "Add credit with the provider")
    if status in (404, 405, 410):
        return _not_there(to, said, headers, message)
    if said.code == "model_not_found" or (status in (400, 422) and _NO_MODEL.search(message)):
        return _no_model(to, message)
    error: CallFailed
    if status in (408, 429, 503, 529):
        error = Unpaid(message, wait_s=_wait_s(headers, raw), busy=True)
    elif status >= 500:
        error = Lost(f"HTTP {status}: {message}", again=True)
    elif said.code == "content_filter" or _FILTERED.search(message):
        # Azure OpenAI bills a prompt that its filter stops; sent again, it would be stopped again.
        error = Lost(f"HTTP {status}: {message}")
    else:
        error = Unpaid(f"HTTP {status}: {message}", again=False)
    error.limits = limits(headers)
    return error


def not_an_api(to: Address, what: str) -> ProviderRefused:
    """The error for an address behind which something else answers."""
    kind = "Anthropic's API" if to.api == "anthropic" else "an OpenAI-compatible API"
    return ProviderRefused(f"{to.base_url} is not {kind}: {what}", "Most such addresses end in /v1")


def _not_there(
    to: Address, said: Said, headers: Mapping[str, str], message: str
) -> ProviderRefused:
    if "html" in headers.get("Content-Type", "").lower():
        return not_an_api(to, "it has no such path")
    return _no_model(to, message)


def _no_model(to: Address, message: str) -> NotServed:
    return NotServed(
        f"{to.base_url} knows no model {to.model}: {message}",
        f"`understudy doctor --teacher {to.name}` lists what it has"
        + ("" if "/v1" in to.base_url else "; most such addresses end in /v1"),
    )


def _wait_s(headers: Mapping[str, str], raw: bytes) -> float | None:
    """Seconds to wait: of the headers, else of the body (Gemini and OpenAI say it there)."""
    wait = retry_after(headers)
    if wait is None and (found := _WAIT_IN_BODY.search(raw.decode(errors="replace"))):
        wait = duration_s(found[1].rstrip("."))
    return wait
