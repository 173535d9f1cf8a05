"""Description -> Spec: the teacher makes the task exact; or own examples show what it is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pydantic import ConfigDict, Field

from understudy.example import Example
from understudy.generate import prompts
from understudy.models.protocol import Model
from understudy.models.typed import ask
from understudy.task import Kind, OutputField, Spec

SHOWN = 8
"""Own examples shown to the teacher."""
MAX_TOKENS = 4096


async def describe(
    model: Model,
    description: str,
    own: Sequence[Example] = (),
    *,
    before: Spec | None = None,
    answers: Mapping[str, str] | None = None,
) -> Spec:
    """Ask the teacher for the task's spec. Own examples bind it. Raises CallFailed.

    With ``before`` and ``answers`` it is asked to write that spec anew, by the answers that the
    person gave to its questions; they are kept as rules.
    """
    user = prompts.fill(prompts.DESCRIBE_USER, description=description)
    if before is not None and answers:
        said = "\n".join(
            json.dumps({"question": question, "answer": answer}, ensure_ascii=False)
            for question, answer in answers.items()
        )
        user += prompts.fill(prompts.ANSWERED, spec=before.model_dump_json(), answers=said)
    if own:
        lines = "\n".join(
            json.dumps({"input": example.input, "answer": example.answer}, ensure_ascii=False)
            for example in own[:SHOWN]
        )
        user += prompts.fill(prompts.OWN_EXAMPLES, examples=lines)
    written = (await ask(model, prompts.DESCRIBE, user, _Written, "spec", MAX_TOKENS)).value
    return Spec.model_validate(written.model_dump())


class _Written(Spec):
    """The task made exact: what comes in, what goes out, and how an answer is checked."""

    # A spec as a teacher has to write it: with a system message. It is shown the same schema.
    model_config = ConfigDict(title="Spec")
    system_message: str = Field(min_length=1, description="what the student is run with")


def infer(description: str, examples: Sequence[Example]) -> Spec:
    """A spec without a teacher: the kind of answer is read off the examples.

    label: at most 50 different answers, each used five times on average. json: every answer is an
    object with the same keys. text otherwise.
    """
    answers = [example.answer.strip() for example in examples]
    different = sorted(set(answers))
    fields = _fields(answers)
    kind: Kind = "text"
    if fields:
        kind = "json"
    elif 2 <= len(different) <= 50 and len(different) * 5 <= len(answers):
        kind = "label"
    return Spec(
        title=" ".join(description.split())[:80] or "task",
        input="as in the examples",
        output="as in the examples",
        kind=kind,
        labels=tuple(different) if kind == "label" else (),
        fields=fields,
        same_answer_same_meaning=kind == "text",
        assumptions=("the kind of answer was read off the examples",),
        system_message=description,
    )


def _fields(answers: Sequence[str]) -> tuple[OutputField, ...]:
    """The common fields of JSON answers, or nothing if they are not records of one shape."""
    records = []
    for answer in answers:
        try:
            records.append(json.loads(answer))
        except (ValueError, RecursionError):
            return ()
    if not records or any(not isinstance(record, dict) for record in records):
        return ()
    names = list(records[0])
    if not names or any(record.keys() != set(names) for record in records):
        return ()
    fields = []
    for name in names:
        values = [record[name] for record in records]
        kinds = {_JSON_NAMES.get(type(value), "") for value in values if value is not None}
        kind = (
            "number" if kinds == {"integer", "number"} else kinds.pop() if len(kinds) == 1 else ""
        )
        if not kind or not name:
            return ()
        fields.append(OutputField(name=name, type=kind, nullable=None in values))
    return tuple(fields)


_JSON_NAMES = {str: "string", bool: "boolean", int: "integer", float: "number"}
