"""The parameters of a chat request: each one that OpenAI's API has is done, ignored or refused.

Done is what the engine can do. Ignored is what cannot change the answer. What would change it and
cannot be done is refused, with the parameter's name, rather than answered as if it were not there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from understudy.example import Message
from understudy.models.protocol import Generation
from understudy.server.errors import bad
from understudy.server.messages import messages

MOST_TOKENS = 1_000_000
"""Of an answer; what a model cannot write is cut by its context before."""
MOST_CHOICES = 128
MOST_STOPS = 4
MOST_TOP_LOGPROBS = 20

DONE = frozenset(
    {
        "frequency_penalty",  # these two: where they are zero
        "presence_penalty",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "model",
        "n",
        "response_format",
        "seed",
        "stop",
        "stream",
        "stream_options",
        "temperature",
        "top_logprobs",
        "top_p",
    }
)
IGNORED = frozenset(
    {
        "metadata",
        "parallel_tool_calls",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "moderation": (),
    "presence_penalty": (0,),
    "reasoning_effort": ("none",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "verbosity": ("medium",),
    "web_search_options": (),
}
"""Refused but for null and these values, which ask for nothing."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A chat request that can be answered."""

    model: str
    messages: tuple[Message, ...]
    max_tokens: int | None
    temperature: float | None
    top_p: float
    seed: int | None
    stop: tuple[str, ...]
    top_logprobs: int | None
    schema: dict[str, Any] | None
    choices: int
    stream: bool
    include_usage: bool

    def generations(self, messages: tuple[Message, ...], max_tokens: int) -> list[Generation]:
        """One for each choice. ``max_tokens`` is for requests that name none.

        Without a temperature the answer is the likeliest one, as in every evaluation; several
        choices would then be the same, so they are drawn at temperature 1.
        """
        usual = 0.0 if self.choices == 1 else 1.0
        temperature = usual if self.temperature is None else self.temperature
        return [
            Generation(
                messages=messages,
                max_tokens=self.max_tokens or max_tokens,
                temperature=temperature if self.top_p > 0 else 0.0,
                top_p=self.top_p or 1.0,
                seed=None if self.seed is None else (self.seed + choice) % 2**63,
                stop=self.stop,
                top_logprobs=self.top_logprobs,
                schema=self.schema,
            )
            for choice in range(self.choices)
        ]


def asked(body: dict[str, Any]) -> Asked:
    """Read a request's body. Raises ApiError 400 that names the parameter."""
    _refuse(body)
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise bad("you must provide a model parameter", "model")
    stream = _flag(body, "stream")
    return Asked(
        model=model,
        messages=messages(body.get("messages")),
        max_tokens=_max_tokens(body),
        temperature=_number(body, "temperature", 0, 2),
        top_p=1.0 if (share := _number(body, "top_p", 0, 1)) is None else share,
        seed=_whole(body, "seed", -(2**63), 2**63 - 1),
        stop=_stop(body.get("stop")),
        top_logprobs=_top_logprobs(body),
        schema=_schema(body.get("response_format")),
        choices=_whole(body, "n", 1, MOST_CHOICES) or 1,
        stream=stream,
        include_usage=_include_usage(body, stream=stream),
    )


def _refuse(body: dict[str, Any]) -> None:
    for name, value in body.items():
        if name in NEUTRAL:
            if value is not None and not any(_same(value, one) for one in NEUTRAL[name]):
                raise bad(f"{name} is not supported by the models of this server", name)
        elif name not in DONE and name not in IGNORED:
            shown = ascii(name)[1:-1][:64]
            raise bad(f"unrecognized request argument supplied: {shown}", shown)


def _same(value: Any, neutral: Any) -> bool:
    return value == neutral and not isinstance(value, bool)


def _flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise bad(f"{name} is true or false", name)
    return bool(value)


def _number(body: dict[str, Any], name: str, least: float, most: float) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise bad(f"{name} is a number from {least:g} to {most:g}", name)
    return float(value)


def _whole(body: dict[str, Any], name: str, least: int, most: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise bad(f"{name} is a whole number from {least} to {most}", name)
    return value


def _max_tokens(body: dict[str, Any]) -> int | None:
    names = ("max_tokens", "max_completion_tokens")
    old, new = (_whole(body, name, 1, MOST_TOKENS) for name in names)
    if old is not None and new is not None and old != new:
        raise bad("max_tokens and max_completion_tokens say two things", "max_tokens")
    return new if old is None else old


def _stop(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or len(texts) > MOST_STOPS:
        raise bad(f"stop is a text or a list of up to {MOST_STOPS}", "stop")
    if not all(isinstance(text, str) and text for text in texts):
        raise bad("a stop sequence is a text that is not empty", "stop")
    return tuple(texts)


def _top_logprobs(body: dict[str, Any]) -> int | None:
    """None: no logprobs are wanted; 0: those of the chosen tokens alone."""
    top = _whole(body, "top_logprobs", 0, MOST_TOP_LOGPROBS)
    if _flag(body, "logprobs"):
        return top or 0
    if top is not None:
        raise bad("top_logprobs needs logprobs to be true", "top_logprobs")
    return None


def _include_usage(body: dict[str, Any], *, stream: bool) -> bool:
    options = body.get("stream_options")
    if options is None:
        return False
    if not stream:
        raise bad("stream_options is for streams: set stream to true", "stream_options")
    if not isinstance(options, dict):
        raise bad("stream_options is an object", "stream_options")
    return _flag(options, "include_usage")


def _schema(given: Any) -> dict[str, Any] | None:
    """The JSON Schema that an answer must follow; ``{}`` is any object, None any text."""
    if given is None:
        return None
    kind = given.get("type") if isinstance(given, dict) else None
    reads: dict[Any, Callable[[dict[str, Any]], dict[str, Any] | None]] = {
        "text": lambda _: None,
        "json_object": lambda _: {},
        "json_schema": _json_schema,
    }
    if not isinstance(kind, str) or kind not in reads:
        raise bad(f"response_format.type is one of {', '.join(reads)}", "response_format.type")
    return reads[kind](given)


def _json_schema(given: dict[str, Any]) -> dict[str, Any]:
    place = "response_format.json_schema"
    wish = given.get("json_schema")
    if not isinstance(wish, dict):
        raise bad(f"{place} is not an object", place)
    name = wish.get("name")
    if not isinstance(name, str) or not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name):
        raise bad(f"{place}.name is 1 to 64 letters, digits, _ or -", f"{place}.name")
    schema = wish.get("schema", {})
    if not isinstance(schema, dict):
        raise bad(f"{place}.schema is not an object", f"{place}.schema")
    return schema
