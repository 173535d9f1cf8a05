"""Anthropic's native API: ``POST /messages``.

System messages are one field beside the turns; the limit must be given; the reply is a list of
blocks, of which the text ones count. JSON is asked for by ``output_config.format``, or with the
schema in the text where that is refused.

Protocol: https://platform.claude.com/docs/en/api/messages, version 2023-06-01, and
https://platform.claude.com/docs/en/build-with-claude/structured-outputs
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from understudy.example import valid
from understudy.models.asking import JSON_MODES, count, with_schema
from understudy.models.http import HttpEndpoint
from understudy.models.protocol import Reply, Request, Unreadable
from understudy.models.refusal import Said, explain

VERSION = "2023-06-01"
_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
    "tool_use": "tool_calls",
}
"""Its stop reasons in the words of the rest; others stay as they are."""
_ABOUT_JSON = re.compile(r"output_config|output_format|schema|structured output", re.IGNORECASE)

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Anthropic(HttpEndpoint):
    """Endpoint for one model of the messages API."""

    chat_path = "/messages"

    def _headers(self) -> dict[str, str]:
        return super()._headers() | {"anthropic-version": VERSION}

    def prepare(self, request: Request) -> bytes:
        """The body to send."""
        quirks = self.quirks
        system = "\n\n".join(valid(text) for role, text in request.messages if role == "system")
        messages = [
            {"role": role, "content": valid(text)}
            for role, text in request.messages
            if role != "system"
        ]
        body: dict[str, Any] = {
            "model": self.address.model,
            "max_tokens": request.max_tokens,
            "messages": messages,
        }
        if system:
            body["system"] = system
        if request.temperature is not None and "temperature" not in quirks.left_out:
            body["temperature"] = request.temperature
        if request.schema is not None:
            if quirks.json_mode == "json_schema":
                form = {"type": "json_schema", "schema": request.schema}
                body["output_config"] = {"format": form}
            else:  # it has no way to ask for just any object
                messages[-1]["content"] = with_schema(messages[-1]["content"], request.schema)
        return _encode(body).encode("utf-8", "replace")

    def _learn(self, said: Said, body: dict[str, Any]) -> str:
        if "output_config" in body and _ABOUT_JSON.search(said.message):
            self.quirks = replace(self.quirks, json_mode="text")
            return f"asks for JSON as {JSON_MODES['text']} from now on"
        if "temperature" in body and "temperature" in said.message:
            left_out = {*self.quirks.left_out, "temperature"}
            self.quirks = replace(self.quirks, left_out=tuple(sorted(left_out)))
            return "leaves out temperature from now on"
        return ""

    def read(self, raw: bytes) -> Reply:
        """Understand a stored body. Raises Unreadable if there is no answer in it."""
        try:
            body = json.loads(raw)
            if isinstance(body, dict) and body.get("error"):
                raise Unreadable(f"answered with an error: {explain(raw).message}")
            blocks = body["content"]
            text = valid("".join(str(b["text"]) for b in blocks if b["type"] == "text"))
            reason = str(body.get("stop_reason") or "end_turn")
            said = count((body.get("usage") or {}).get("output_tokens"))
            return Reply(
                text=text,
                finish=_FINISH.get(reason, reason),
                refusal=reason == "refusal",
                input_tokens=_input_tokens(body.get("usage") or {}),
                output_tokens=None if text and not said else said,
                model=str(body.get("model") or self.address.model),
            )
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise Unreadable("the reply is not a message") from None


def _input_tokens(usage: dict[str, Any]) -> int | None:
    """All that was read, also from or into its cache: ``input_tokens`` leaves those out."""
    names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    counts = [count(usage[name]) for name in names if usage.get(name) is not None]
    if None in counts:
        return None
    return sum(number for number in counts if number is not None) or None
