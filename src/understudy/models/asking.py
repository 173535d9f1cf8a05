"""What every API shares in asking for JSON and in reading counts."""

from __future__ import annotations

import json
from typing import Any, Literal

JsonMode = Literal["json_schema", "json_object", "text"]
JSON_MODES: dict[JsonMode, str] = {
    "json_schema": "a schema",
    "json_object": "an object, its schema in the text",
    "text": "text with the schema in it",
}
"""The ways to ask for JSON, the best first, and what each is called."""


def next_mode(now: JsonMode, refused: JsonMode) -> JsonMode:
    """The mode after ``refused``, or ``now`` if that is further down already."""
    modes = list(JSON_MODES)
    after = min(modes.index(refused) + 1, len(modes) - 1)
    return modes[max(modes.index(now), after)]


def with_schema(question: str, schema: dict[str, Any]) -> str:
    """A question that asks for JSON in words, for endpoints that take no schema."""
    return (
        f"{question}\n\nAnswer with one JSON object and nothing else. It must follow this JSON "
        f"Schema:\n{json.dumps(schema, ensure_ascii=False)}"
    )


def count(value: object) -> int | None:
    """A number of tokens, or None if ``value`` is no such thing."""
    sane = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9
    return int(value) if sane else None  # type: ignore[call-overload]
