"""One question to a model whose answer is a typed value."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from understudy.example import Message, valid
from understudy.models.protocol import CallFailed, Model, Reply, Request, Unreadable

T = TypeVar("T", bound=BaseModel)
V = TypeVar("V")

TRIES = 2
"""Times that an unusable answer is bought anew."""

CORRECTION = """\
That reply cannot be used: {problem}

Answer again with the whole corrected JSON and nothing else.
"""

# Keywords that strict structured output refuses or ignores; pydantic checks them afterwards.
_LEFT_OUT = {
    *("default", "minLength", "maxLength", "minItems", "maxItems"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
}


class Answered(NamedTuple, Generic[V]):
    """A typed answer."""

    value: V
    bought: bool
    """False if it was on disk already."""


async def ask(
    model: Model,
    system: str,
    user: str,
    answer: type[T],
    name: str,
    max_tokens: int,
    *,
    who: str = "teacher",
    mend: bool = True,
) -> Answered[T]:
    """Ask for JSON of type ``answer``; one correction turn quotes what was wrong.

    An unusable reply is asked for anew, twice at the most; those of earlier runs are on disk and
    are passed over for nothing. ``mend`` is False where JSON must be the whole of the reply: what
    stands somewhere in it may be a quotation. Raises CallFailed if none can be used.
    """
    first = question(system, user, answer, name, max_tokens)
    problem, tries, sample = "", 0, 0
    while tries < TRIES:
        messages = first.messages
        bought = False
        for _ in range(2):
            request = replace(first, messages=messages, sample=sample)
            try:
                reply = await model.complete(request)
            except Unreadable as error:
                bought, problem = bought or not error.stored, error.what
                break
            bought = bought or not reply.stored
            value = _read(reply, answer, max_tokens, json_in if mend else _whole)
            if not isinstance(value, str):
                return Answered(value, bought)
            problem = value
            if reply.finish == "length":
                break  # a correction would be as long
            correction = CORRECTION.replace("{problem}", problem)
            messages = (*messages, Message("assistant", reply.text), Message("user", correction))
        tries += bought
        sample += 1
    raise CallFailed(
        f"the {who}'s {name} cannot be used: {problem}",
        f"The same command asks anew; another {who} may do better",
    )


def question(
    system: str, user: str, answer: type[BaseModel], name: str, max_tokens: int
) -> Request:
    """The call with which ``ask`` begins; ``name`` is that of the schema and what it is for."""
    messages = (Message("system", system), Message("user", user))
    schema = strict_schema(answer, name)
    return Request(messages, max_tokens, schema=schema, schema_name=name, purpose=name)


def _read(reply: Reply, answer: type[T], max_tokens: int, find: Callable[[str], Any]) -> T | str:
    """The answer, or what is wrong with the reply."""
    if reply.finish == "length":
        return f"it is longer than {max_tokens} tokens"
    try:
        return answer.model_validate(find(reply.text))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return f"{where}: {first['msg']}" if where else str(first["msg"])
    except ValueError:
        return "it is not JSON"


def json_in(text: str) -> Any:
    """The JSON in a complete reply, mended where a model's JSON usually breaks.

    Only for replies that ended by themselves: mending would turn a cut-off reply into a wrong one.
    Raises ValueError if there is none.
    """
    fenced = re.search(r"```(?:json)?\s*\n(.*?)\n\s*```", text, re.DOTALL)
    text = fenced.group(1) if fenced else text
    try:
        return _valid(json.loads(text))
    except (ValueError, RecursionError):
        from json_repair import repair_json

        value = repair_json(text, return_objects=True)
        if not isinstance(value, (dict, list)) or not value:
            raise ValueError("no JSON in it") from None
        return _valid(value)


def _whole(text: str) -> Any:
    """The JSON that a reply is, alone or in a code fence. Raises ValueError if it is more."""
    fenced = re.fullmatch(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", text, re.DOTALL)
    try:
        return _valid(json.loads(fenced.group(1) if fenced else text))
    except RecursionError:
        raise ValueError("JSON too deep") from None


def _valid(node: Any) -> Any:
    """The same JSON without lone surrogates, which an escape can bring in and no file can hold."""
    if isinstance(node, str):
        return valid(node)
    if isinstance(node, list):
        return [_valid(item) for item in node]
    if isinstance(node, dict):
        return {valid(key): _valid(value) for key, value in node.items()}
    return node


@lru_cache  # it is the same for every call of a kind, and takes longer than the call's own work
def strict_schema(model: type[BaseModel], name: str) -> dict[str, Any]:
    """JSON Schema as strict structured output wants it: all keys required, none added, no defaults.

    Source: https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
    """
    return {**_strict(model.model_json_schema()), "title": name}


def _strict(node: Any) -> Any:
    if isinstance(node, list):
        return [_strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {key: _strict(value) for key, value in node.items() if key not in _LEFT_OUT}
    if "properties" in kept:
        kept["required"] = list(kept["properties"])
        kept["additionalProperties"] = False
    return kept
