"""The chat completions of the practice server, without the wire: JSON in, JSON out.

The shapes are those of OpenAI's API reference, "Create chat completion" and "Error codes".
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from understudy.practice import TASKS, PracticeTask, judges, load, repeating
from understudy.practice.judges import JUDGES

CallKind = Literal["spec", "plan", "inputs", "answer", "judge"]

CHARACTERS_PER_TOKEN = 4
MOST_INPUTS = 1000

_canon = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))
_TITLE = re.compile(r'"title"\s*:\s*"(spec|plan|inputs)"')


class ApiError(Exception):
    """What an OpenAI-compatible server says no with."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str = "invalid_request_error",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Call:
    """One understood request."""

    model: str
    task: PracticeTask | None
    """None: the model is a judge, see ``judges.py``."""
    kind: CallKind
    messages: tuple[str, ...]
    """The text of every message."""
    questions: tuple[str, ...]
    """The text of every message of the user."""
    max_tokens: int | None


@dataclass(frozen=True, slots=True)
class Completion:
    """What is replied; ``finish`` is ``stop``, or ``length`` if ``max_tokens`` cut the text."""

    text: str
    finish: str
    input_tokens: int
    output_tokens: int


def understand(body: object, refused: Collection[str] = ()) -> Call:
    """Read a request's body. Raises ApiError 400 if it is malformed, 404 for another model.

    ``refused`` names parameters that this server does not take, dotted if they lie deeper
    (``response_format.json_schema``).
    """
    if not isinstance(body, dict):
        raise ApiError(400, "The body is not a JSON object.")
    for name in refused:
        if _has(body, name):
            message = f"Unsupported parameter: '{name}' is not supported with this model."
            raise ApiError(400, message, code="unsupported_parameter", param=name)
    model = body.get("model")
    if not isinstance(model, str):
        raise ApiError(400, "You must provide a model parameter.", param="model")
    name = model.removeprefix("practice:")
    if name not in TASKS and name not in JUDGES:
        message = f"The model `{model}` does not exist; there are: {', '.join((*TASKS, *JUDGES))}."
        raise ApiError(404, message, code="model_not_found")
    if body.get("stream"):
        raise ApiError(400, "Streaming is not offered.", param="stream", code="unsupported_value")
    turns = _messages(body.get("messages"))
    questions = [text for role, text in turns if role == "user"]
    if not questions:
        raise ApiError(400, "There is no message of the user.", param="messages")
    return Call(
        model=model,
        task=None if name in JUDGES else load(name),
        kind="judge" if name in JUDGES else _kind(body.get("response_format"), questions),
        messages=tuple(text for _, text in turns),
        questions=tuple(questions),
        max_tokens=_limit(body),
    )


def complete(call: Call, seed: int, repeat: float = 0.0) -> Completion:
    """Let the task reply. Raises ApiError 400 if inputs are asked for in a wrong way.

    ``repeat`` is the share of inputs that are favourites, see ``repeating.py``.
    """
    text = _reply(call, seed, repeat)
    limit = None if call.max_tokens is None else call.max_tokens * CHARACTERS_PER_TOKEN
    cut = limit is not None and len(text) > limit
    text = text[:limit]
    finish = "length" if cut else "stop"
    return Completion(text, finish, tokens(*call.messages), tokens(text))


def error_body(error: ApiError) -> dict[str, Any]:
    """Return the JSON of an error."""
    said = {"message": error.message, "type": error.kind, "param": error.param, "code": error.code}
    return {"error": said}


