"""An OpenAI-compatible chat endpoint: ``POST /chat/completions``.

What an endpoint refuses (``response_format``, ``max_tokens``, ``temperature``) is left out or
renamed from then on: see ``Quirks``.

Protocol: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from understudy.example import valid
from understudy.models.address import Address
from understudy.models.asking import JSON_MODES, count, next_mode, with_schema
from understudy.models.http import HttpEndpoint
from understudy.models.protocol import Quirks, Reply, Request, Unreadable
from understudy.models.refusal import Said, explain

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_OTHER: dict[str, Literal["max_tokens", "max_completion_tokens"]] = {
    "max_tokens": "max_completion_tokens",
    "max_completion_tokens": "max_tokens",
}
_ADAPTABLE = ("max_completion_tokens", "max_tokens", "response_format", "temperature")
# A limit is refused by its name in other words than one whose value is too high.
_NOT_TAKEN = re.compile(
    r"unsupported|not supported|unrecogni[sz]ed|unknown|unexpected|extra|not permitted|not allowed",
    re.IGNORECASE,
)
_ABOUT_JSON = re.compile(
    r"response.?(?:format|schema)|json.?schema|json.?object|structured.?output|grammar",
    re.IGNORECASE,
)


class OpenAICompatible(HttpEndpoint):
    """Endpoint for one model at one address."""

    chat_path = "/chat/completions"

    def __init__(
        self, address: Address, quirks: Quirks, *, timeout_s: float, max_reply: int
    ) -> None:
        super().__init__(address, quirks, timeout_s=timeout_s, max_reply=max_reply)
        self._limits_refused: set[str] = set()

    def prepare(self, request: Request) -> bytes:
        """The body to send."""
        quirks = self.quirks
        messages = [{"role": role, "content": valid(content)} for role, content in request.messages]
        body: dict[str, Any] = {
            "model": self.address.model,
            "messages": messages,
            quirks.limit_name: request.max_tokens,
        }
        if request.temperature is not None and "temperature" not in quirks.left_out:
            body["temperature"] = request.temperature
        if request.schema is not None:
            if quirks.json_mode == "json_schema":
                schema = {"name": request.schema_name, "strict": True, "schema": request.schema}
                body["response_format"] = {"type": "json_schema", "json_schema": schema}
            else:
                messages[-1]["content"] = with_schema(messages[-1]["content"], request.schema)
                if quirks.json_mode == "json_object":
                    body["response_format"] = {"type": "json_object"}
        return _encode(body).encode("utf-8", "replace")

    def _learn(self, said: Said, body: dict[str, Any]) -> str:
        refused = said.parameter.split(".")[0]
        named = refused or next((name for name in _ADAPTABLE if name in said.message), "")
        if "response_format" in body and (
            named == "response_format" or (not refused and _ABOUT_JSON.search(said.message))
        ):
            # Calls in flight are refused together: only the first of them goes down a step.
            mode = next_mode(self.quirks.json_mode, body["response_format"]["type"])
            self.quirks = replace(self.quirks, json_mode=mode)
            return f"asks for JSON as {JSON_MODES[mode]} from now on"
        if named in _OTHER and named in body and _NOT_TAKEN.search(f"{said.message} {said.code}"):
            self._limits_refused.add(named)
            if _OTHER[named] in self._limits_refused:
                return ""  # neither name is taken, and a call without a limit has no price
            self.quirks = replace(self.quirks, limit_name=_OTHER[named])
            return f"says {_OTHER[named]} from now on"
        if named == "temperature" and named in body:
            left_out = {*self.quirks.left_out, named}
            self.quirks = replace(self.quirks, left_out=tuple(sorted(left_out)))
            return f"leaves out {named} from now on"
        return ""

    def read(self, raw: bytes) -> Reply:
        """Understand a stored body. Raises Unreadable if there is no answer in it."""
        try:
            body = json.loads(raw)
            if isinstance(body, dict) and body.get("error"):
                raise Unreadable(f"answered with an error: {explain(raw).message}")
            choice = body["choices"][0]
            message = choice["message"]
            content, refusal = message.get("content"), message.get("refusal")
            if isinstance(content, list):
                content = "".join(part.get("text", "") for part in content)
            usage = body.get("usage") or {}
            text = valid(str(content or refusal or ""))
            said = _written(usage)
            return Reply(
                text=text,
                finish=str(choice.get("finish_reason") or "stop"),
                refusal=bool(refusal),
                input_tokens=count(usage.get("prompt_tokens")) or None,
                output_tokens=None if text and not said else said,  # nothing is written for nothing
                model=str(body.get("model") or self.address.model),
            )
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise Unreadable("the reply is not a chat completion") from None


def _written(usage: Mapping[str, Any]) -> int | None:
    """Tokens written. Some count thinking in the total only; it is paid for like the rest."""
    told, total = count(usage.get("completion_tokens")), count(usage.get("total_tokens"))
    read = count(usage.get("prompt_tokens"))
    if told is None or total is None or read is None:
        return told
    return max(told, total - read)
