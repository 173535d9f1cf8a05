"""One question to the teacher whose answer is a typed value."""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from understudy.example import Message
from understudy.generate import prompts
from understudy.models.protocol import CallFailed, Model, Request

T = TypeVar("T", bound=BaseModel)

# Keywords that strict structured output refuses or ignores; pydantic checks them afterwards.
_LEFT_OUT = {
    *("default", "minLength", "maxLength", "minItems", "maxItems"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
}


async def ask(
    model: Model, system: str, user: str, answer: type[T], name: str, max_tokens: int
) -> T:
    """Ask for JSON of type ``answer``; one correction turn quotes what was wrong.

    Raises CallFailed if the second reply is no better.
    """
    schema = strict_schema(answer, name)
    messages: tuple[Message, ...] = (Message("system", system), Message("user", user))
    for last in (False, True):
        reply = await model.complete(
            Request(messages, max_tokens, schema=schema, schema_name=name, purpose=name)
        )
        if reply.finish == "length":
            raise CallFailed(
                f"the teacher's {name} is longer than {max_tokens} tokens",
                "Raise max_answer_tokens, or use another teacher",
            )
        try:
            return answer.model_validate(json_in(reply.text))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            problem = f"{where}: {first['msg']}" if where else str(first["msg"])
        except ValueError:
            problem = "it is not JSON"
        if last:
            break
        correction = prompts.fill(prompts.CORRECTION, problem=problem)
        messages = (*messages, Message("assistant", reply.text), Message("user", correction))
    raise CallFailed(
        f"the teacher's {name} cannot be used: {problem}", "Try again, or use another teacher"
    )


def json_in(text: str) -> Any:
    """The JSON in a complete reply, mended where a model's JSON usually breaks.

    Only for replies that ended by themselves: mending would turn a cut-off reply into a wrong one.
    Raises ValueError if there is none.
    """
    fenced = re.search(r"```(?:json)?\s*\n(.*?)\n\s*```", text, re.DOTALL)
    text = fenced.group(1) if fenced else text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        from json_repair import repair_json

        value = repair_json(text, return_objects=True)
        if not isinstance(value, (dict, list)) or not value:
            raise ValueError("no JSON in it") from None
        return value


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
