"""Reading a request's body as JSON, however it is spoiled: what comes of it, UTF-8 can carry."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from starlette.requests import Request

from understudy.example import valid
from understudy.server.errors import bad


async def json_body(request: Request) -> dict[str, Any]:
    """The body as an object. Raises ApiError 400 if it is none; 413 and 408 come from the guard."""
    raw = await request.body()
    try:
        body = json.loads(raw, parse_constant=_no_number)
        if b"\\ud" in raw.lower():  # half a character, in any text or name, comes so alone
            body = json.loads(valid(json.dumps(body, ensure_ascii=False)))
    except (ValueError, RecursionError):  # not UTF-8, not JSON, a number too long, too deep
        raise bad("the body is not valid JSON", code="bad_json") from None
    if not isinstance(body, dict):
        raise bad("the body is not a JSON object", code="bad_json")
    return body


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)
