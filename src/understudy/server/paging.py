"""Lists a page at a time, as OpenAI's are: ``limit``, ``after``, ``has_more``."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

from starlette.requests import Request

from understudy.server.errors import bad


class Asked(NamedTuple):
    """Which page."""

    limit: int
    after: str | None
    """Id of the last one of the page before."""


def asked(request: Request, *, most: int, usual: int, extra: Collection[str] = ()) -> Asked:
    """The page that a request asks for. Raises ApiError 400 for a query that means nothing."""
    for name in request.query_params:
        if name not in ("limit", "after", *extra) and not name.startswith("metadata["):
            raise bad(f"unknown query parameter {name!a}", name[:64], "unknown_parameter")
    given = request.query_params.get("limit")
    if given is None:
        limit = usual
    elif given.isascii() and given.isdecimal() and len(given) < 10 and 1 <= int(given) <= most:
        limit = int(given)
    else:
        raise bad(f"limit is a whole number from 1 to {most:,}", "limit", "invalid_value")
    return Asked(limit, request.query_params.get("after"))


def page(found: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    """A page of ``limit`` at the most; one more in ``found`` says that there are more."""
    data = found[:limit]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(found) > limit,
    }