def completion_body(call: Call, done: Completion, n: int) -> dict[str, Any]:
    """Return the JSON of a chat completion, the ``n``-th of this server."""
    counts = {
        "prompt_tokens": done.input_tokens,
        "completion_tokens": done.output_tokens,
        "total_tokens": done.input_tokens + done.output_tokens,
    }
    name = hashlib.sha256(f"{n} {call.model}".encode()).hexdigest()[:29]
    message = {"role": "assistant", "content": done.text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": done.finish}
    return {
        "id": f"chatcmpl-{name}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": call.model,
        "choices": [choice],
        "usage": counts,
    }


def models_body(more: Sequence[str] = ()) -> dict[str, Any]:
    """Return the JSON of the list of models: the tasks, and ``more``."""
    rows = [{"id": name, "object": "model", "created": 0} for name in (*TASKS, *more)]
    return {"object": "list", "data": [row | {"owned_by": "understudy"} for row in rows]}


def body_hash(body: object) -> str:
    """SHA-256 of the canonical JSON of a body: keys sorted, no spaces, UTF-8."""
    return hashlib.sha256(_canon.encode(body).encode("utf-8", "surrogatepass")).hexdigest()


def tokens(*texts: str) -> int:
    """Count tokens as a rule of thumb does: four characters each, at least one."""
    return max(1, -(-sum(map(len, texts)) // CHARACTERS_PER_TOKEN))


def _has(body: dict[str, Any], dotted: str) -> bool:
    value: Any = body
    for name in dotted.split("."):
        if not isinstance(value, dict) or name not in value:
            return False
        value = value[name]
    return True


def _messages(value: object) -> list[tuple[str, str]]:
    """Return role and text of each message; a text may come as a list of parts."""
    if not isinstance(value, list) or not value:
        raise ApiError(400, "'messages' must be a list that is not empty.", param="messages")
    turns = []
    for place, message in enumerate(value):
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            parts = [part.get("text") for part in content if isinstance(part, dict)]
            content = "".join(part for part in parts if isinstance(part, str))
        if not isinstance(content, str) or not isinstance(message.get("role"), str):
            param = f"messages[{place}]"
            raise ApiError(400, f"{param} needs a role and a text as content.", param=param)
        turns.append((message["role"], content))
    return turns


def _limit(body: dict[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ApiError(400, f"'{name}' must be a whole number from 1 up.", param=name)
        return value
    return None


def _kind(response_format: object, questions: Sequence[str]) -> CallKind:
    """Tell the kind of call by the name of its schema, or by the schema's title in the text.

    A client that was answered amiss says so in another turn: the title may stand further up.
    """
    wanted = response_format if isinstance(response_format, dict) else {}
    schema = wanted.get("json_schema")
    if isinstance(schema, dict):
        name = schema.get("name")
    else:
        titles = [title[1] for text in reversed(questions) if (title := _TITLE.search(text))]
        name = titles[0] if titles else None
    return name if name in ("spec", "plan", "inputs") else "answer"


def _reply(call: Call, seed: int, repeat: float) -> str:
    if call.task is None:
        return judges.verdict(call.model.removeprefix("practice:"), call.questions[0])
    if call.kind == "spec":
        return call.task.spec().model_dump_json()
    if call.kind == "plan":
        return call.task.plan().model_dump_json()
    if call.kind == "inputs":
        return _inputs(call, call.task, seed, repeat)
    return call.task.answer(call.questions[-1])


def _inputs(call: Call, task: PracticeTask, seed: int, repeat: float) -> str:
    order = _order(call.questions)
    own_seed = int(body_hash([seed, call.model.removeprefix("practice:"), order])[:8], 16)
    drawn = repeating.inputs(
        task, order["cell"], order["how_many"], share=repeat, seed=seed, draw=own_seed
    )
    weights = [
        one.weight * Random(own_seed + place).uniform(0.5, 1.5) for place, one in enumerate(drawn)
    ]
    rows = [
        {"text": one.text, "probability": round(weight / sum(weights), 3)}
        for one, weight in zip(drawn, weights, strict=True)
    ]
    return json.dumps({"inputs": rows}, ensure_ascii=False)


def _order(questions: Sequence[str]) -> dict[str, Any]:
    """Find the line that says what to write: ``{"cell": {...}, "how_many": 10, "batch": 0}``.

    The newest turn that has one counts: a correction stands behind what it corrects.
    """
    for line in (line for text in reversed(questions) for line in text.splitlines()):
        try:
            order = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(order, dict) and isinstance(order.get("cell"), dict):
            how_many = order.get("how_many")
            if isinstance(how_many, int) and 1 <= how_many <= MOST_INPUTS:
                return order
    raise ApiError(400, 'No line is JSON such as {"cell": {}, "how_many": 10, "batch": 0}.')
