"""Faults in a reply that comes whole: in its text, or in the JSON around it. All are billed.

A fault of the text changes the Completion and is the same in every API; a fault of the shape
changes the JSON of OpenAI's chat completion in place.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from understudy.practice.chat import Call, Completion, tokens
from understudy.practice.refusals import REFUSAL, REFUSALS

CONTROLS = "\x1b]0;owned\x07\x1b]52;c;b3duZWQ=\x07\x1b[2J\u202e\u2066\u200f{}\u2069\x00\x08\r"
"""Text around an answer that would retitle a terminal, fill its clipboard (OSC 52), clear it and
turn the direction of writing."""

_HUGE_COUNT = 10**12


def _said(text: str, finish: str = "stop") -> Callable[[Call, Completion, int], Completion]:
    return lambda _, done, __: replace(done, text=text, finish=finish, output_tokens=tokens(text))


def _rewritten(
    write: Callable[[str], str], finish: str = ""
) -> Callable[[Call, Completion, int], Completion]:
    def spoil_text(_: Call, done: Completion, __: int) -> Completion:
        text = write(done.text)
        return replace(done, text=text, finish=finish or done.finish, output_tokens=tokens(text))

    return spoil_text


def _any_refusal(_: Call, done: Completion, n: int) -> Completion:
    text = REFUSALS[n % len(REFUSALS)]
    return replace(done, text=text, finish="stop", output_tokens=tokens(text))


def _ten_times(call: Call, done: Completion, _: int) -> Completion:
    return replace(done, output_tokens=10 * (call.max_tokens or done.output_tokens))


def _half(text: str) -> str:
    return text[: len(text) // 2]


def _object_of(text: str) -> dict[str, Any]:
    """Return the JSON object that ``text`` is, or one that holds it."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"answer": text}


def _cut_but_closed(text: str) -> str:
    """Return JSON that is valid and has lost its end; of other text, the first half."""
    try:
        value = json.loads(text)
    except ValueError:
        return _half(text)
    if not isinstance(value, dict) or not value:
        return _half(text)
    *kept, (name, last) = value.items()
    shorter = [(name, last[: len(last) // 2])] if isinstance(last, list) else []
    return json.dumps(dict([*kept, *shorter]), ensure_ascii=False)


def _other_keys(text: str) -> str:
    _, *kept = _object_of(text).items()
    return json.dumps({**dict(kept), "confidence": 0.9}, ensure_ascii=False)


def _other_types(value: object) -> object:
    """Return numbers as text and texts as lists, at every depth."""
    if isinstance(value, dict):
        return {name: _other_types(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_other_types(part) for part in value]
    return [value] if isinstance(value, str) else str(value)


def _nan(text: str) -> str:
    first, *others = _object_of(text).items()
    return json.dumps({first[0]: float("nan"), **dict(others)}, ensure_ascii=False)


def _twice(text: str) -> str:
    value = _object_of(text)
    name = json.dumps(next(iter(value)), ensure_ascii=False)
    return f'{{{name}: "another", {json.dumps(value, ensure_ascii=False)[1:]}'


def _as_others(text: str) -> str:
    return json.dumps(_other_types(_object_of(text)), ensure_ascii=False)


TEXTS: dict[str, Callable[[Call, Completion, int], Completion]] = {
    "empty": _said(""),
    "blank": _said(" \n\t "),
    "invisible": _said("\u200b\u200d\ufeff"),
    "refusal": _said(REFUSAL),
    "refusal_any": _any_refusal,
    "length": _rewritten(_half, "length"),
    "length_valid": _rewritten(_cut_but_closed, "length"),
    "content_filter_200": _rewritten(_half, "content_filter"),
    "finish_unknown": _rewritten(str, "eos_reached"),
    "wrong_schema": _rewritten(_other_keys),
    "wrong_types": _rewritten(_as_others),
    "nan": _rewritten(_nan),
    "duplicate_keys": _rewritten(_twice),
    "fenced": _rewritten(lambda text: f"```json\n{text}\n```"),
    "chatty": _rewritten(lambda text: f"Sure! Here is the answer:\n\n{text}\n\nAnything else?"),
    "surrogate": _rewritten(lambda text: f"\ud83d{text}\udc00"),
    "controls": _rewritten(CONTROLS.format),
    "usage_10x": _ten_times,
}
"""Kind of fault to what it makes of call, completion and number of the request.

``refusal_any``: one of ``REFUSALS``. ``length_valid``: cut, and yet JSON. ``wrong_schema``: a key
missing, one too many. ``usage_10x``: ``max_tokens`` was ignored, ten times as much is billed.
"""


def _choice(**more: object) -> Callable[[dict[str, Any]], object]:
    return lambda reply: reply["choices"][0].update(more)


def _message(**more: object) -> Callable[[dict[str, Any]], object]:
    return lambda reply: reply["choices"][0]["message"].update(more)


def _usage(count: Callable[[int], object]) -> Callable[[dict[str, Any]], object]:
    return lambda reply: reply.update(usage={k: count(v) for k, v in reply["usage"].items()})


def _second_choice(index: int) -> Callable[[dict[str, Any]], object]:
    def add(reply: dict[str, Any]) -> None:
        message = {"role": "assistant", "content": "Another answer.", "refusal": None}
        first = reply["choices"][0]
        reply["choices"].append({**first, "index": index, "message": message})

    return add


def _length_null(reply: dict[str, Any]) -> None:
    _message(content=None)(reply)
    _choice(finish_reason="length")(reply)


def _tool_calls(reply: dict[str, Any]) -> None:
    function = {"name": "answer", "arguments": '{"text": "2024-03-05"}'}
    call = {"id": "call_1", "type": "function", "function": function}
    _message(content=None, tool_calls=[call])(reply)
    _choice(finish_reason="tool_calls")(reply)


SHAPES: dict[str, Callable[[dict[str, Any]], object]] = {
    "null": _message(content=None),
    "length_null": _length_null,
    "refusal_field": _message(content=None, refusal=REFUSAL),
    "tool_calls": _tool_calls,
    "finish_missing": lambda reply: reply["choices"][0].pop("finish_reason"),
    "choices_empty": lambda reply: reply.update(choices=[]),
    "choices_null": lambda reply: reply.update(choices=None),
    "two_choices": _second_choice(1),
    "duplicate_index": _second_choice(0),
    "model_other": lambda reply: reply.update(model="practice-mini-2020-01-01"),
    "no_usage": lambda reply: reply.pop("usage"),
    "usage_zero": _usage(lambda _: 0),
    "usage_negative": _usage(lambda count: -count),
    "usage_text": _usage(str),
    "usage_huge": _usage(lambda _: _HUGE_COUNT),
}
"""Kind of fault to what it does to a chat completion. Where usage lies, the bill does not."""


def spoil(kind: str, call: Call, done: Completion, n: int) -> Completion:
    """Put a fault of the text into the ``n``-th completion; other kinds change nothing."""
    return TEXTS[kind](call, done, n) if kind in TEXTS else done
